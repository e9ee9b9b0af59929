"""The rot experiment: ten small edits through an imperfect editor, with the keep step behind each and
without.

    python -m emu_edit.benchmarks.sequential --json [--plot rot.png] [--mode hysteresis] [--turns 10] [--seed
    0]

Each turn: `outside_error_with` and `outside_error_without`, the mean absolute difference (0..1) to the first
picture over all pixels that lie further than `margin_px` from everything any edit drew (a latent editor
smears its edits over their borders); `edge_error_with`, the same over the pixels within that margin;
`edit_iou`, the overlap of the turn's change mask with what the true edit changes visibly (0.03 or more);
`registration_px`, the largest error of the measured motion anywhere in the picture.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.masks.morphology import dilate
from ..core.sequential.change import MODES, ChangeSettings
from ..core.sequential.geometry import compose, displacement, inverse, sample, scaling
from ..core.sequential.keep import KeepSettings, keep_edit
from ..core.thresholding import ALPHA
from .editor import Slips, degrade, draw, first_scene, next_scene

MARGIN = 4.0  # pixels: the round trip smears by about two, and so does the comparison's low-pass


def settings_for(mode: str, size: int) -> KeepSettings:
    """What the experiment runs with; the sigma of the strict modes fits pictures of about 512 px."""
    if mode == "paper":
        return KeepSettings()
    area = (size / 64) ** 2
    change = ChangeSettings(mode=mode, sigma=1.0, specks=area, holes=area)
    return KeepSettings(change=change, feather=3.0)


@dataclass(frozen=True, eq=False)
class Turn:
    """What one turn left: its row of the report, and the pictures with and without the keep step."""

    row: dict[str, Any]
    kept: Tensor
    rotten: Tensor


def experiment(turns: int, size: int, seed: int, settings: KeepSettings, slips: Slips | None = None):
    """Yield a Turn after each of the turns."""
    rng = np.random.default_rng(seed)
    scene = first_scene(rng)
    first = draw(scene, size)
    with_keep, without = first, first
    drifted = scaling(1, 1.0, 1.0)  # a point of the first picture -> of `without`
    touched_ever = torch.zeros(1, size, size, dtype=torch.bool)
    for number in range(1, turns + 1):
        old, (scene, kind) = draw(scene, size), next_scene(scene, rng)
        new = draw(scene, size)
        touched = (new != old).any(dim=-1)
        visible = (new - old).abs().mean(dim=-1) >= ALPHA
        touched_ever = touched_ever | touched

        motion_seed = int(rng.integers(1 << 31))
        edited, map_ = degrade(
            torch.where(touched[..., None], new, with_keep), np.random.default_rng(motion_seed), slips
        )
        result = keep_edit(with_keep, edited, settings=settings)
        with_keep, mask = result.kept, result.mask > 0

        back = inverse(drifted)
        there = sample(touched[..., None].float(), back, size, size, "bilinear") > 0.5
        drawn = torch.where(there, sample(new, back, size, size).clamp(0, 1), without)
        without, map_without = degrade(drawn, np.random.default_rng(motion_seed), slips)
        drifted = compose(inverse(map_without), drifted)

        outside = ~dilate(touched_ever, MARGIN)
        edge = ~touched_ever & ~outside
        seen = result.registration
        motion = None if seen is None else float(displacement(compose(map_, seen.map), size, size))
        row = {
            "turn": number,
            "edit": kind,
            "outside_error_with": _error(with_keep, first, outside),
            "outside_error_without": _error(without, first, outside),
            "edge_error_with": _error(with_keep, first, edge),
            "edit_iou": float((mask & visible).sum() / (mask | visible).sum().clamp(min=1)),
            "registration_px": motion,
        }
        yield Turn(row, with_keep, without)


def _error(picture: Tensor, first: Tensor, where: Tensor) -> float:
    return float((picture - first).abs().mean(dim=-1)[where].double().mean())


def run(turns: int, size: int, seed: int, mode: str, plot: str | None = None) -> dict[str, Any]:
    """The whole experiment as a report; `plot` names a picture file to write."""
    slips = Slips()
    done = list(experiment(turns, size, seed, settings_for(mode, size), slips))
    rows = [turn.row for turn in done]
    if plot:
        from .rot_plot import save_plot

        save_plot(plot, done, f"{mode}, {size} px, seed {seed}")
    return {
        "benchmark": "sequential",
        "mode": mode,
        "size": size,
        "seed": seed,
        "margin_px": MARGIN,
        "editor": {**slips.__dict__, "note": "every turn: detail lost, shift px, zoom, channel gains, JPEG"},
        "turns": rows,
        "worst": {
            "outside_error_with": max(row["outside_error_with"] for row in rows),
            "outside_error_without": max(row["outside_error_without"] for row in rows),
            "edit_iou": min(row["edit_iou"] for row in rows),
            "registration_px": max(row["registration_px"] for row in rows),
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="sequential", description="The rot experiment.")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--size", type=int, default=512, help="side of the pictures in pixels (default 512)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=MODES, default="hysteresis")
    parser.add_argument("--plot", metavar="PNG", help="also draw the curves and the pictures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    report = run(options.turns, options.size, options.seed, options.mode, options.plot)
    if options.json:
        print(json.dumps(report, indent=1))
        return 0
    print("turn  edit      outside with  without   edge with  edit IoU  registration px")
    for row in report["turns"]:
        print(
            f"{row['turn']:4}  {row['edit']:8}  {row['outside_error_with']:12.6f}  "
            f"{row['outside_error_without']:7.4f}  {row['edge_error_with']:9.5f}  {row['edit_iou']:8.3f}  "
            f"{row['registration_px']:.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
