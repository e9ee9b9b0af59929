"""The rot experiment: ten small edits through an imperfect editor, with the keep step behind each and
without.

    python -m emu_edit.benchmarks.sequential [--json] [--plot PNG] [--mode hysteresis] [--seeds 0 1]

Each turn: `outside_error_with` and `outside_error_without`, the mean absolute difference (0..1) to the first
picture over all pixels that lie further than `margin_px` from everything any edit drew (a latent editor
smears its edits over their borders); `edge_error_with`, the same over the pixels within that margin;
`edit_iou`, the overlap of the turn's change mask with what the true edit changes visibly (0.03 or more);
`registration_px`, the largest error of the measured motion anywhere in the picture. With several seeds the
report of each stands in `runs`, `turns` is the first one's, and `worst` is over all of them. With `--editor`
the turns go through a real editor (own_editor.py).
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


def run(
    turns: int, size: int, seed: int, mode: str, plot: str | None = None, editor: str | None = None
) -> dict[str, Any]:
    """The whole experiment as a report; `plot` names a picture file to write, `editor` a real editor."""
    slips, settings = Slips(), settings_for(mode, size)
    if editor is None:
        played = experiment(turns, size, seed, settings, slips)
        described: dict[str, Any] = {
            **slips.__dict__,
            "note": "every turn: detail lost, shift px, zoom, channel gains, JPEG",
        }
    else:
        from . import own_editor

        played = own_editor.experiment(own_editor.load(editor), turns, size, seed, settings, MARGIN)
        described = {"name": editor, "note": "a real editor; see benchmarks/own_editor.py for the keys"}
    done = []
    for turn in played:
        print(f"seed {seed}, turn {turn.row['turn']} of {turns}: {turn.row['edit']}", file=sys.stderr)
        done.append(turn)
    rows = [turn.row for turn in done]
    if plot:
        from .rot_plot import save_plot

        through = "an imperfect editor" if editor is None else f"the editor {editor!r}"
        save_plot(plot, done, through, f"{mode}, {size} px, seed {seed}")
    return {
        "benchmark": "sequential",
        "mode": mode,
        "size": size,
        "seed": seed,
        "margin_px": MARGIN,
        "editor": described,
        "turns": rows,
        "worst": _worst(rows),
    }


def _worst(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    measured = [row["registration_px"] for row in rows if row["registration_px"] is not None]
    return {
        "outside_error_with": max(row["outside_error_with"] for row in rows),
        "outside_error_without": max(row["outside_error_without"] for row in rows),
        "edit_iou": min(row["edit_iou"] for row in rows),
        "registration_px": max(measured) if measured else None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="sequential", description="The rot experiment.")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument(
        "--size", type=int, help="side of the pictures in pixels (default 512; 128 with --editor)"
    )
    parser.add_argument("--seed", "--seeds", type=int, nargs="+", default=[0], dest="seeds")
    parser.add_argument("--mode", choices=MODES, default="hysteresis")
    parser.add_argument("--editor", metavar="NAME", help="a real editor: 'bundled', or an editor's folder")
    parser.add_argument("--plot", metavar="PNG", help="also draw the first seed's curves and pictures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    size = options.size or (512 if options.editor is None else 128)
    runs = [
        run(options.turns, size, seed, options.mode, options.plot if place == 0 else None, options.editor)
        for place, seed in enumerate(options.seeds)
    ]
    report = runs[0]
    if len(runs) > 1:
        every = [row for one in runs for row in one["turns"]]
        report = {**report, "seeds": options.seeds, "worst": _worst(every), "runs": runs}
    if options.json:
        print(json.dumps(report, indent=1))
        return 0
    print("seed  turn  edit      outside with  without   edit IoU  registration px")
    for one in runs:
        for row in one["turns"]:
            motion = "" if row["registration_px"] is None else f"{row['registration_px']:.3f}"
            print(
                f"{one['seed']:4}  {row['turn']:4}  {row['edit']:8}  {row['outside_error_with']:12.6f}  "
                f"{row['outside_error_without']:7.4f}  {row['edit_iou']:9.3f}  {motion}"
            )
    print("worst", json.dumps(report["worst"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
