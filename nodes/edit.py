"""Edit by Instruction: picture and sentence in, edited picture out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.edit import EditSettings, check_instructions, edit, task_rows
from ..core.images import check_images, fit_mask
from ..core.sampling import METHODS
from ..core.tasks import NO_TASK
from . import host
from .inputs import drawn
from .tasks import PredictedTask, predicted
from .widgets import choice, number, socket, text, whole

AS_EDITOR = -1.0  # a guidance that means "as the editor recommends"
LOOK_AREA = 32 * 32  # latents no larger than this are decoded at every step for the preview


def settings_for(
    backbone: Any, *, steps: int, text_guidance: float, image_guidance: float, size: int, **rest: Any
) -> EditSettings:
    """The node's numbers; 0 steps, a guidance of -1 and a size of 0 become what the editor recommends."""
    settings = EditSettings(
        steps=steps or None,
        text_guidance=None if text_guidance < 0 else text_guidance,
        image_guidance=None if image_guidance < 0 else image_guidance,
        size=size or None,
        **rest,
    )
    return settings.filled(backbone)


def quick_look(backbone: Any, x0: Tensor) -> Any:
    """A PIL picture of the first estimate x0 [B,C,h,w], or None where that would cost too much."""
    from ..core.picture_files import to_pil

    colours = host.latent_colours(x0.shape[1])
    if colours is not None:
        picture = torch.einsum("chw,ck->hwk", x0[0].float().cpu(), colours)
        return to_pil(((picture + 1) / 2).clamp(0, 1))
    if x0.shape[-2] * x0.shape[-1] <= LOOK_AREA:
        return to_pil(backbone.decode_latents(x0[:1])[0].cpu())
    return None


class EditByInstruction:
    """The main job: core.edit with ComfyUI's progress bar, preview and Cancel button."""

    ID = "EmuEditInstruct"
    DISPLAY_NAME = "Edit by Instruction"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Edits a picture as the instruction says. The result has the input's size; a mask keeps everything "
        "outside it exactly as it was. Each picture of a batch gets its own noise: picture i uses seed + i."
    )
    SEARCH_ALIASES = ["emu edit", "instructpix2pix", "instruct edit", "edit picture", "image editing"]
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("edited",)
    OUTPUT_TOOLTIPS = ("The edited picture, as large as the input.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "editor": socket("EMU_BACKBONE", "From Load Editor."),
                "image": socket("IMAGE", "The picture to edit, or a batch of them."),
                "instruction": text(
                    "make the ball blue",
                    'What to change, as an order: "remove the tree", "make it winter". One change at a time '
                    "works best; chain nodes for more.",
                ),
                "seed": whole(
                    0,
                    0,
                    2**63 - 1,
                    "Another seed gives another result of the same instruction. (Not with the bundled editor "
                    "at one step, which reads no noise.)",
                    control_after_generate=True,
                ),
                "steps": whole(
                    0, 0, 1000, "Denoising steps; more is slower. 0: as many as the editor recommends."
                ),
                "text_guidance": number(
                    AS_EDITOR,
                    -1.0,
                    30.0,
                    0.1,
                    "How strongly the instruction is followed. Raise it when nothing changes. "
                    "-1: as the editor recommends (InstructPix2Pix usually 7.5, the bundled one 1).",
                ),
                "image_guidance": number(
                    AS_EDITOR,
                    -1.0,
                    10.0,
                    0.05,
                    "How closely the input picture is kept. Raise it when too much changes. "
                    "-1: as the editor recommends (1.5 is usual for InstructPix2Pix).",
                ),
                "guidance_rescale": number(
                    0.0,
                    0.0,
                    1.0,
                    0.05,
                    "Takes back the glare that strong guidance brings. 0 is off, 0.7 a usual value.",
                ),
                "sampler": choice(
                    METHODS,
                    METHODS[0],
                    "How the steps are taken. All are deterministic; dpmpp_2m needs the fewest steps.",
                ),
                "size": whole(
                    0,
                    0,
                    4096,
                    "The longest side in pixels that the editor works at; the result is brought back to the "
                    "input's size. 0: the size the editor was made for.",
                    step=8,
                ),
            },
            "optional": {
                "task": socket(
                    "EMU_TASK", "From Task. Without it the task is read from the instruction's words."
                ),
                "mask": socket(
                    "MASK",
                    "Where editing is allowed: white may change, black stays exactly as it is, grey blends. "
                    "The blank mask of a Load Image without alpha counts as no mask.",
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, instruction: str | None = None) -> bool | str:
        # None: the text comes over a link and is looked at when it arrives.
        if instruction is not None and not instruction.strip():
            return 'the instruction is empty; say what to change, for example "make the ball blue"'
        return True

    def run(
        self,
        editor: Any,
        image: Tensor,
        instruction: str,
        seed: int,
        steps: int,
        text_guidance: float,
        image_guidance: float,
        guidance_rescale: float,
        sampler: str,
        size: int,
        task: Any = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor]:
        with host.slips_of(self, "instruction"):
            check_instructions(instruction)
            wanted = predicted(instruction, editor) if task is None else task
            if isinstance(wanted, PredictedTask) and wanted not in editor.task_names:
                wanted = NO_TASK
        with host.slips_of(self, "image"):
            image = check_images(image, "the picture")
        with host.slips_of(self, "task"):
            task_rows(editor, wanted, image.shape[0])
        mask = drawn(mask, image)
        if mask is not None:
            with host.slips_of(self, "mask"):
                mask = fit_mask(mask, *image.shape[:3])
        with host.slips_of(self):
            settings = settings_for(
                editor,
                steps=steps,
                text_guidance=text_guidance,
                image_guidance=image_guidance,
                size=size,
                guidance_rescale=guidance_rescale,
                sampler=sampler,
                seed=seed,
            )
            bar = host.Progress(settings.steps or 0)

            def on_step(info: Any) -> None:
                host.stop_if_interrupted()
                bar.show(info.index + 1, info.total, quick_look(editor, info.x0))

            host.make_resident(editor)
            result = edit(
                editor, image, instruction, task=wanted, mask=mask, settings=settings, on_step=on_step
            )
        host.remark(result.notes)
        return (result.images.float().cpu(),)
