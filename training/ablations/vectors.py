"""(a) The task vector: none, predicted from the words, or true."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...core.predictor import task_for
from ...core.tasks import NO_TASK
from .lab import Lab, cases, judged

MODES = ("no task", "predicted task", "true task")


def measure(lab: Lab) -> dict[str, Any] | None:
    """{"success": {mode: {task: [values]}}, "inside": the same, "predicted": {task: share right}}."""
    found: dict[str, Any] = {"success": {m: {} for m in MODES}, "inside": {m: {} for m in MODES}}
    found["predicted"] = {}
    identity = lab.identity()
    for task in lab.sizes.tasks:
        key = {"editor": identity, "task": task, "scenes": lab.sizes.scenes}
        rows = lab.cells.get("a-vectors", key, partial(_of_task, lab, task))
        if rows is None:
            return None
        found["predicted"][task] = rows["predicted"]
        for mode in MODES:
            for name in ("success", "inside"):
                found[name][mode][task] = [row[name] for row in rows[mode]]
    return found


def _of_task(lab: Lab, task: str) -> dict[str, Any]:
    editor = lab.editor()
    shown = cases(task, lab.sizes.scenes, int(editor.defaults["size"]))
    guesses = [task_for(case.instruction, editor.task_names).task for case in shown]
    return {
        "no task": judged(editor, shown, NO_TASK),
        "predicted task": judged(editor, shown, guesses),
        "true task": judged(editor, shown, task),
        "predicted": sum(guess == task for guess in guesses) / len(guesses),
    }
