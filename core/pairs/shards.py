"""Pairs on disk: numbered tar shards, their index, and how both are read.

A folder of pairs holds

    shards/00000000.tar       pairs; shard s holds what was kept of jobs s*J .. s*J+J-1 (J: jobs in a shard)
    records/00000000.jsonl    one line for each job of shard s, those that came to nothing too
    index.parquet             one row for each pair (INDEX_COLUMNS); index.jsonl where pyarrow is missing
    manifest.json             written last: {"pairs": N, "shards": [{"name", "pairs", "bytes", "sha256"}]}

and a shard, in this order, for each pair with the key NNNNNNNN (eight digits, the number of its job; where a
build keeps several pairs of a job, job * keep + place):

    NNNNNNNN.json              the pair's record (below), keys sorted
    NNNNNNNN.mask.box.png      masks, 8-bit grey, 255 = where the edit was meant to be; which there are
    NNNNNNNN.mask.precise.png  depends on the task, a whole-picture task has none
    NNNNNNNN.mask.soft.png
    NNNNNNNN.source.png        the pictures before and after, 8-bit RGB, of one size
    NNNNNNNN.target.png

which webdataset reads as {"json", "mask.box.png", ..., "source.png", "target.png"}. The record holds "key",
"task" (what the pair goes under), "instruction", "input_caption", "output_caption", "original_object",
"edited_object", "mask_kind" (the mask the edit was made under), "masks" (the kinds there are), "width",
"height", "seed", "rank", "scores" and "job" and "candidate", with which the pair can be made again.

The bytes of a shard follow from its pairs alone: files are regular, mode 644, of time 0 and of user 0.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import EmuEditError
from .records import MASK_KINDS, Candidate, PairJob, Verdict

SHARDS, RECORDS = "shards", "records"
MANIFEST = "manifest.json"
INDEX_COLUMNS = (
    "key",
    "shard",
    "task",
    "instruction",
    "input_caption",
    "output_caption",
    "original_object",
    "edited_object",
    "mask_kind",
    "width",
    "height",
    "seed",
    "rank",
)


@dataclass(frozen=True, eq=False)
class Pair:
    """One pair as read: `source` and `target` uint8 [H,W,3], `masks` kind -> uint8 [H,W], and its record."""

    key: str
    source: Tensor
    target: Tensor
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        return self.record["task"]

    @property
    def instruction(self) -> str:
        return self.record["instruction"]

    @property
    def mask(self) -> Tensor | None:
        """The mask that the edit was made under, uint8 [H,W]; None where the whole picture might change."""
        return self.masks.get(self.record.get("mask_kind", "blank"))


def pair_record(key: str, job: PairJob, candidate: Candidate, verdict: Verdict) -> dict[str, Any]:
    """What a shard says of a pair beside its pictures."""
    height, width = candidate.source.shape[:2]
    words = candidate.instruction
    return {
        "key": key,
        "task": verdict.task,
        "instruction": words.instruction,
        "input_caption": words.input_caption,
        "output_caption": words.output_caption,
        "original_object": words.original_object,
        "edited_object": words.edited_object,
        "mask_kind": candidate.mask_kind,
        "masks": sorted(candidate.masks),
        "width": width,
        "height": height,
        "seed": candidate.seed,
        "rank": verdict.rank,
        "scores": [score.to_json() for score in verdict.scores],
        "job": job.to_json(),
        "candidate": candidate.to_json(),
    }


def pair_files(record: Mapping[str, Any], candidate: Candidate) -> dict[str, bytes]:
    """The files of one pair by name, in the order in which a shard holds them."""
    key = record["key"]
    files = {f"{key}.json": dump(record)}
    files |= {f"{key}.mask.{kind}.png": png(candidate.masks[kind]) for kind in sorted(candidate.masks)}
    files[f"{key}.source.png"] = png(candidate.source)
    files[f"{key}.target.png"] = png(candidate.target)
    return files


def dump(record: Mapping[str, Any]) -> bytes:
    """A record as one line of JSON without its line end, always the same for the same record.

    Half a character (a lone surrogate, as a language model's JSON may hold) becomes "?".
    """
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


def png(picture: Tensor) -> bytes:
    """A picture [H,W,3] or mask [H,W], floats in 0..1 (rounded) or uint8, as a PNG file."""
    from PIL import Image

    if picture.dtype != torch.uint8:
        picture = (picture.detach().to("cpu", torch.float32).clamp(0, 1) * 255).round().to(torch.uint8)
    file = io.BytesIO()
    Image.fromarray(picture.contiguous().numpy()).save(file, format="PNG")
    return file.getvalue()


def members(files: Mapping[str, bytes]) -> bytes:
    """The files, in the order given, as they stand in a tar archive; the same files give the same bytes."""
    blocks = []
    for name, data in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)  # time, user and group are 0 and the mode is 644 by default
        padding = b"\0" * (-len(data) % tarfile.BLOCKSIZE)
        blocks += [info.tobuf(tarfile.USTAR_FORMAT), data, padding]
    return b"".join(blocks)


#: What ends a tar archive; `members` of any number of pairs and then this make a whole one.
TAR_END = b"\0" * (2 * tarfile.BLOCKSIZE)


def read_shard(path: Path) -> Iterator[Pair]:
    """The pairs of one shard file, one at a time in its order."""
    try:
        with tarfile.open(path) as archive:
            key, files = "", dict[str, bytes]()
            for member in archive:
                name, _, ending = member.name.partition(".")
                if name != key and files:
                    yield _pair(key, files, path)
                    files = {}
                key = name
                files[ending] = archive.extractfile(member).read()  # type: ignore[union-attr]
            if files:
                yield _pair(key, files, path)
    except (tarfile.TarError, EOFError, OSError) as damage:
        raise EmuEditError(f"shard {path} cannot be read ({damage}); build or copy it again.") from damage


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder of pairs in order, or EmuEditError if it holds none."""
    paths = sorted((folder / SHARDS).glob("[0-9]*.tar"))
    if not paths:
        raise EmuEditError(
            f"pairs: {folder} holds no {SHARDS}/NNNNNNNN.tar; give a folder that training.build_pairs wrote."
        )
    return paths


def read_pairs(folder: Path) -> Iterator[Pair]:
    """All pairs of a folder in order, one shard open at a time."""
    for path in shard_paths(folder):
        yield from read_shard(path)


class PairFolder(Sequence[Pair]):
    """The pairs of a folder by number, for training in any order: only the places of the files are kept.

    Every look reads the one pair's files from its shard. A copy in another process opens the shards itself.
    """

    def __init__(self, folder: Path, tasks: Iterable[str] | None = None) -> None:
        self.folder = Path(folder)
        wanted = None if tasks is None else set(tasks)
        self._places: list[tuple[Path, str, dict[str, tuple[int, int]]]] = []
        self.tasks: list[str] = []
        for path in shard_paths(self.folder):
            for key, files in _places(path).items():
                offset, size = files["json"]
                with open(path, "rb") as file:
                    file.seek(offset)
                    task = json.loads(file.read(size))["task"]
                if wanted is None or task in wanted:
                    self._places.append((path, key, files))
                    self.tasks.append(task)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path, key, places = self._places[index]
        files = {}
        with open(path, "rb") as file:
            for ending, (offset, size) in places.items():
                file.seek(offset)
                files[ending] = file.read(size)
        return _pair(key, files, path)


def _places(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Key -> file ending -> (offset, size) within a shard."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                found.setdefault(key, {})[ending] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OSError) as damage:
        raise EmuEditError(f"shard {path} cannot be read ({damage}); build or copy it again.") from damage
    return found


def _pair(key: str, files: Mapping[str, bytes], path: Path) -> Pair:
    try:
        masks = {k: _picture(files[f"mask.{k}.png"], "L") for k in MASK_KINDS if f"mask.{k}.png" in files}
        record = json.loads(files["json"])
        source, target = _picture(files["source.png"], "RGB"), _picture(files["target.png"], "RGB")
        return Pair(key, source, target, masks, record)
    except (KeyError, ValueError, OSError) as damage:
        raise EmuEditError(
            f"pair {key} of shard {path} cannot be read ({type(damage).__name__}: {damage}); build or copy "
            "the shard again."
        ) from damage


def _picture(data: bytes, mode: str) -> Tensor:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        return torch.from_numpy(np.array(opened.convert(mode)))
