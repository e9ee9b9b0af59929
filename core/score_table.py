"""Scores of many edits: means with bootstrap confidence intervals, the identity baseline, and tables.

A row of scores is a flat mapping such as {"l1": 0.04, "l1_outside": 0.0, "clip_dir": None}: None is a score
that is undefined for this edit (the direction between equal captions) and is counted, never taken for 0; a
missing name is a score that nobody asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .metrics import NAMES, REGIONS

Row = Mapping[str, float | None]

ALL_TASKS = "all"
MODEL_NAMES = ("clip_dir", "clip_im", "clip_out", "dino")
LABELS = {
    "l1": "L1 ↓",
    "psnr": "PSNR, dB ↑",
    "ssim": "SSIM ↑",
    "clip_dir": "CLIPdir ↑",
    "clip_im": "CLIPim ↑",
    "clip_out": "CLIPout ↑",
    "dino": "DINO ↑",
}


def flat(regions: Mapping[str, Row], models: Row | None = None) -> dict[str, float | None]:
    """A row from an entry of metrics.pixel_scores and one of Scorer.scores: "l1", "l1_inside", "clip_dir"."""
    row = {
        name if region == "whole" else f"{name}_{region}": value
        for region, scores in regions.items()
        for name, value in scores.items()
    }
    return row | dict(models or {})


def identity(row: Row) -> dict[str, float | None]:
    """The row that not editing at all would get, for the same names; it has no direction."""
    fixed = {"l1": 0.0, "psnr": math.inf, "ssim": 1.0, "clip_dir": None, "clip_im": 1.0, "dino": 1.0}
    found: dict[str, float | None] = {}
    for name in row:
        stem = name.removesuffix("_inside").removesuffix("_outside")
        if stem in fixed:
            # An empty region stays undefined.
            found[name] = fixed[stem] if row[name] is not None else None
        elif name == "clip_out":
            found[name] = row.get("clip_out_unedited")
    return found


@dataclass(frozen=True)
class Summary:
    """The mean of the `count` rows that have a finite score, and its interval (None below 2 rows).

    undefined: rows whose score does not exist. unbounded: rows of infinite PSNR, that is, equal pictures.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    undefined: int = 0
    unbounded: int = 0


def summarise(
    values: Iterable[float | None], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Summary:
    """Mean and percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13); deterministic."""
    told = list(values)
    known = [v for v in told if v is not None and not math.isnan(v)]
    finite = [v for v in known if math.isfinite(v)]
    undefined, unbounded = len(told) - len(known), len(known) - len(finite)
    if not finite:
        return Summary(None, None, None, 0, undefined, unbounded)
    sample = torch.tensor(finite, dtype=torch.float64)
    mean = float(sample.mean())
    if len(finite) < 2:
        return Summary(mean, None, None, 1, undefined, unbounded)
    generator = torch.Generator().manual_seed(seed)
    size = (len(finite),)
    drawn = [torch.randint(len(finite), size, generator=generator) for _ in range(resamples)]
    means = torch.stack([sample[index].mean() for index in drawn])
    tail = (1 - confidence) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Summary(mean, low, high, len(finite), undefined, unbounded)


@dataclass(frozen=True)
class TaskSummary:
    """One task's (or ALL_TASKS') scores, its baseline, and how many rows were left out, by reason."""

    rows: int
    excluded: Mapping[str, int]
    scores: Mapping[str, Summary]
    baseline: Mapping[str, Summary]


def aggregate(
    rows: Sequence[Row],
    tasks: Sequence[str] | None = None,
    excluded: Sequence[str] | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, TaskSummary]:
    """Per task and over all ("all" comes first).

    tasks: the task of each row. excluded: why each row is left out ("" for one that counts), see
    metric_presets.why_excluded. The interval is over rows: turns of one session are not independent.
    """
    names = list(tasks) if tasks is not None else [""] * len(rows)
    reasons = list(excluded) if excluded is not None else [""] * len(rows)
    found: dict[str, TaskSummary] = {}
    for task in [ALL_TASKS, *dict.fromkeys(name for name in names if name)]:
        mine = [i for i, name in enumerate(names) if task in (ALL_TASKS, name)]
        kept = [rows[i] for i in mine if not reasons[i]]
        left: dict[str, int] = {}
        for i in mine:
            if reasons[i]:
                left[reasons[i]] = left.get(reasons[i], 0) + 1
        still = [identity(row) for row in kept]
        options: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
        found[task] = TaskSummary(
            len(kept),
            left,
            {n: summarise([r[n] for r in kept if n in r], **options) for n in _names_of(kept)},
            {n: summarise([r[n] for r in still if n in r], **options) for n in _names_of(still)},
        )
    return found


def _names_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def number(name: str, value: float | None) -> str:
    """A score for reading: four places, decibels two; "undefined"; "∞" for the PSNR of equal pictures."""
    if value is None:
        return "undefined"
    if math.isinf(value):
        return "∞"
    if name.startswith("psnr"):
        return f"{value:.2f}"
    if 0 < abs(value) < 5e-5:
        return "<0.0001" if value > 0 else ">-0.0001"
    return "0" if value == 0 else f"{value:.4f}"


def summary_text(name: str, summary: Summary | None) -> str:
    """Mean, interval, and what was not counted, for one cell of a table."""
    if summary is None:
        return ""
    if summary.mean is None:
        return "∞" if summary.unbounded else "undefined"
    text = number(name, summary.mean)
    if summary.low is not None and summary.low != summary.high:
        text += f" [{number(name, summary.low)}, {number(name, summary.high)}]"
    for count, word in ((summary.undefined, "undefined"), (summary.unbounded, "∞")):
        if count:
            text += f", {count} {word}"
    return text


def edit_table(rows: Sequence[Row]) -> str:
    """Markdown for one edit or a batch: a line for each score, a column for each region and for no edit."""
    summary = aggregate(rows)[ALL_TASKS]
    regions = [r for r in REGIONS if r == "whole" or f"l1_{r}" in summary.scores]
    lines = [["score", *regions, "no edit"]]
    for name in (*NAMES, *MODEL_NAMES):
        if name not in summary.scores:
            continue
        cells = []
        for region in regions:
            key = name if region == "whole" else f"{name}_{region}"
            cells.append(summary_text(name, summary.scores.get(key)))
        lines.append([LABELS[name], *cells, summary_text(name, summary.baseline.get(name))])
    return _markdown(lines)


def task_table(found: Mapping[str, TaskSummary]) -> str:
    """Markdown for a whole evaluation: a line for each task, over all, and for no edit at all."""
    told = found[ALL_TASKS]
    names = [n for n in LABELS if n in told.scores]
    lines = [["task", "edits", *(LABELS[n] for n in names)]]
    for task, summary in [*((t, s) for t, s in found.items() if t != ALL_TASKS), (ALL_TASKS, told)]:
        cells = [summary_text(n, summary.scores.get(n)) for n in names]
        left = sum(summary.excluded.values())
        lines.append([task, f"{summary.rows}" + (f" (+{left} left out)" if left else ""), *cells])
    lines.append(["no edit", str(told.rows), *(summary_text(n, told.baseline.get(n)) for n in names)])
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table with its head first, padded so that it reads well as plain text too."""
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*lines, strict=True)]
    rows = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def plain(value: Any) -> Any:
    """For JSON, which knows no infinity: Summary objects become mappings, infinities the word "infinite"."""
    if isinstance(value, (Summary, TaskSummary)):
        return plain(vars(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "infinite" if math.isinf(value) else None
    return value
