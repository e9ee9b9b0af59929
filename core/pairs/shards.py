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
from .record_checks import check_task, check_text, check_whole, mapping
from .records import MASK_KINDS, Candidate, PairJob, Score, Verdict

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
                name, ending = _named(member)
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
                told = _read(path, {name: place for name, place in files.items() if name == "json"})
                task = _record(key, told, path)["task"]
                if wanted is None or task in wanted:
                    self._places.append((path, key, files))
                    self.tasks.append(task)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path, key, places = self._places[index]
        return _pair(key, _read(path, places), path)


def read_chosen(path: Path, keys: Iterable[str]) -> list[Pair]:
    """The pairs of these keys from one shard file; of the others the places alone are looked at."""
    places = _places(path)
    return [_pair(key, _read(path, places.get(key, {})), path) for key in keys]


def _named(member: tarfile.TarInfo) -> tuple[str, str]:
    """Key and ending of a shard's file, whose key may become the name of a file elsewhere; tarfile.ReadError
    for what no writer of shards makes."""
    key, _, ending = member.name.partition(".")
    if not (member.isfile() and key.isascii() and key.isdigit() and ending):
        raise tarfile.ReadError(f"{member.name!r} in it is no file of a pair")
    return key, ending


_Places = dict[str, tuple[int, int]]
"""File ending -> (offset, size) within a shard."""


def _read(path: Path, places: _Places) -> dict[str, bytes]:
    files = {}
    with open(path, "rb") as file:
        for ending, (offset, size) in places.items():
            file.seek(offset)
            files[ending] = file.read(size)
    return files


def _places(path: Path) -> dict[str, _Places]:
    """Key -> the places of its files."""
    found: dict[str, _Places] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                key, ending = _named(member)
                found.setdefault(key, {})[ending] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OSError) as damage:
        raise EmuEditError(f"shard {path} cannot be read ({damage}); build or copy it again.") from damage
    return found


def _pair(key: str, files: Mapping[str, bytes], path: Path) -> Pair:
    record = _record(key, files, path)
    try:
        masks = {k: _picture(files[f"mask.{k}.png"], "L") for k in MASK_KINDS if f"mask.{k}.png" in files}
        source, target = _picture(files["source.png"], "RGB"), _picture(files["target.png"], "RGB")
        if {target.shape[:2], *(mask.shape for mask in masks.values())} != {source.shape[:2]}:
            raise ValueError("its pictures are not of one size")
        return Pair(key, source, target, masks, record)
    except (KeyError, ValueError, OSError) as damage:
        raise _damaged(key, path, damage) from damage


def _record(key: str, files: Mapping[str, bytes], path: Path) -> Mapping[str, Any]:
    """A pair's record, in which is what its readers count on, whoever wrote the shard."""
    try:
        record = mapping(json.loads(files["json"]), "its record")
        check_task(record["task"], "its record")
        for name in ("instruction", "input_caption", "output_caption"):
            check_text(record[name], f"its {name}")
        check_whole(record["seed"], "its seed")
        if record["mask_kind"] not in MASK_KINDS:
            raise ValueError(f"its mask kind is {record['mask_kind']!r}")
        for score in record["scores"]:
            Score.from_json(score)
        return record
    except (KeyError, TypeError, ValueError, RecursionError) as damage:
        raise _damaged(key, path, damage) from damage


def _damaged(key: str, path: Path, damage: Exception) -> EmuEditError:
    told = str(damage).rstrip(".")
    told = told if isinstance(damage, EmuEditError) else f"{type(damage).__name__}: {told}"
    return EmuEditError(f"pair {key} of shard {path} cannot be read ({told}); build or copy the shard again.")


def _picture(data: bytes, mode: str) -> Tensor:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            return torch.from_numpy(np.array(opened.convert(mode)))
    except Image.DecompressionBombError as bomb:
        raise ValueError("a picture is too large") from bomb
