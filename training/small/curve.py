"""The learning curve of a run, and what it predicts.

    python -m emu_edit.training.small.curve --log RUN/log.jsonl --scored 90000=a.json --scored 180000=b.json

`--log`: what `small.train` writes; `--scored SAMPLES=FILE`: what `training.evaluate --json` wrote of the
weights after so many samples. Writes learning_curve.md and learning_curve.png.

The prediction assumes that the odds of success grow as a power of the samples seen, and draws the line
through the scored weights alone. They must be alike but for the samples: of one recipe, trained at the same
sizes, and all at the end of an anneal, which is worth more than many samples. `--from` leaves out what an
earlier recipe logged, whose errors may be measured otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import EmuEditError
from ...core.weights import replacing
from ..ablations.chart import chart
from ..ablations.statistics import DRAWS, Interval, mean_of
from ..arguments import at_least

BINS = 14
TARGET = 0.85


@dataclass(frozen=True)
class Scored:
    """Weights after `samples`, and per task how many of how many edits were right."""

    samples: int
    right: Mapping[str, tuple[int, int]]

    def drawn(self, rng: np.random.Generator) -> float:
        """A mean success that these counts may come from (Jeffreys' prior, so that 0 of n is not certain)."""
        chances = [rng.beta(right + 0.5, n - right + 0.5) for right, n in self.right.values()]
        return float(np.mean(chances))

    @property
    def success(self) -> float:
        """The mean over the tasks."""
        return float(np.mean([right / n for right, n in self.right.values()]))

    def interval(self) -> Interval:
        """The mean over the tasks with its 95 % interval."""
        rng = np.random.default_rng(0)
        low, high = np.percentile([self.drawn(rng) for _ in range(DRAWS)], (2.5, 97.5))
        return Interval(self.success, float(low), float(high))


def needed(points: Sequence[tuple[float, float]], target: float) -> float:
    """Samples for `target` success, by a line through log odds over log samples of (samples, success).

    Infinite where success does not grow. Raises ValueError for fewer than two different numbers of samples.
    """
    if len({samples for samples, _ in points}) < 2:
        raise ValueError("a line wants two points")
    x = np.log([samples for samples, _ in points])
    y = _log_odds(np.asarray([success for _, success in points]))
    slope, start = np.polyfit(x, y, 1)
    reach = (float(_log_odds(np.asarray(target))) - start) / slope if slope > 0 else np.inf
    return float(np.exp(min(reach, 700.0)))


def _log_odds(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 1e-3, 1 - 1e-3)
    return np.log(share / (1 - share))


def prediction(scored: Sequence[Scored], target: float) -> Interval:
    """Samples in all for `target` success, with the 95 % interval that the counted edits leave."""
    rng = np.random.default_rng(0)
    guesses = [needed([(one.samples, one.drawn(rng)) for one in scored], target) for _ in range(DRAWS)]
    low, high = np.percentile(guesses, (2.5, 97.5))
    return Interval(needed([(one.samples, one.success) for one in scored], target), float(low), float(high))


def bins_of(rows: Sequence[Mapping[str, Any]], count: int = BINS) -> list[tuple[int, int, Interval]]:
    """About `count` parts of a log, none with pictures of two sizes and even between two changes of size:
    (samples at the end, size, mean relative error over the tasks).
    """
    rows = [row for row in rows if set(row["relative_error"]) - {"picture"}]
    out = []
    for size, chosen in groupby(rows, key=lambda row: int(row["size"])):
        stretch = list(chosen)
        parts = max(1, round(min(count / len(rows), 1.0) * len(stretch)))
        for part in np.array_split(np.arange(len(stretch)), parts):
            some = [stretch[k] for k in part]
            errors = [
                np.mean([v for task, v in row["relative_error"].items() if task != "picture"]) for row in some
            ]
            out.append((int(some[-1]["samples"]), size, mean_of([float(error) for error in errors])))
    return out


def report(
    rows: Sequence[Mapping[str, Any]], scored: Sequence[Scored], target: float, command: str, note: str = ""
) -> str:
    """The Markdown page; `note`: what a reader must know of the run, such as a change of the recipe."""
    lines = [
        "# Learning curve of the bundled editor",
        f"Made by `{command}`.",
        "Error of the first sampling step on pictures never seen before, from pure noise: the squared "
        "error of the edit as it shows in the picture over what there was to draw, the mean over the tasks, "
        "with its 95 % interval. Pictures of 64 pixels hold less to draw, so sizes are not to be compared.",
        "![error by samples](learning_curve.png)",
        "| samples | pictures of | error |\n| --- | --- | --- |\n"
        + "\n".join(f"| {end:,} | {size} px | {error} |" for end, size, error in bins_of(rows)),
    ]
    if scored:
        lines.append(
            "Success of the averaged weights (`training.evaluate`), the mean over the tasks:\n\n"
            "| samples | success |\n| --- | --- |\n"
            + "\n".join(f"| {one.samples:,} | {one.interval()} |" for one in scored)
        )
    if len({one.samples for one in scored}) > 1:
        guess = prediction(scored, target)
        lines.append(
            f"**{_said(guess, target)}** Assumed: the odds of success go on growing as a power of the "
            "samples, at this mixture of picture sizes, each time with an anneal at the end"
            f"{', and that the weights are of one recipe, which these are not' if note else ''}. The "
            "interval counts only the chance in which edits were scored; nobody knows that a line is "
            "right so far out."
        )
    if note:
        lines.insert(3, note)
    return "\n\n".join(lines) + "\n"


def _said(guess: Interval, target: float) -> str:
    if not guess.mean < 1e12:
        return f"These weights do not get better: no number of samples is predicted for {target:.0%}."
    far = f"{guess.high:,.0f}" if guess.high < 1e12 else "no number at all"
    return f"For {target:.0%} it predicts {guess.mean:,.0f} samples in all ({guess.low:,.0f} to {far})."


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log.jsonl. What a kill left half written is passed over, and what was done again after
    one counts once.

    Raises EmuEditError for a file that is no such log.
    """
    rows: list[dict[str, Any]] = []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            row = _entry(line)
            if row is not None:
                while rows and rows[-1]["samples"] >= row["samples"]:
                    rows.pop()
                rows.append(row)
    except OSError as problem:
        raise EmuEditError(f"curve: --log {path} cannot be read ({problem.strerror}).") from None
    if not rows:
        raise EmuEditError(f"curve: --log {path} is no log of small.train; give the log.jsonl of a run.")
    return rows


def _entry(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
        errors = {str(task): float(error) for task, error in row["relative_error"].items()}
        return {"samples": int(row["samples"]), "size": int(row["size"]), "relative_error": errors}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def read_scored(text: str) -> Scored:
    """SAMPLES=FILE, the file one of `training.evaluate --json`.

    Raises EmuEditError for anything else.
    """
    count, _, name = text.partition("=")
    if not (count.isascii() and count.isdigit() and int(count) and name):
        raise EmuEditError(
            f"curve: --scored {text}: give SAMPLES=FILE, for instance 126000=docs/small_editor.json."
        )
    try:
        tasks = json.loads(Path(name).read_text(encoding="utf-8"))["tasks"]
        right = {task: (round(row["success"] * row["n"]), int(row["n"])) for task, row in tasks.items()}
        if not right or any(not 0 <= done <= n or n < 1 for done, n in right.values()):
            raise ValueError("success is not a share of n")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise EmuEditError(
            f"curve: --scored {name} is no result of training.evaluate ({type(problem).__name__}: "
            f"{problem}); give what its --json wrote."
        ) from None
    return Scored(int(count), right)


def main(arguments: list[str] | None = None) -> int:
    """The command; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, required=True, help="log.jsonl of a run")
    parser.add_argument(
        "--from", dest="start", type=at_least(0), default=0, help="leave out what was before so many samples"
    )
    parser.add_argument(
        "--scored", action="append", default=[], metavar="SAMPLES=FILE", help="a result of evaluate"
    )
    parser.add_argument(
        "--target", type=float, default=TARGET, help="the success to predict, between 0 and 1"
    )
    parser.add_argument(
        "--note", default="", help="a paragraph for the page: how the recipe changed on the way"
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for the page and the chart")
    chosen = parser.parse_args(arguments)
    try:
        if not 0 < chosen.target < 1:
            raise EmuEditError(f"curve: --target {chosen.target} is no share; give one between 0 and 1.")
        rows = [row for row in read_log(chosen.log) if row["samples"] >= chosen.start]
        scored = sorted((read_scored(text) for text in chosen.scored), key=lambda one: one.samples)
        if not bins_of(rows):
            raise EmuEditError(f"curve: {chosen.log} has no errors from sample {chosen.start} on.")
        print(_write(rows, scored, chosen))
    except EmuEditError as slip:
        print(slip, file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"curve: --out {chosen.out} cannot be written ({problem.strerror}).", file=sys.stderr)
        return 1
    return 0


def _write(rows: Sequence[Mapping[str, Any]], scored: Sequence[Scored], chosen: argparse.Namespace) -> str:
    """The page and its chart; returns the page."""
    chosen.out.mkdir(parents=True, exist_ok=True)
    bins = bins_of(rows)
    chart(
        chosen.out / "learning_curve.png",
        "Relative error of the first step, mean over the tasks",
        [f"{end / 1000:.0f}k" for end, _, _ in bins],
        {
            f"{size} px": [e if s == size else _nothing() for _, s, e in bins]
            for size in sorted({b[1] for b in bins})
        },
        lines=True,
        unit="samples seen",
    )
    given = ["--log RUN/log.jsonl", *(f"--scored {one.samples}=EVALUATION.json" for one in scored)]
    given += [f"--from {chosen.start}"] if chosen.start else []
    given += [f"--target {chosen.target}"] if chosen.target != TARGET else []
    given += ["--note NOTE"] if chosen.note else []
    command = " ".join(("python -m emu_edit.training.small.curve", *given))
    page = report(rows, scored, chosen.target, command, chosen.note)
    with replacing(chosen.out / "learning_curve.md") as part:
        part.write_text(page, encoding="utf-8")
    return page


def _nothing() -> Interval:
    return Interval(float("nan"), float("nan"), float("nan"))


if __name__ == "__main__":
    sys.exit(main())
