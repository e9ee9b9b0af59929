"""The change mask against the truth, on drawn edits that went through the imperfect editor of editor.py.

    python -m emu_edit.benchmarks.change_mask [--json] [--edits 200] [--size 256] [--sheet PNG]

The truth is what the exact edit changes visibly (mean difference of the channels 0.03 or more). Precision and
recall are over all pixels of all edits together (`pixels`), and IoU is the mean over the edits (`mean_iou`).
Methods: ours in its three modes; the paper's rule alone, without registration and colour; and the baseline of
feature_baseline.py, whose threshold is the best of several for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.picture_files import to_pil
from ..core.sequential.change import ChangeSettings
from ..core.sequential.keep import PLAIN, KeepSettings, keep_edit
from ..core.thresholding import ALPHA
from .editor import degrade, draw, first_scene, next_scene
from .feature_baseline import baseline_mask

DELTAS = (10.0, 15.0, 22.0, 30.0, 42.0)


def methods(size: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Name -> (before, edited) -> bool [H,W]."""
    area = (size / 64) ** 2
    strict = KeepSettings(change=ChangeSettings("hysteresis", sigma=1.0, specks=area, holes=area))

    def keep(settings: KeepSettings) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda before, edited: keep_edit(before, edited, settings=settings).mask[0] > 0

    def features(delta: float) -> Callable[[Tensor, Tensor], Tensor]:
        def run(before: Tensor, edited: Tensor) -> Tensor:
            arrays = [np.asarray(to_pil(picture)) for picture in (before, edited)]
            return torch.from_numpy(baseline_mask(arrays[0], arrays[1], delta))

        return run

    found = {"hysteresis": keep(strict), "paper": keep(KeepSettings()), "paper, no repair": keep(PLAIN)}
    return found | {f"SIFT+flow+LAB {delta:g}": features(delta) for delta in DELTAS}


def run(edits: int, size: int, seed: int = 0, sheet: str | None = None) -> dict[str, Any]:
    """The report over `edits` edits; `sheet` names a picture of the first few."""
    named = methods(size)
    counts = {name: np.zeros(3, dtype=np.int64) for name in named}  # true, false, missed
    overlaps: dict[str, list[float]] = {name: [] for name in named}
    rows: list[Tensor] = []
    for index in range(edits):
        rng = np.random.default_rng((seed, index))
        scene = first_scene(rng)
        after, _ = next_scene(scene, rng)
        before, exact = draw(scene, size), draw(after, size)
        truth = ((exact - before).abs().mean(dim=-1) >= ALPHA)[0]
        if not bool(truth.any()):
            continue
        edited, _ = degrade(exact, rng)
        shown = [before[0], edited[0], truth[..., None].expand(-1, -1, 3).float()]
        for name, method in named.items():
            mask = method(before, edited)
            true, false = int((mask & truth).sum()), int((mask & ~truth).sum())
            missed = int((truth & ~mask).sum())
            counts[name] += (true, false, missed)
            overlaps[name].append(true / max(1, true + false + missed))
            if name in ("hysteresis", "paper", f"SIFT+flow+LAB {DELTAS[2]:g}"):
                shown.append(mask[..., None].expand(-1, -1, 3).float())
        if sheet and len(rows) < 6:
            rows.append(torch.cat(shown, dim=1))
    if sheet and rows:
        to_pil(torch.cat(rows, dim=0)).save(sheet)
    results = {name: _score(counts[name], overlaps[name]) for name in named}
    peers = [name for name in results if name.startswith("SIFT")]
    return {
        "benchmark": "change_mask",
        "edits": len(overlaps["hysteresis"]),
        "size": size,
        "seed": seed,
        "results": results,
        "best_baseline": max(peers, key=lambda name: results[name]["mean_iou"]),
    }


def _score(counts: np.ndarray, overlaps: Sequence[float]) -> dict[str, float]:
    true, false, missed = (int(value) for value in counts)
    return {
        "precision": true / max(1, true + false),
        "recall": true / max(1, true + missed),
        "mean_iou": float(np.mean(overlaps)),
        "worst_tenth_iou": float(np.quantile(overlaps, 0.1)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="change_mask", description="Change masks against the truth.")
    parser.add_argument("--edits", type=int, default=200, metavar="N")
    parser.add_argument("--size", type=int, default=256, metavar="PX")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--sheet", metavar="PNG", help="before, edited, truth, and three methods' masks")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    report = run(options.edits, options.size, options.seed, options.sheet)
    if options.json:
        print(json.dumps(report, indent=1))
        return 0
    print(f"{report['edits']} edits at {report['size']} px   precision  recall  mean IoU  worst tenth")
    for name, row in report["results"].items():
        print(
            f"{name:26} {row['precision']:9.3f} {row['recall']:7.3f} {row['mean_iou']:9.3f} "
            f"{row['worst_tenth_iou']:9.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
