"""A pair before it is read: where its pictures lie, and the words that go with them.

Readers hand out such pairs without opening a picture, so that an order can be drawn over thousands of them
in little memory and a run that was stopped finds its place again without decoding what it has seen.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...core.errors import EmuEditError


class Unreadable(Exception):
    """Why one pair cannot be used, in a few words; it is skipped, counted and reported."""


@dataclass(frozen=True)
class Slice:
    """`size` bytes of a file from `offset` on: a member of a tar."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


Blob = bytes | Path | Slice
"""An encoded picture, or where it lies."""


@dataclass(frozen=True, eq=False, repr=False)
class Pair:
    """A pair in memory: `source` and `target` uint8 [S,S,3]; `task` is "" where the data set does not say."""

    id: str
    instruction: str
    task: str
    source: np.ndarray
    target: np.ndarray


class RawPair(Protocol):
    """A pair as readers hand it out."""

    @property
    def id(self) -> str: ...

    def load(self, size: int) -> Any:
        """The pair with pictures of `size` x `size` pixels (the cache: an Encoded). Raises Unreadable."""


@dataclass(frozen=True)
class BadPair:
    """A pair (or a whole shard) that the reader itself could not make sense of, and why."""

    id: str
    reason: str


@dataclass(frozen=True, repr=False)
class StoredPair:
    """A pair of encoded pictures."""

    id: str
    instruction: str
    source: Blob
    target: Blob
    task: str = ""

    def load(self, size: int) -> Pair:
        pictures = fit_pair(read_picture(self.source, "source"), read_picture(self.target, "target"), size)
        return Pair(self.id, self.instruction, self.task, *pictures)


class PairSource(Protocol):
    """A data set, read unit by unit: a tar, a row group, a bundle of folders."""

    @property
    def name(self) -> str: ...

    def units(self) -> list[str]:
        """Names of the units, each different, in an order that is the same on every machine."""

    def stamp(self, unit: str) -> str:
        """Changes when the unit's content does: a cached unit with another stamp is made anew."""

    def read(self, unit: str) -> list[RawPair | BadPair]:
        """The unit's pairs in a fixed order. A damaged unit gives what can be read of it and BadPairs."""


def read_picture(blob: Blob, which: str) -> np.ndarray:
    """uint8 [H,W,3] of an encoded picture; Unreadable names `which` picture it was and what is wrong."""
    from PIL import Image

    try:
        data = (
            blob if isinstance(blob, bytes) else blob.read_bytes() if isinstance(blob, Path) else blob.read()
        )
    except FileNotFoundError as problem:
        raise Unreadable(f"its {which} picture is missing") from problem
    except OSError as problem:
        raise Unreadable(f"its {which} picture cannot be read ({problem})") from problem
    if not data:
        raise Unreadable(f"its {which} picture is empty")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise Unreadable(
            f"its {which} picture is damaged ({str(problem).split('<')[0].strip()})"
        ) from problem


def fit_pair(source: np.ndarray, target: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures as uint8 [size,size,3]: the shorter side becomes `size`, the middle is kept.

    Pictures of one pair may differ in size but not in proportions: then no pixel of one would lie over the
    same of the other, and Unreadable is raised. Tolerance: one part in fifty.
    """
    (h, w), (y, x) = source.shape[:2], target.shape[:2]
    if min(h, w, y, x) < 8 or abs(h * x - w * y) > 0.02 * max(h * x, w * y):
        raise Unreadable(f"its source of {w}x{h} and its target of {x}x{y} pixels do not lie over each other")
    return _fitted(source, size), _fitted(target, size)


def _fitted(picture: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    height, width = picture.shape[:2]
    if (height, width) == (size, size):
        return picture
    scale = size / min(height, width)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    resized = np.asarray(Image.fromarray(picture).resize((wide, high), Image.Resampling.LANCZOS))
    top, left = (high - size) // 2, (wide - size) // 2
    return resized[top : top + size, left : left + size]


def file_stamp(path: Path) -> str:
    """Size and time of change of a file."""
    found = path.stat()
    return f"{found.st_size}-{found.st_mtime_ns}"


def no_pairs(place: Path | str, wanted: str) -> EmuEditError:
    """The sentence for a place without data."""
    return EmuEditError(f"--data {place}: nothing to train on was found there; {wanted}.")
