"""The pairs of a folder that training.build_pairs wrote, as the editor's trainer takes them.

Sample `index` is a pure function of the folder, the seed and the index: every round of n samples shows all n
pairs once, in an order of its own, so that a run that was stopped goes on with what it would have seen.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ...core.errors import EmuEditError
from ...core.pairs.records import PairJob
from ...core.pairs.shards import Pair, PairFolder
from .data import as_sample
from .edits import make_example

MADE_FROM = "scene"  # as pairs.world names the scene of a job


class StoredPairs(Dataset):
    """Item i -> as data.Pairs: {"source", "target" uint8 [S,S,3], "mask" uint8 [S,S], "instruction", "task"}.

    The mask is the one that the pair was made under, all 255 where it had none; pictures of another size are
    brought to `size`. With `redrawn` the same jobs show what the world itself draws for them, with its masks:
    the exact pairs that generated ones are compared with. Raises EmuEditError for a folder without pairs, and
    with `redrawn` for one whose jobs are not the world's.
    """

    def __init__(self, folder: Path, size: int, seed: int, redrawn: bool = False) -> None:
        self.size, self.seed, self.redrawn = size, seed, redrawn
        self.pairs = PairFolder(Path(folder))
        if not len(self.pairs):
            raise EmuEditError(f"training: {folder} holds no pairs; build some with training.build_pairs.")
        if redrawn:
            self._redrawn(self.pairs[0])
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __getitem__(self, index: int) -> dict[str, Any]:
        round_, place = divmod(index, len(self.pairs))
        pair = self.pairs[int(self._order(round_)[place])]
        if self.redrawn:
            return self._redrawn(pair)
        mask = pair.mask if pair.mask is not None else torch.full(pair.source.shape[:2], 255).byte()
        return {
            "source": self._fitted(pair.source),
            "target": self._fitted(pair.target),
            "mask": self._fitted(mask),
            "instruction": pair.instruction,
            "task": pair.task,
        }

    def identity(self) -> str:
        """Sixteen digits that change when the folder's shards or what is shown of them do."""
        files = sorted((self.pairs.folder / "shards").glob("[0-9]*.tar"))
        told = [(path.name, path.stat().st_size) for path in files]
        return hashlib.sha256(repr((told, self.redrawn)).encode()).hexdigest()[:16]

    def _shuffled(self, round_: int) -> np.ndarray:
        return np.random.default_rng((self.seed, round_, 13)).permutation(len(self.pairs))

    def _fitted(self, picture: Tensor) -> Tensor:
        """uint8 [H,W,3] or [H,W] at the size of training."""
        if picture.shape[:2] == (self.size, self.size):
            return picture
        planes = (picture if picture.ndim == 3 else picture[..., None]).movedim(-1, 0)[None].float()
        fitted = F.interpolate(planes, (self.size, self.size), mode="area")[0].movedim(0, -1)
        return fitted.round().byte().reshape(self.size, self.size, *picture.shape[2:]).contiguous()

    def _redrawn(self, pair: Pair) -> dict[str, Any]:
        job = PairJob.from_json(pair.record["job"])
        kind, _, rest = job.picture.partition(":")
        if kind != MADE_FROM or rest.count(":") != 2:
            raise EmuEditError(
                f"training: pair {pair.key} of {self.pairs.folder} was not made from a scene of the world, "
                "so it cannot be redrawn; leave --redrawn out."
            )
        split, seed, number = rest.split(":")
        made = make_example(int(seed), int(number), (job.task,), self.size, split=split)
        return as_sample(made) | {"instruction": pair.instruction, "task": pair.task}
