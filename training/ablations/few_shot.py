"""(d) Task inversion from few examples, against full fine-tuning on the same ones and against an expert."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any

from ...core.task_examples import TaskExample
from ...core.task_inversion import invert_task
from ..small.recipe import Recipe
from .lab import Lab, as_picture, cases, judged, train, unseen_stream

TEACH_SEED = 11  # of the stream that examples to learn from come from
EXPERT_SEED = 12
EXPERT_RATE, FINE_RATE = 3e-4, 1e-4
EXPERT_BATCH = 16
OBJECTIVE = "squared error of the decoded edit"  # of task inversion: a change makes old results void


def measure(lab: Lab) -> dict[str, Any] | None:
    """{task: {"nearest": [error left], "name": its name, "expert": [...], "inversion": {count: [...]},
    "fine-tuning": {count: [...]}}}, errors of the test scenes in one order; seeds averaged scene by scene.
    """
    sizes, identity = lab.sizes, lab.identity()
    found: dict[str, Any] = {}
    for task in sizes.unseen:
        base = {
            "editor": identity, "task": task, "scenes": sizes.scenes, "recipe": Recipe().to_json(),
            "measure": "left",
        }  # fmt: skip
        near = lab.cells.get("d-nearest", base, partial(_nearest, lab, task))
        if near is None:
            return None
        found[task] = {**near, "inversion": {}, "fine-tuning": {}}
        key = {**base, "steps": sizes.expert_steps, "batch": EXPERT_BATCH, "rate": EXPERT_RATE}
        found[task]["expert"] = lab.cells.get("d-expert", key, partial(_expert, lab, task, near["name"]))
        if found[task]["expert"] is None:
            return None
        for count in sizes.counts:
            for method in ("inversion", "fine-tuning"):
                rows = []
                for seed in sizes.seeds:
                    key = {**base, "count": count, "seed": seed, "learning": asdict(sizes.learning)}
                    make = _inversion if method == "inversion" else _fine_tuning
                    if method == "inversion":
                        key["objective"] = OBJECTIVE
                    rows.append(
                        lab.cells.get(f"d-{method}", key, partial(make, lab, task, count, seed, near["name"]))
                    )
                if any(row is None for row in rows):
                    return None
                found[task][method][str(count)] = [sum(v) / len(v) for v in zip(*rows, strict=True)]
    return found


def _errors(lab: Lab, editor: Any, task: str, vector: Any) -> list[float]:
    shown = cases(task, lab.sizes.scenes, int(editor.defaults["size"]))
    return [row["left"] for row in judged(editor, shown, vector)]


def _nearest(lab: Lab, task: str) -> dict[str, Any]:
    """The known task, or none, that does best on scenes of the teaching stream."""
    editor = lab.editor()
    few = cases(task, min(8, lab.sizes.scenes), int(editor.defaults["size"]), TEACH_SEED, "train")
    tried = {
        name: sum(row["left"] for row in judged(editor, few, name)) for name in ("none", *editor.task_names)
    }
    name = min(tried, key=lambda key: tried[key])
    return {"name": name, "nearest": _errors(lab, editor, task, name)}


def _expert(lab: Lab, task: str, stand_in: str) -> list[float]:
    """All weights, from the editor's own on, fresh examples at every step."""
    editor = lab.editor()
    name = stand_in if stand_in in editor.task_names else editor.task_names[0]
    size = int(editor.defaults["size"])
    stream = unseen_stream(task, name, None, EXPERT_BATCH, size, EXPERT_SEED)
    train(editor, stream, lab.sizes.expert_steps, EXPERT_RATE, 0, mask_weight=0.0, tell=_teller(lab))
    return _errors(lab, editor, task, name)


def _fine_tuning(lab: Lab, task: str, count: int, seed: int, stand_in: str) -> list[float]:
    """All weights on the same few examples, as many steps and views as task inversion may take."""
    editor, learning = lab.editor(), lab.sizes.learning
    name = stand_in if stand_in in editor.task_names else editor.task_names[0]
    size = int(editor.defaults["size"])
    stream = unseen_stream(task, name, count, learning.batch, size, TEACH_SEED + 1000 * seed)
    train(editor, stream, learning.steps, FINE_RATE, seed, mask_weight=0.0, tell=_teller(lab))
    return _errors(lab, editor, task, name)


def _inversion(lab: Lab, task: str, count: int, seed: int, _: str) -> list[float]:
    editor = lab.editor()
    shown = cases(task, count, int(editor.defaults["size"]), TEACH_SEED + 1000 * seed, "train")
    examples = [
        TaskExample(as_picture(case.source)[None], as_picture(case.target)[None], case.instruction)
        for case in shown
    ]
    result = invert_task(editor, examples, task, replace(lab.sizes.learning, seed=seed))
    lab.cells.say(f"  {result.report()}")
    return _errors(lab, editor, task, result.task)


def _teller(lab: Lab):
    def tell(step: int) -> None:
        if step % 100 == 99:
            lab.cells.say(f"  step {step + 1}")

    return tell
