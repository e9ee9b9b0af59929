"""Score an editor on held-out scenes of the procedural world, against exact ground truth.

    python -m emu_edit.training.evaluate --scenes 320 --seed 7 --json OUT.json [--sheet OUT.png]

An edit succeeds when, inside the region that the true edit changes, its mean absolute error is at most
0.35 of the unedited picture's, and the rest of the picture moved by less than 0.02 on average. Beside it
stand two rows that keep the number honest: `identity`, the picture left as it is, and `ceiling`, the true
answer through the editor's autoencoder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.checkpoints import bundled_editor_path, load_editor
from ..core.edit import EditSettings, edit
from .small.data import Pairs
from .small.edits import TASKS_V1

INSIDE_LIMIT = 0.35
OUTSIDE_LIMIT = 0.02
UNCHANGED = 2 / 255


def score(source: Tensor, target: Tensor, edited: Tensor) -> dict[str, float]:
    """How near `edited` comes to `target`; pictures [H,W,3] in 0..1.

    `inside`: mean absolute error where the true edit changes the picture, over that of the unedited picture;
    `outside`: mean absolute difference from the source elsewhere (0 where nothing lies elsewhere);
    `success`: 1.0 or 0.0 by the rule of this module.
    """
    changed = (target - source).abs().amax(-1) > UNCHANGED
    before = (target - source).abs().mean(-1)[changed].mean()
    inside = (
        float((target - edited).abs().mean(-1)[changed].mean() / before) if changed.any() else float("nan")
    )
    outside = float((edited - source).abs().mean(-1)[~changed].mean()) if (~changed).any() else 0.0
    return {
        "inside": inside,
        "outside": outside,
        "success": float(inside <= INSIDE_LIMIT and outside < OUTSIDE_LIMIT),
    }


def evaluate(
    path: Path | None = None,
    scenes: int = 160,
    seed: int = 7,
    tasks: Sequence[str] = TASKS_V1,
    settings: EditSettings | None = None,
    batch: int = 16,
    split: str = "test",
    use_task: bool = True,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report that the command writes, and every edit: pictures uint8, instruction, task, scores."""
    editor = load_editor(path or bundled_editor_path())
    pairs = Pairs(seed, int(editor.defaults.get("size", 128)), tasks, split)
    found: list[dict[str, Any]] = []
    seconds = 0.0
    for start in range(0, scenes, batch):
        items = [pairs[i] for i in range(start, min(start + batch, scenes))]
        source = torch.stack([item["source"] for item in items]).float() / 255
        target = torch.stack([item["target"] for item in items]).float() / 255
        vectors = torch.stack([editor.task_vector(item["task"]) for item in items]) if use_task else None
        began = time.perf_counter()
        result = edit(editor, source, [item["instruction"] for item in items], vectors, settings=settings)
        seconds += time.perf_counter() - began
        with torch.inference_mode():
            ceiling = editor.decode_latents(editor.encode_image(target))
        for n, item in enumerate(items):
            entry = {name: item[name] for name in ("instruction", "task", "source", "target")}
            entry["edited"] = (result.images[n].clamp(0, 1) * 255).round().to(torch.uint8)
            entry["scores"] = score(source[n], target[n], result.images[n])
            entry["identity"] = score(source[n], target[n], source[n])
            entry["ceiling"] = score(source[n], target[n], ceiling[n])
            found.append(entry)
    return _report(found, tasks, seconds / max(len(found), 1), editor.name, seed), found


def _report(
    found: Sequence[dict[str, Any]], tasks: Sequence[str], seconds: float, name: str, seed: int
) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        of_task = [entry for entry in found if entry["task"] == task]
        if of_task:
            rows[task] = _mean([entry["scores"] for entry in of_task]) | {
                "n": len(of_task),
                "identity": _mean([entry["identity"] for entry in of_task]),
                "ceiling": _mean([entry["ceiling"] for entry in of_task]),
            }
    return {
        "editor": name,
        "seed": seed,
        "rule": f"inside <= {INSIDE_LIMIT} and outside < {OUTSIDE_LIMIT}",
        "mean_success": round(float(np.mean([row["success"] for row in rows.values()])), 4),
        "mean_ceiling": round(float(np.mean([row["ceiling"]["success"] for row in rows.values()])), 4),
        "tasks": rows,
        "seconds_per_edit": round(seconds, 3),
    }


def _mean(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([s[name] for s in scores])), 4) for name in scores[0]}


def sheet(found: Sequence[dict[str, Any]], per_task: int = 4) -> Any:
    """A PIL picture: input, truth, edit of the first few edits of each task, a row per task."""
    from PIL import Image

    rows = []
    for task in dict.fromkeys(entry["task"] for entry in found):
        entries = [entry for entry in found if entry["task"] == task][:per_task]
        tiles = [torch.cat([e["source"], e["target"], e["edited"]], dim=1) for e in entries]
        tiles += [torch.full_like(tiles[0], 255)] * (per_task - len(tiles))
        rows.append(torch.cat(tiles, dim=1))
    return Image.fromarray(torch.cat(rows).numpy())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder or file of the editor; the bundled one by default")
    parser.add_argument("--scenes", type=int, default=160)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--text-guidance", type=float)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS_V1))
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--no-task", action="store_true", help="edit without telling the task")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    chosen = parser.parse_args(arguments)
    settings = EditSettings(steps=chosen.steps, text_guidance=chosen.text_guidance)
    report, found = evaluate(
        chosen.model,
        chosen.scenes,
        chosen.seed,
        chosen.tasks,
        settings,
        split=chosen.split,
        use_task=not chosen.no_task,
    )
    print(f"{'task':12} {'n':>4} {'success':>8} {'inside':>8} {'outside':>8} {'ceiling':>8}")
    for task, row in report["tasks"].items():
        print(
            f"{task:12} {row['n']:4} {row['success']:8.2f} {row['inside']:8.2f} {row['outside']:8.3f} "
            f"{row['ceiling']['success']:8.2f}"
        )
    print(f"mean success {report['mean_success']:.3f}, ceiling {report['mean_ceiling']:.3f}, "
          f"{report['seconds_per_edit']:.2f} s an edit")  # fmt: skip
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    if chosen.sheet:
        sheet(found).save(chosen.sheet)


if __name__ == "__main__":
    main()
