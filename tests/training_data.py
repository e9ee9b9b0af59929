"""Small data sets on disk in every layout that the trainer reads, and a tiny base, for its tests."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from emu_edit.core.checkpoints import save_editor
from emu_edit.training.editor.config import TrainConfig
from emu_edit.training.editor.random_base import random_base

INSTRUCTIONS = ("make the ball red", "remove the tree", "add a small cloud", "turn it into a sketch")
TASKS = ("local", "remove", "add", "sketch")


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """A smooth random picture uint8 [H,W,3]; `size` is width, height."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    """A picture file in memory."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def pair_members(number: int, size: tuple[int, int] = (64, 64)) -> dict[str, bytes]:
    """The members of one pair of a shard."""
    record = {"key": f"{number:08d}", "instruction": INSTRUCTIONS[number % 4], "task": TASKS[number % 4]}
    return {
        f"{number:08d}.json": json.dumps(record).encode(),
        f"{number:08d}.source.png": encoded(picture(2 * number, size)),
        f"{number:08d}.target.png": encoded(picture(2 * number + 1, size)),
    }


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """A tar of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def write_shards(folder: Path, shards: int = 2, each: int = 5) -> Path:
    """A folder of our shards."""
    for shard in range(shards):
        members: dict[str, bytes] = {}
        for number in range(shard * each, (shard + 1) * each):
            members |= pair_members(number)
        write_tar(folder / "shards" / f"{shard:08d}.tar", members)
    return folder


def write_base(folder: Path) -> Path:
    """A tiny text-to-image model of random weights."""
    return save_editor(random_base("tiny"), folder)


def tiny_config(base: Path, data: Path, run: Path, **more) -> TrainConfig:
    """A run of seconds."""
    values = {
        "base": str(base),
        "data": (str(data),),
        "run": str(run),
        "size": 64,
        "batch": 2,
        "steps": 6,
        "warm_up": 2,
        "rate": 1e-3,
        "save_every": 2,
        "log_every": 1,
        "keep": 2,
        "window": 6,
        "workers": 1,
        "cpu": True,
    }
    return TrainConfig(**(values | more))
