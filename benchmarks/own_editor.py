"""Ten turns through a real editor, the bundled one or a folder's, with the keep step and without.

    python -m emu_edit.benchmarks.sequential --editor bundled [--plot PNG] [--json]

Nobody knows what a real editor ought to have drawn, pixel for pixel. What is known from the scene graph is
where each turn's edit belongs: `outside_error_*` is the mean absolute difference (0..1) to the first picture
over all pixels further than the margin from every such place so far; with the keep step it is not zero by
construction, for the mask is measured. `outside_mask_error_with` is the same outside all masks taken, and
must be zero. `asked_error_*` is the mean absolute difference, where the turn's edit belongs, to the picture
with that edit drawn exactly (1 = as far off as the unedited picture, 0 = as drawn): how well the editor did
what was asked, and what of it survived. `edit_iou` is the overlap of the change mask with where the edit
belongs; `motion_px` is the motion that the registration saw and undid (there is no true one to compare with,
so `registration_px` is null).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.checkpoints import bundled_editor_path, load_editor
from ..core.edit import EditSettings, edit
from ..core.masks.morphology import dilate
from ..core.sequential.geometry import displacement
from ..core.sequential.keep import KeepSettings, keep_edit
from ..core.thresholding import ALPHA
from ..training.small.scene import ANCHORS, Scene, article, describe, phrase
from .editor import draw, first_scene, next_scene
from .sequential import Turn

PLACES = {"left": "on the left", "right": "on the right", "middle": "in the middle"}


def load(name: str) -> Backbone:
    """ "bundled", or a folder or file that load_editor reads."""
    return load_editor(bundled_editor_path() if name == "bundled" else name)


def wording(before: Scene, after: Scene, kind: str) -> tuple[str, str]:
    """(instruction, task) for what `next_scene` did."""
    if kind == "text":
        if after.text is None:
            return "remove the text", "text"
        return f'add the text "{after.text.word}" at the top', "text"
    old = [obj for obj in before.objects if obj not in after.objects]
    new = [obj for obj in after.objects if obj not in before.objects]
    if kind == "remove":
        return f"remove the {phrase(old[0], before)}", "remove"
    if kind == "add":
        place = next(name for name, at in ANCHORS.items() if at == (new[0].x, new[0].y))
        return f"add {article(describe(new[0]))} {PLACES.get(place, f'at the {place}')}", "add"
    if kind == "recolour":
        return f"make the {phrase(old[0], before)} {new[0].colour}", "local"
    return f"replace the {phrase(old[0], before)} with {article(describe(new[0]))}", "local"


def experiment(
    backbone: Backbone, turns: int, size: int, seed: int, settings: KeepSettings, margin: float
) -> Iterator[Turn]:
    """Yield a Turn after each of the turns."""
    rng = np.random.default_rng(seed)
    scene = first_scene(rng)
    first = draw(scene, size)
    with_keep, without = first, first
    belongs = torch.zeros(1, size, size, dtype=torch.bool)
    taken = belongs.clone()
    for number in range(1, turns + 1):
        before = scene
        scene, kind = next_scene(scene, rng)
        instruction, task = wording(before, scene, kind)
        old, new = draw(before, size), draw(scene, size)
        place = (new - old).abs().mean(dim=-1) >= ALPHA
        belongs = belongs | (new != old).any(dim=-1)
        chosen = EditSettings(seed=seed + number)
        both = torch.cat([with_keep, without])
        edited, worse = edit(backbone, both, instruction, task, settings=chosen).images.split(1)
        result = keep_edit(with_keep, edited, settings=settings)
        with_keep, without, mask = result.kept, worse, result.mask > 0
        taken = taken | mask
        outside = ~dilate(belongs, margin)
        seen = result.registration
        row = {
            "turn": number,
            "edit": kind,
            "instruction": instruction,
            "task": task,
            "outside_error_with": _error(with_keep, first, outside),
            "outside_error_without": _error(without, first, outside),
            "outside_mask_error_with": _error(with_keep, first, ~taken),
            "asked_error_with": _error(with_keep, new, place) / max(_error(old, new, place), 1e-6),
            "asked_error_without": _error(without, new, place) / max(_error(old, new, place), 1e-6),
            "edit_iou": float((mask & place).sum() / (mask | place).sum().clamp(min=1)),
            "changed": float(mask.float().mean()),
            "registration_px": None,
            "motion_px": None if seen is None else float(displacement(seen.map, size, size)),
        }
        yield Turn(row, with_keep, without)


def _error(picture: Tensor, first: Tensor, where: Tensor) -> float:
    return float((picture - first).abs().mean(dim=-1)[where].double().mean()) if bool(where.any()) else 0.0
