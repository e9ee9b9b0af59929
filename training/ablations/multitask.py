"""(b) One model of many tasks against an expert for each, and (c) how many tasks, from scratch and small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...core.tasks import TASK_IDS
from ..small.recipe import Recipe
from .lab import Lab, cases, judged, new_editor, train, world_stream

RATE = 1e-3


def experts(lab: Lab) -> dict[str, Any] | None:
    """{"one model": {task: [success]}, "experts": the same}; equal steps for every model, seeds pooled."""
    sizes = lab.sizes
    found: dict[str, dict[str, list[float]]] = {"one model": {}, "experts": {}}
    for seed in sizes.seeds:
        rows = _trained(lab, sizes.tasks, sizes.expert_tasks, seed)
        if rows is None:
            return None
        for task in sizes.expert_tasks:
            alone = _trained(lab, (task,), (task,), seed)
            if alone is None:
                return None
            found["one model"].setdefault(task, []).extend(rows[task])
            found["experts"].setdefault(task, []).extend(alone[task])
    return found


def counts(lab: Lab) -> dict[str, Any] | None:
    """{number of tasks: [success on the probe task]}; the sets grow by the order of the sixteen."""
    sizes = lab.sizes
    others = [task for task in sizes.tasks if task != sizes.probe]
    found: dict[str, list[float]] = {}
    for count in sizes.task_counts:
        chosen = tuple(sorted((sizes.probe, *others[: count - 1]), key=TASK_IDS.index))
        for seed in sizes.seeds:
            rows = _trained(lab, chosen, (sizes.probe,), seed)
            if rows is None:
                return None
            found.setdefault(str(len(chosen)), []).extend(rows[sizes.probe])
    return found


def _trained(
    lab: Lab, tasks: Sequence[str], judge: Sequence[str], seed: int
) -> dict[str, list[float]] | None:
    """{task: [success]} of a model trained from scratch on `tasks`."""
    sizes = lab.sizes
    key = {
        "tasks": list(tasks),
        "judge": list(judge),
        "seed": seed,
        "pixels": sizes.pixels,
        "pictures": sizes.pictures,
        "steps": sizes.steps,
        "batch": sizes.batch,
        "scenes": sizes.scenes,
        "recipe": Recipe().to_json(),
    }
    return lab.cells.get("bc-trained", key, lambda: _train(lab, tasks, judge, seed))


def _train(lab: Lab, tasks: Sequence[str], judge: Sequence[str], seed: int) -> dict[str, list[float]]:
    sizes = lab.sizes
    editor = new_editor(sizes.pixels, seed, sizes.pictures)
    stream = world_stream(tasks, sizes.batch, sizes.pixels, seed)

    def tell(step: int) -> None:
        if step % 100 == 99:
            lab.cells.say(f"  step {step + 1}/{sizes.steps}")

    train(editor, stream, sizes.steps, RATE, seed, tell=tell)
    return {
        task: [row["success"] for row in judged(editor, cases(task, sizes.scenes, sizes.pixels), task)]
        for task in judge
    }
