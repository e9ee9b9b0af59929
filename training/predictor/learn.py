"""Softmax regressions for the predictors, their calibration, and reports of what they get right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...core.predictors.base import TASKS, TaskPredictor
from . import world
from .corpus import (
    UNCLEAR,
    Wording,
    plain_examples,
    read_wordings,
    skeleton,
    training_skeletons,
    without_known,
)

SMOOTHING = 0.02
BATCH = 128


def answers(wordings: Sequence[Wording]) -> Tensor:
    """float32 [n, 16]: one for the task; for UNCLEAR texts the same for all, so that nothing is sure."""
    rows = torch.full((len(wordings), len(TASKS)), 1 / len(TASKS))
    for row, wording in zip(rows, wordings, strict=True):
        if wording.task != UNCLEAR:
            row.zero_()
            row[TASKS.index(wording.task)] = 1
    return rows


def bags(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Feature numbers of some texts end to end, where each begins, and each one's weight 1/sqrt(number)."""
    lengths = np.array([len(row) for row in rows])
    offsets = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    weights = np.repeat(lengths**-0.5, lengths)
    return (
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(offsets),
        torch.from_numpy(weights).float(),
    )


def learn_table(
    rows: Sequence[np.ndarray], wanted: Tensor, buckets: int, epochs: int, rate: float, drop: float, seed: int
) -> Tensor:
    """Weights [buckets, 16] of a softmax over bags of features; a share `drop` of the features is hidden."""
    table = torch.zeros(buckets, len(TASKS), requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=rate)
    rng = np.random.default_rng(seed)
    steps = len(rows) // BATCH
    for epoch in range(epochs):
        order, total = rng.permutation(len(rows)), 0.0
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            seen = [rows[i][rng.random(len(rows[i])) >= drop] for i in chosen]
            seen = [some if len(some) else rows[i] for some, i in zip(seen, chosen, strict=True)]
            numbers, offsets, weights = bags(seen)
            logits = functional.embedding_bag(numbers, table, offsets, mode="sum", per_sample_weights=weights)
            loss = functional.cross_entropy(logits, wanted[chosen], label_smoothing=SMOOTHING)
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - (epoch * steps + step) / (epochs * steps))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}", flush=True)
    return table.detach()


def temperature_for(logits: np.ndarray, tasks: Sequence[str]) -> float:
    """The temperature at which the given logits [n, 16] make the true tasks likeliest."""
    truth = torch.tensor([TASKS.index(task) for task in tasks])
    grid = np.geomspace(0.3, 10.0, 141)
    losses = [float(functional.cross_entropy(torch.from_numpy(logits / t), truth)) for t in grid]
    return round(float(grid[int(np.argmin(losses))]), 4)


def everyday_held_out(seed: int, per_task: int, name: str = "held_out") -> list[Wording]:
    """The held-out everyday wordings none of whose skeletons was trained on."""
    return without_known(read_wordings(name), training_skeletons(seed, per_task))


def judged(predictor: TaskPredictor, wordings: Sequence[Wording]) -> dict[str, Any]:
    """Accuracy, the confusions, what was wrong, and how much is said to be unsure."""
    found = predictor.predict([wording.text for wording in wordings])
    right = [prediction.ranking[0][0] == w.task for prediction, w in zip(found, wordings, strict=True)]
    sure = [prediction.sure for prediction in found]
    per_task = {task: [ok for ok, w in zip(right, wordings, strict=True) if w.task == task] for task in TASKS}
    confused = Counter(
        f"{w.task} taken for {p.ranking[0][0]}"
        for ok, p, w in zip(right, found, wordings, strict=True)
        if not ok
    )
    return {
        "n": len(wordings),
        "accuracy": round(float(np.mean(right)), 4),
        "sure": round(float(np.mean(sure)), 4),
        "accuracy_when_sure": round(
            float(np.mean([ok for ok, s in zip(right, sure, strict=True) if s] or [False])), 4
        ),
        "tasks": {task: round(float(np.mean(oks)), 4) for task, oks in per_task.items() if oks},
        "confusion": dict(confused.most_common()),
        "wrong": [
            {
                "text": w.text,
                "task": w.task,
                "predicted": p.ranking[0][0],
                "confidence": round(p.confidence, 3),
            }
            for ok, p, w in zip(right, found, wordings, strict=True)
            if not ok
        ],
    }


def held_out_templates(count: int = 8, seed: int = 11) -> list[Wording]:
    """Fillings of the world's held-out templates."""
    return [Wording(task, text, "world") for task, text in world.held_out(count, seed)]


def report(predictor: TaskPredictor, seed: int, per_task: int, everyday: str = "held_out") -> dict[str, Any]:
    """The two accuracies: held-out templates, and held-out everyday wordings (`everyday` may be "dev")."""
    written = read_wordings(everyday)
    known = {skeleton(wording.text) for wording in plain_examples(seed, per_task)}
    return {
        "predictor": predictor.name,
        "templates": judged(predictor, held_out_templates()),
        "everyday": judged(predictor, without_known(written, known)),
        "everyday_with_known_skeletons": {
            key: value
            for key, value in judged(predictor, written).items()
            if key in ("n", "accuracy", "sure", "accuracy_when_sure")
        },
    }
