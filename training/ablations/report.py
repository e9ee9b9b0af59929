"""The measurements as docs/ablations.md and its plots, with what the paper says beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .chart import chart
from .lab import Sizes
from .statistics import Interval, mean_of, mean_over, share_of

NOT_RUN = "**Not run at these sizes.** `make ablations` measures it."
VECTORS, EXPERTS, COUNTS, FEW, TURNS = "a", "b", "c", "d", "e"
ALL = (VECTORS, EXPERTS, COUNTS, FEW, TURNS)
BLANK = 0.95  # error left above which an answer is no better than nothing


def write_report(
    folder: Path, found: dict[str, dict[str, Any] | None], sizes: Sizes, editor: str, command: str
) -> Path:
    """Write `folder`/ablations.md and the plots of what was measured (`found`: letter -> result or None)."""
    parts = [
        "# Ablations",
        "Emu Edit's ablations, reproduced small: the bundled editor and its drawn world in place of a large "
        "model and photographs. Every number is a mean with its 95 % interval (percentile "
        "bootstrap over edits). Success, error inside and outside are those of `training/evaluate`: an error "
        "inside of 1 is that of doing nothing, 0 is perfect.",
        f"Made by `{command}` with the editor `{editor}`. Results are kept cell by cell, so a stopped run "
        "goes on with the same command.",
    ]
    for letter, title, make in (
        (VECTORS, "(a) The task vector", _vectors),
        (EXPERTS, "(b) One model against experts", _experts),
        (COUNTS, "(c) The number of tasks", _counts),
        (FEW, "(d) Task inversion", _few_shot),
        (TURNS, "(e) Many turns", _turns),
    ):
        parts.append(f"## {title}")
        result = found.get(letter)
        parts += [NOT_RUN] if result is None else make(folder, result, sizes)
    path = folder / "ablations.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(higher: Interval, lower: Interval, claim: str) -> str:
    """Whether the paper's claim, that one number is above another, is seen here."""
    if higher.overlaps(lower):
        return f"{claim}: not told apart here, the intervals overlap."
    return f"{claim}: {'seen here, too' if higher.mean > lower.mean else '**the opposite is seen here**'}."


def _vectors(folder: Path, found: dict[str, Any], sizes: Sizes) -> list[str]:
    rows, points = [], {}
    for mode, tasks in found["success"].items():
        success, inside = mean_over(tasks), mean_over(found["inside"][mode])
        points[mode] = (success, inside)
        rows.append([mode, str(success), str(inside)])
    labels = list(found["success"]["true task"])
    series = {mode: [mean_of(v) for v in tasks.values()] for mode, tasks in found["inside"].items()}
    chart(folder / "ablation_a.png", "Error left inside, by task", labels, series)
    right = sum(found["predicted"].values()) / len(found["predicted"])
    none, guessed, true = (points[mode][1] for mode in found["success"])
    return [
        f"{sizes.scenes} held-out scenes of each of {len(labels)} tasks; means over tasks. The predictor "
        f"(words alone) names the right task for {right:.1%} of these instructions.",
        table(["mode", "success", "error left inside"], rows),
        "![Error left inside by task](ablation_a.png)",
        "- " + verdict(none, true, "Paper: without the task vector more goes wrong than with the true one"),
        "- " + _same(guessed, true, "Paper: the predicted task is about as good as the true one"),
    ]


def _same(first: Interval, second: Interval, claim: str) -> str:
    return f"{claim}: {'seen here, too' if first.overlaps(second) else '**it differs here**'}."


def _experts(folder: Path, found: dict[str, Any], sizes: Sizes) -> list[str]:
    tasks = list(found["experts"])
    series = {name: [mean_of(found[name][task]) for task in tasks] for name in found}
    chart(folder / "ablation_b.png", "Success, by task", tasks, series)
    rows = [[task, *(str(series[name][i]) for name in series)] for i, task in enumerate(tasks)]
    means = {name: mean_over(found[name]) for name in found}
    rows.append(["mean", *(str(means[name]) for name in series)])
    return [
        f"From scratch at {sizes.pixels} pixels, {sizes.steps} steps of {sizes.batch} for every model, "
        f"{len(sizes.seeds)} seeds; one model of {len(sizes.tasks)} tasks, experts of one; {sizes.scenes} "
        "held-out scenes a task and seed.",
        table(["task", *series], rows),
        "![Success by task](ablation_b.png)",
        "- "
        + verdict(means["one model"], means["experts"], "Paper: one model of all tasks beats the experts"),
    ]


