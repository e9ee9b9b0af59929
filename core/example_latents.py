"""What task inversion learns from: examples as latents, encoded once, and noisy views of them.

The objective is the one an editor was trained with: for editors that predict the change of a picture the
squared error of the clean latents relative to the size of the change, with noise levels that lean towards the
noisy end; for all others the mean squared error of their own prediction (noise or v) at levels drawn evenly.

But where such an editor edits in one step (the bundled one), its prediction from pure noise is the edit, and
this is what is measured: the squared error of the picture over the size of the change, or of what the
wanted picture holds beside its mean, if that is less. (Not the absolute error: of thin lines that a vector
cannot yet draw it leaves nothing but the ground.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .backbone import Backbone, NoiseSchedule, TextContext
from .edit import EditSettings
from .errors import EmuEditError
from .images import ResizePlan, plan_resize, resize_images
from .task_examples import TaskExample

CHANGE_FLOOR = 0.02  # latents' mean square below which a change counts as this large
SHOWN_FLOOR = 0.001  # the same for pictures in 0..1
PURE_NOISE = 0.3  # share of views at the last level, where only words and task speak
AT_ONCE = 8192  # latent pixels that go through the network together: two pictures of 512 x 512 in SD
DECODED_AT_ONCE = 512 * 512  # pixels that go through the decoder together


def relative_change(backbone: Any) -> bool:
    """Whether the editor predicts the change of a picture (diffusers_backbone, `predicts`)."""
    return getattr(backbone, "predicts", None) == "change"


def one_step(backbone: Any) -> bool:
    """Whether the network's prediction from pure noise is the editor's edit: one step, and no guidance."""
    if not relative_change(backbone) or not hasattr(backbone, "decode_beyond"):
        return False
    usual = EditSettings().filled(backbone)
    return (usual.steps, usual.text_guidance, usual.image_guidance) == (1, 1.0, 1.0)


def reads_no_noise(backbone: Any) -> bool:
    """Whether the network of a one-step editor sees none of the noise that it starts from, so that one look
    at an example tells all.
    """
    if getattr(backbone, "latent_input", None) != "estimate":
        return False
    schedule: NoiseSchedule = backbone.schedule
    return not bool(schedule.alpha_sigma(schedule.timesteps(1))[0].any())


@dataclass(frozen=True, eq=False)
class Noised:
    """B noisy latents of one size: `z` = alpha `x0` + sigma `noise` at `t` [B], the network's `image` and
    `text`, and the mean square `size` [B] of the wanted change; for one-step editors the wanted `picture`
    [B,h,w,3] and the mean square of what there is to draw.
    """

    z: Tensor
    t: Tensor
    x0: Tensor
    noise: Tensor
    image: Tensor
    text: TextContext
    size: Tensor
    picture: Tensor | None = None

    def __len__(self) -> int:
        return len(self.z)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Each example's latents [1,C,h,w] of the `target` and of the input as the network sees it (`image`), the
    `size` [1] that its error is divided by (as in Noised), its `text` of one row, for one-step editors the
    wanted `picture` [1,h,w,3]; the `empty` text; resize `plans`; `notes` for the user.
    """

    target: list[Tensor]
    image: list[Tensor]
    size: list[Tensor]
    text: list[TextContext]
    picture: list[Tensor]
    empty: TextContext
    plans: list[ResizePlan]
    notes: tuple[str, ...]
    schedule: NoiseSchedule
    leaning: bool

    def noised(
        self, rows: Sequence[int], generator: torch.Generator, dropout: float, levels: Tensor | None = None
    ) -> list[Noised]:
        """Noisy views of examples `rows`, those of one size together and as many as memory takes easily;
        `levels` [len(rows)] in 0..1 instead of chance. One-step editors see pure noise alone.

        Chance is drawn on the CPU and item by item, so that a device or another size changes nothing else.
        """
        u = torch.rand(len(rows), 3, generator=generator)
        t = self._timesteps(u[:, 0] if levels is None else levels, u[:, 1])
        noise = [torch.randn(self.target[row].shape[1:], generator=generator) for row in rows]
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(tuple(self.target[row].shape[1:]), []).append(place)
        parts = []
        for (_, height, width), places in groups.items():
            most = max(1, AT_ONCE // (height * width))
            if self.picture:
                seen = self.picture[rows[places[0]]]
                most = max(1, min(most, DECODED_AT_ONCE // (seen.shape[1] * seen.shape[2])))
            parts += [places[first : first + most] for first in range(0, len(places), most)]
        found = []
        for places in parts:
            picked = [rows[place] for place in places]
            x0 = torch.cat([self.target[row] for row in picked])
            eps = torch.stack([noise[place] for place in places]).to(x0.device)
            times = t[places].to(x0.device)
            texts = [
                self.empty if float(u[place, 2]) < dropout else self.text[rows[place]] for place in places
            ]
            found.append(
                Noised(
                    eps if self.picture else self.schedule.add_noise(x0, eps, times),
                    times,
                    x0,
                    eps,
                    torch.cat([self.image[row] for row in picked]),
                    TextContext.cat(texts),
                    torch.cat([self.size[row] for row in picked]),
                    torch.cat([self.picture[row] for row in picked]).to(x0.device) if self.picture else None,
                )
            )
        return found

    def _timesteps(self, level: Tensor, pure: Tensor) -> Tensor:
        total = self.schedule.train_steps
        blind = self.schedule.zero_terminal_snr and self.schedule.prediction_type == "epsilon"
        last = total - 2 if blind else total - 1  # at T-1 such a model has nothing to recover the noise from
        if self.picture:
            return self.schedule.timesteps(1).expand(len(level))
        t = ((level.sqrt() if self.leaning else level) * total).long().clamp(max=last)
        return torch.where(pure < PURE_NOISE, torch.full_like(t, last), t) if self.leaning else t

    @staticmethod
    def fitted(example: TaskExample, plan: ResizePlan) -> Tensor:
        """The target [1,h,w,3] at the working size."""
        return resize_images(example.target, plan.working_height, plan.working_width).clamp(0, 1)


def _drawn(source: Tensor, wanted: Tensor) -> Tensor:
    """[B]: the mean square of what there is to draw between pictures [B,h,w,3]."""
    varied = wanted - wanted.mean((1, 2), keepdim=True)
    return torch.minimum((wanted - source).square().mean((1, 2, 3)), varied.square().mean((1, 2, 3)))


def encode_examples(
    backbone: Backbone,
    examples: Sequence[TaskExample],
    size: int | None,
    on_part: Callable[[int, int], None],
) -> Encoded:
    """Latents and words of checked examples, each through the encoders once; `on_part(index, count)`."""
    working = EditSettings(size=size).filled(backbone).size
    sizes = [(e.source.shape[1], e.source.shape[2]) for e in examples]
    plans = [plan_resize(height, width, working, backbone.size_multiple) for height, width in sizes]
    wordings = list(dict.fromkeys(example.instruction for example in examples))
    leaning, shown = relative_change(backbone), one_step(backbone)
    with torch.no_grad():
        context = backbone.encode_text([*wordings, ""])
        held = TextContext(context.hidden.clone(), context.token_words, context.words)
        rows = {words: held[i : i + 1] for i, words in enumerate(wordings)}
        target: list[Tensor] = []
        image: list[Tensor] = []
        change: list[Tensor] = []
        picture: list[Tensor] = []
        for index, (example, plan) in enumerate(zip(examples, plans, strict=True)):
            source = plan.apply(example.source).clamp(0, 1).clone()
            wanted = Encoded.fitted(example, plan).clone()
            after = backbone.encode_image(wanted).float().clone()
            target.append(after)
            image.append(backbone.image_condition(source).float().clone())
            if shown:
                picture.append(wanted.float().cpu())
                change.append(_drawn(source, wanted.to(source)).to(after) + SHOWN_FLOOR)
            else:
                before = backbone.encode_image(source).float() if leaning else after
                change.append((after - before).square().mean((1, 2, 3)) + CHANGE_FLOOR)
            if not bool(torch.isfinite(after).all() and torch.isfinite(image[-1]).all()):
                raise EmuEditError(
                    f"{example.name}: the editor's encoder makes NaN or infinities of it in "
                    f"{backbone.dtype}; load the editor in float32."
                )
            on_part(index, len(examples))
    return Encoded(
        target, image, change, [rows[e.instruction] for e in examples], picture, held[len(wordings) :],
        plans, context.notes, backbone.schedule, leaning,
    )  # fmt: skip
