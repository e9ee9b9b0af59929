"""Pairs of the procedural world as batches of tensors.

Sample `index` is a pure function of the seed and the index, so a run that was stopped at sample n and goes
on from n sees what an uninterrupted run sees.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .edits import TASKS, Example, make_example, make_picture
from .layout import layout
from .translations import MAPS


class Pairs(Dataset):
    """Item i -> {"source", "target" uint8 [S,S,3], "mask" uint8 [S,S], "instruction" str, "task" str}, and
    with `layouts` "before", "after" uint8, what is where in source and target (see layout.py).

    `weights`: how often each task is drawn (edits.TASK_WEIGHTS); evenly without.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        tasks: Sequence[str] = TASKS,
        split: str = "train",
        weights: Mapping[str, float] | None = None,
        layouts: bool = False,
    ) -> None:
        self.seed, self.size, self.tasks, self.split = seed, size, tuple(tasks), split
        self.weights, self.layouts = weights, layouts

    def __getitem__(self, index: int) -> dict[str, Any]:
        made = make_example(self.seed, index, self.tasks, self.size, split=self.split, weights=self.weights)
        return as_sample(made) | (layouts_of(made) if self.layouts else {})


class Pictures(Dataset):
    """Item i -> {"picture" uint8 [S,S,3], "caption" str}, and with `layouts` "after" uint8, what is where in
    it (see layout.py): what a text-to-image base of this world learns.
    """

    def __init__(self, seed: int, size: int, split: str = "train", layouts: bool = False) -> None:
        self.seed, self.size, self.split, self.layouts = seed, size, split, layouts

    def __getitem__(self, index: int) -> dict[str, Any]:
        picture, said, scene = make_picture(self.seed, index, self.size, self.split)
        sample = {"picture": torch.from_numpy(picture), "caption": said}
        return sample | ({"after": torch.from_numpy(layout(scene, self.size))} if self.layouts else {})


def as_sample(made: Example) -> dict[str, Any]:
    """An example as Pairs gives it out."""
    return {
        "source": torch.from_numpy(made.source),
        "target": torch.from_numpy(made.target),
        "mask": torch.from_numpy(np.round(made.mask * 255).astype(np.uint8)),
        "instruction": made.instruction,
        "task": made.task,
    }


def layouts_of(made: Example) -> dict[str, Tensor]:
    """What is where in source and target of an example, "before" and "after", uint8 (see layout.py)."""
    assert made.before is not None and made.after is not None
    size, mapped = made.source.shape[0], made.task in MAPS
    return {
        "before": torch.from_numpy(layout(made.before, size, bare=mapped and made.kind == "back")),
        "after": torch.from_numpy(layout(made.after, size, bare=mapped and made.kind != "back")),
    }


def batches(pairs: Dataset, start: int, batch: int, workers: int = 1) -> Iterator[dict[str, Any]]:
    """Batches of samples start, start + 1, ... without end."""
    loader = DataLoader(
        pairs,
        batch_size=batch,
        sampler=range(start, 2**40),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        worker_init_fn=prepare_worker,
    )
    return iter(loader)


def prepare_worker(_: int) -> None:
    """What a process that draws samples does first."""
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group: the trainer answers it and then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def to_planes(pictures: Tensor) -> Tensor:
    """uint8 [B,S,S,3] -> float32 [B,3,S,S] in -1..1, as the autoencoder takes them."""
    return pictures.movedim(-1, 1).float() / 127.5 - 1