def _counts(folder: Path, found: dict[str, Any], sizes: Sizes) -> list[str]:
    values = [mean_of(row) for row in found.values()]
    title = f"Success at {sizes.probe}, by the number of tasks"
    chart(folder / "ablation_c.png", title, list(found), {sizes.probe: values}, lines=True, unit="tasks")
    return [
        f"From scratch as in (b), {len(sizes.seeds)} seeds, judged at `{sizes.probe}` alone.",
        table(
            ["tasks", f"success at {sizes.probe}"], [[n, str(v)] for n, v in zip(found, values, strict=True)]
        ),
        "![Success by number of tasks](ablation_c.png)",
        "- " + verdict(values[-1], values[0], "Paper: more tasks make each better"),
    ]


def _few_shot(folder: Path, found: dict[str, Any], sizes: Sizes) -> list[str]:
    parts = [
        "Tasks that the editor was never trained on, "
        f"{sizes.scenes} test scenes each, examples of {len(sizes.seeds)} seed(s). *Nearest* is the best "
        "known task on them; the *expert* is the whole editor trained on with fresh examples for "
        f"{sizes.expert_steps} steps of 16; *fine-tuning* the whole editor on the same few examples as "
        f"task inversion, {sizes.learning.steps} steps of {sizes.learning.batch}. The *share* is of the "
        "expert's gain over the nearest task. Error left: the mean absolute error over what there was to "
        "draw; 1 is the picture left as it is, or a blank page where the task wants little on one. Not all "
        "alike: task inversion minimises the squared error of the picture and holds a part of its examples "
        "out (two of ten), the others minimise squared and absolute errors as the editor's training does, "
        "on all examples.",
    ]
    for task, rows in found.items():
        near, expert = rows["nearest"], rows["expert"]
        gain = [n - e for n, e in zip(near, expert, strict=True)]
        drawn = mean_of(expert).mean <= BLANK
        lines = [[f"nearest: {rows['name']}", str(mean_of(near)), ""]]
        series: dict[str, list[Interval]] = {}
        for method in ("inversion", "fine-tuning"):
            for count, values in rows[method].items():
                share = str(share_of([n - v for n, v in zip(near, values, strict=True)], gain))
                lines.append([f"{method}, {count} examples", str(mean_of(values)), share if drawn else ""])
                series.setdefault(method, []).append(mean_of(values))
        lines.append(["expert", str(mean_of(expert)), ""])
        counts = list(rows["inversion"])
        series["nearest"] = [mean_of(near)] * len(counts)
        series["expert"] = [mean_of(expert)] * len(counts)
        file = f"ablation_d_{task.replace('-', '_')}.png"
        chart(folder / file, f"{task}: error left", counts, series, lines=True, unit="examples")
        parts += [
            f"### {task}",
            table(["method", "error left", "share of the expert's gain"], lines),
            f"![{task}]({file})",
        ]
        if not mean_of(expert).mean < mean_of(near).mean:
            parts.append("The expert is no better than the nearest task here, so the shares say nothing.")
        if not drawn:
            parts.append(
                "**Nothing is drawn here yet**, not even by the expert: the picture left as it is, or a "
                "blank page, comes as near or nearer. So these numbers say nothing of the paper's claims."
            )
            continue
        most = counts[-1]
        learnt, tuned = (mean_of(rows[method][most]) for method in ("inversion", "fine-tuning"))
        claim = f"Paper: task inversion is about as good as fine-tuning on the same examples (here {most})"
        parts.append("- " + _same(learnt, tuned, claim))
    parts.append("Paper: one example helps much, about a hundred come near the expert.")
    return parts


def _turns(folder: Path, found: dict[str, Any], sizes: Sizes) -> list[str]:
    ways = list(found["untouched"])
    series = {way: [mean_of(values) for values in found["untouched"][way]] for way in ways}
    turns = [str(n + 1) for n in range(len(series[ways[0]]))]
    title = "Error where no turn changes anything"
    chart(folder / "ablation_e.png", title, turns, series, lines=True, unit="turns")
    rows = [
        [way, str(series[way][0]), str(series[way][-1]), str(mean_of(found["recoloured"][way][-1]))]
        for way in ways
    ]
    last = {way: series[way][-1] for way in ways}
    return [
        f"{sizes.chains} scenes of two things, recoloured in turn {sizes.turns} times; mean absolute error "
        "against the true picture (0 to 1), where no turn changes anything and where one does.",
        table(["", "untouched, first turn", "untouched, last turn", "recoloured, last turn"], rows),
        "![Error by turn](ablation_e.png)",
        "- "
        + verdict(last[ways[0]], last[ways[1]], "Paper: without thresholding artefacts pile up over turns"),
    ]
