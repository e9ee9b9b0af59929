"""The instruction edit: pictures and instructions in, edited pictures of the same size out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .backbone import Backbone, TextContext
from .errors import EmuEditError
from .guidance import Guidance, guided_prediction
from .images import check_images, fit_mask, plan_resize
from .sampling import OnStep, sample
from .task_files import check_task
from .tasks import NO_TASK, TaskVector

log = logging.getLogger(__name__)

Task = None | str | TaskVector | Tensor

# InstructPix2Pix's own scales and size. Its repository takes 100 ancestral steps; ours are deterministic,
# which need fewer.
FALLBACKS = {"steps": 20, "text_guidance": 7.5, "image_guidance": 1.5, "size": 512}


@dataclass(frozen=True)
class EditSettings:
    """How to edit. None means what the editor recommends (`backbone.defaults`, else FALLBACKS).

    `size` is the longest side in pixels that the editor works at; `sampler` one of sampling.METHODS; `seed`
    any integer: picture i of a batch starts from noise of seed + i. The scales are those of
    guidance.Guidance.
    """

    steps: int | None = None
    text_guidance: float | None = None
    image_guidance: float | None = None
    guidance_rescale: float = 0.0
    sampler: str = "ddim"
    seed: int = 0
    size: int | None = None

    def filled(self, backbone: Backbone) -> EditSettings:
        """These settings with every None replaced by what `backbone` recommends."""
        empty = [f.name for f in fields(self) if getattr(self, f.name) is None]
        return replace(self, **{name: backbone.defaults.get(name, FALLBACKS[name]) for name in empty})


@dataclass(frozen=True, eq=False)
class EditResult:
    """`images` [B,H,W,3] float32 on the device of the input, in 0..1 where edited; `working_size` (height,
    width) in pixels; `seeds` of the B starting noises; `latents` [B,C,h,w] float32 before decoding; `notes`
    are sentences for the user about words that the editor could not read (also logged as warnings).
    """

    images: Tensor
    working_size: tuple[int, int]
    seeds: tuple[int, ...]
    latents: Tensor
    notes: tuple[str, ...] = ()


def edit(
    backbone: Backbone,
    images: Tensor,
    instructions: str | Sequence[str],
    task: Task = None,
    mask: Tensor | None = None,
    settings: EditSettings | None = None,
    on_step: OnStep | None = None,
) -> EditResult:
    """Edit pictures [B,H,W,3] in 0..1 as the instructions say (InstructPix2Pix; Emu Edit with a task).

    One instruction serves all pictures, one picture all instructions; otherwise there are as many of each.
    `task`: None or "none", a name the editor knows, a TaskVector made for it, or a tensor [D] or [B,D].
    `mask` [H,W] or [1|B,H,W] in 0..1: the result is mask * edited + (1 - mask) * input, and where the mask
    is 0 the input's very bits. Batches give what single pictures give: item i depends on seed + i alone.
    `on_step` is called after every step (see sampling.sample) and may raise to interrupt; the models and
    torch's random state are then as before. Nothing here needs or keeps gradients.
    Raises EmuEditError for input that cannot be edited, in a sentence naming the value and the mend.
    """
    with torch.inference_mode():
        result = _edit(backbone, images, instructions, task, mask, settings or EditSettings(), on_step)
    # Copies made out here are ordinary tensors again, which may take part in training and in-place changes.
    return replace(result, images=result.images.clone(), latents=result.latents.clone())


def _edit(
    backbone: Backbone,
    images: Tensor,
    instructions: str | Sequence[str],
    task: Task,
    mask: Tensor | None,
    settings: EditSettings,
    on_step: OnStep | None,
) -> EditResult:
    if not backbone.takes_image:
        raise EmuEditError(
            f"editor {backbone.name!r}: it is a text-to-image model that cannot see a picture; "
            "load an InstructPix2Pix or Emu Edit checkpoint."
        )
    texts = check_instructions(instructions)
    images = check_images(images, "the picture")
    if len(texts) not in (1, images.shape[0]) and images.shape[0] != 1:
        raise EmuEditError(
            f"instructions: {len(texts)} for {images.shape[0]} pictures; give one, or one for each picture."
        )
    batch = max(images.shape[0], len(texts))
    images = images.expand(batch, -1, -1, -1)
    height, width = images.shape[1:3]
    weight = None if mask is None else fit_mask(mask, batch, height, width).to(images.device)[..., None]
    rows = task_rows(backbone, task, batch)
    chosen = settings.filled(backbone)
    plan = plan_resize(height, width, chosen.size, backbone.size_multiple)
    seeds = tuple((chosen.seed + i) % 2**64 for i in range(batch))

    condition = backbone.image_condition(plan.apply(images))
    context = backbone.encode_text([*texts, ""])
    for note in context.notes:
        log.warning(note)
    latents = _denoise(backbone, condition, context, rows, seeds, chosen, on_step)
    decoded = backbone.decode_latents(latents)
    if not bool(torch.isfinite(latents).all() and torch.isfinite(decoded).all()):
        raise EmuEditError(
            f"editor {backbone.name!r}: its result in {backbone.dtype} holds NaN or infinities; lower the "
            "guidance, or load it in float32."
        )
    edited = plan.undo(decoded.to(images.device))
    if weight is not None:
        # Not only arithmetic: 0 * edited + input would already spoil a negative zero.
        edited = torch.where(weight == 0, images, weight * edited + (1 - weight) * images)
    return EditResult(edited, (plan.working_height, plan.working_width), seeds, latents, context.notes)


def _denoise(
    backbone: Backbone,
    condition: Tensor,
    context: TextContext,
    task: Tensor | None,
    seeds: tuple[int, ...],
    settings: EditSettings,
    on_step: OnStep | None,
) -> Tensor:
    """Edited latents [B,C,h,w], float32, of pictures given as `condition` [B,C,h,w].

    `context` holds 1 or B instructions and, last, the empty text; the settings are filled.
    """
    assert settings.steps is not None
    assert settings.text_guidance is not None and settings.image_guidance is not None
    guidance = Guidance(settings.text_guidance, settings.image_guidance, settings.guidance_rescale)
    text, empty = context[:-1], context[-1:]
    shape = (backbone.latent_channels, *condition.shape[2:])
    noise = torch.stack([starting_noise(shape, seed) for seed in seeds]).to(condition.device)

    def predict(latents: Tensor, timestep: int, index: int) -> Tensor:
        return guided_prediction(backbone, latents, timestep, text, empty, condition, task, guidance)

    return sample(predict, backbone.schedule, noise, settings.steps, settings.sampler, on_step)


def starting_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Normal noise of one item, float32, drawn on the CPU so that every device gives the same picture."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def check_instructions(instructions: str | Sequence[str]) -> list[str]:
    """The instructions as a list, or a sentence about the one that says nothing."""
    texts = [instructions] if isinstance(instructions, str) else list(instructions)
    if not texts:
        raise EmuEditError('instructions: there are none; give at least one, such as "make the ball blue".')
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            which = f"instruction {index + 1} of {len(texts)}" if len(texts) > 1 else "the instruction"
            raise EmuEditError(f'{which}: it is {text!r}; say what to change, such as "make the ball blue".')
    return texts


def task_rows(backbone: Backbone, task: Task, batch: int) -> Tensor | None:
    """The task as rows [batch,D] on the editor's device, None for no task; checked against this editor."""
    if task is None:
        return None
    if isinstance(task, str):
        if task == NO_TASK:
            return None
        return backbone.task_vector(task).to(backbone.device).expand(batch, -1)
    if isinstance(task, TaskVector):
        check_task(task, backbone, f"task {task.name!r}")
        return task.vector.to(backbone.device).expand(batch, -1)
    width = backbone.task_width
    if width is None:
        raise EmuEditError(f"task: the editor {backbone.name!r} has no task embeddings; use no task.")
    rows = task if task.ndim == 2 else task[None]
    if rows.ndim != 2 or rows.shape[1] != width or rows.shape[0] not in (1, batch):
        raise EmuEditError(
            f"task: it has shape {list(task.shape)}, but the editor {backbone.name!r} takes [{width}], or "
            f"[{batch}, {width}] for this batch; use a task made for it."
        )
    if not bool(torch.isfinite(rows).all()):
        raise EmuEditError("task: it holds NaN or infinities; look at the step that made it.")
    return rows.to(backbone.device).expand(batch, -1)
