"""What an evaluation found, as JSON, a Markdown table, and a contact sheet of best, median and worst."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .rules import RULES

Entry = dict[str, Any]
METRICS = ("l1", "clip_dir", "clip_im", "clip_out", "dino")


def summary(made: Sequence[Entry], tasks: Sequence[str]) -> dict[str, Any]:
    """Means over the tasks, and a row for each: success, inside, outside, n, and what stands beside them."""
    rows: dict[str, dict[str, Any]] = {}
    for task in tasks:
        of_task = [entry for entry in made if entry["example"].task == task]
        if of_task:
            rows[task] = _row(of_task)
    return {
        "mean_success": _mean([row["success"] for row in rows.values()]),
        "mean_identity": _mean([row["identity"]["success"] for row in rows.values()]),
        "mean_ceiling": _mean([row["ceiling"]["success"] for row in rows.values()]),
        "worst_outside": round(max((row["outside"] for row in rows.values()), default=0.0), 4),
        "told_right": _mean([float(entry["told"] == entry["example"].task) for entry in made]),
        "rules": {task: RULES[task] for task in rows},
        "tasks": rows,
    }


def brief(made: Sequence[Entry], tasks: Sequence[str]) -> dict[str, Any]:
    """What is told about a held-out split."""
    full = summary(made, tasks)
    return {
        "mean_success": full["mean_success"],
        "mean_ceiling": full["mean_ceiling"],
        "tasks": {
            task: {name: row[name] for name in ("success", "inside", "outside", "n")}
            for task, row in full["tasks"].items()
        },
    }


def _row(entries: Sequence[Entry]) -> dict[str, Any]:
    n = len(entries)
    done = sum(entry["scores"]["success"] for entry in entries)
    kinds = Counter(entry["example"].kind for entry in entries)
    row: dict[str, Any] = _scores([entry["scores"] for entry in entries])
    row["n"] = n
    row["interval"] = interval(done, n)
    row["by_parser"] = sum(entry["scores"]["by"] == "parser" for entry in entries)
    row["kinds"] = {
        kind: {
            "success": _mean([e["scores"]["success"] for e in entries if e["example"].kind == kind]),
            "n": count,
        }
        for kind, count in sorted(kinds.items())
    }
    for beside in ("identity", "ceiling"):
        row[beside] = _scores([entry[beside] for entry in entries])
    for name in METRICS:
        known = [v for e in entries if (v := e["metrics"].get(name)) is not None]
        if known:
            row[name] = _mean(known)
    return row


def _scores(scores: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: _mean([s[name] for s in scores]) for name in ("success", "inside", "outside")}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else 0.0


def interval(done: float, n: int) -> list[float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, done / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    bounds = [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]
    return [round(min(max(bound, 0.0), 1.0), 3) for bound in bounds]


def markdown(report: dict[str, Any]) -> str:
    """The report as text: a table of the tasks, the held-out splits, and the rules."""
    shown = [m for m in METRICS if any(m in row for row in report["tasks"].values())]
    heads = ["task", "n", "success", "95 %", "inside", "outside", "identity", "ceiling"]
    heads += [*report["splits"], *shown]
    lines = [heads, ["---"] * len(heads)]
    for task, row in report["tasks"].items():
        low, high = row["interval"]
        line = [task, str(row["n"]), f"{row['success']:.2f}", f"{low:.2f}-{high:.2f}"]
        line += [f"{row['inside']:.2f}", f"{row['outside']:.3f}"]
        line += [f"{row[beside]['success']:.2f}" for beside in ("identity", "ceiling")]
        apart = [part["tasks"].get(task) for part in report["splits"].values()]
        line += [f"{part['success']:.2f}" if part else "" for part in apart]
        line += [f"{row[name]:.3f}" if name in row else "" for name in shown]
        lines.append(line)
    means = ["mean", "", f"{report['mean_success']:.3f}", "", "", "", f"{report['mean_identity']:.3f}"]
    means += [f"{report['mean_ceiling']:.3f}"]
    means += [f"{part['mean_success']:.3f}" for part in report["splits"].values()] + [""] * len(shown)
    lines.append(means)
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    told = f", told right {report['told_right']:.1%}" if report["task"] == "predicted" else ""
    text += (
        f"\n\n{report['editor']}, seed {report['seed']}, task {report['task']}{told}, "
        f"{report['seconds_per_edit']:.2f} s an edit.\n\n"
        "inside: error where the true edit changes the picture, over that of the unedited picture; "
        "outside: mean absolute change elsewhere; identity: success of the picture left as it is; "
        "ceiling: of the true answer through the autoencoder."
    )
    if report["splits"]:
        text += " pairs, wordings: success on what training never showed."
    return text + "\n\nAn edit is a success when\n\n" + "".join(
        f"- {task}: {rule}\n" for task, rule in report["rules"].items()
    )  # fmt: skip


def sheet(made: Sequence[Entry]) -> Any:
    """A PIL picture: a row a task with its best, median and worst edit, each as input, truth, edit."""
    from PIL import Image, ImageDraw

    rows = []
    for task in dict.fromkeys(entry["example"].task for entry in made):
        ranked = sorted(
            (entry for entry in made if entry["example"].task == task),
            key=lambda e: (-e["scores"]["success"], e["scores"]["inside"]),
        )
        rows.append([ranked[0], ranked[len(ranked) // 2], ranked[-1]])
    if not rows:
        return Image.new("RGB", (1, 1), "white")
    side = max(96, rows[0][0]["edited"].shape[0])
    width, height = 3 * side + 8, side + 40
    out = Image.new("RGB", (3 * width, len(rows) * height), "white")
    draw = ImageDraw.Draw(out)
    for y, row in enumerate(rows):
        for x, (rank, entry) in enumerate(zip(("best", "median", "worst"), row, strict=True)):
            example = entry["example"]
            for n, picture in enumerate((example.source, example.target, entry["edited"].numpy())):
                tile = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
                out.paste(tile, (x * width + n * side, y * height))
            verdict = entry["scores"]["by"] or "failed"
            words = f"{example.task}, {rank} ({verdict}, inside {entry['scores']['inside']:.2f}): "
            for k, line in enumerate(textwrap.wrap(words + example.instruction, 3 * side // 6)[:3]):
                draw.text((x * width + 2, y * height + side + 1 + 12 * k), line, fill="black")
    return out
