"""Latents and text encodings on disk, one safetensors file a unit of the data set, checked by fingerprint.

A file holds image [N,C,h,w], target [N,C,h,w], texts [U,L,W] (each different instruction once) and text_of
[N], float16 and int32; its label says which autoencoder, text encoder and size it was made with, and which
state of which unit it holds. What does not match is refused (another model) or made anew (other data).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...core.errors import EmuEditError
from ...core.pairs.durable import clear_parts, write_whole
from ..data.pairs import BadPair, Pair, PairSource, RawPair, Unreadable
from .encode import Encoded, Encoder

FORMAT = "emu-edit-latents 1"
INDEX = "cache.json"
DAY = 86400.0  # seconds


@dataclass(frozen=True, repr=False)
class CachedPair:
    """Row `row` of a cache file."""

    id: str
    instruction: str
    task: str
    file: Path
    row: int
    text: int

    def load(self, size: int) -> Encoded:
        try:
            with safe_open(str(self.file), framework="pt") as reader:
                parts = (("image", self.row), ("target", self.row), ("texts", self.text))
                image, target, hidden = (reader.get_slice(name)[index] for name, index in parts)
        except (SafetensorError, OSError) as problem:
            raise Unreadable(f"{self.file.name} of the cache is damaged ({problem})") from problem
        return Encoded(self.id, self.instruction, self.task, image, target, hidden)


class LatentCache:
    """A data set encoded into `folder`; itself a source of pairs (PairSource) once `build` has run.

    `fingerprint` names the frozen parts (model.frozen_fingerprint). A folder made with others, or for another
    size, raises EmuEditError.
    """

    def __init__(self, source: PairSource, folder: Path, fingerprint: str, size: int) -> None:
        self.name = source.name
        self._source, self._folder, self._size = source, folder, size
        self._identity = f"{FORMAT}, size {size}, model {fingerprint}"
        index = folder / INDEX
        if index.is_file():
            try:
                found = json.loads(index.read_text(encoding="utf-8"))["identity"]
            except (ValueError, KeyError, TypeError) as problem:
                raise EmuEditError(f"--cache {folder}: {INDEX} is damaged; delete the folder.") from problem
            if found != self._identity:
                raise EmuEditError(
                    f"--cache {folder} was made as {found!r} and this run needs {self._identity!r}; give "
                    "another folder, or delete this one."
                )

    def units(self) -> list[str]:
        return self._source.units()

    def stamp(self, unit: str) -> str:
        return self._source.stamp(unit)

    def build(
        self,
        encoder: Encoder,
        part: int = 0,
        parts: int = 1,
        workers: int = 4,
        say: Callable[[int, int], None] = lambda done, total: None,
    ) -> int:
        """Encode the units that are missing or out of date, this process every `parts`-th; returns how many.

        Each file is written whole or not at all, so a killed build goes on where it was.
        """
        units = self.units()
        clear_parts(self._folder, older=DAY)  # younger ones may be another run's, still at work
        if part == 0 and not (self._folder / INDEX).is_file():  # once is enough
            write_whole(self._folder / INDEX, json.dumps({"identity": self._identity}).encode())
        made = 0
        for number, unit in enumerate(units):
            if number % parts == part and not self._is_there(unit):
                self._encode(unit, encoder, workers)
                made += 1
            say(number + 1, len(units))
        return made

    def _file(self, unit: str) -> Path:
        name = hashlib.sha256(f"{unit} {self.stamp(unit)}".encode()).hexdigest()[:24]
        return self._folder / f"{name}.safetensors"

    def _is_there(self, unit: str) -> bool:
        file = self._file(unit)
        if not file.is_file():
            return False
        try:
            with safe_open(str(file), framework="pt") as reader:
                return (reader.metadata() or {}).get("identity") == self._identity
        except (SafetensorError, OSError):
            return False

    def _encode(self, unit: str, encoder: Encoder, workers: int) -> None:
        pairs: list[Pair] = []
        bad: list[BadPair] = []
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for found in pool.map(self._loaded, self._source.read(unit)):
                (pairs if isinstance(found, Pair) else bad).append(found)  # type: ignore[arg-type]
        texts = list(dict.fromkeys(pair.instruction for pair in pairs))
        tensors = {}
        if pairs:
            image, target = encoder.pictures(pairs)
            chunks = [encoder.texts(texts[i : i + 32]) for i in range(0, len(texts), 32)]
            tensors = {"image": image, "target": target, "texts": torch.cat(chunks)}
            tensors = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
            if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
                raise EmuEditError(
                    f"--cache: the encoded pictures or texts of {unit} hold NaN or infinities; run the base "
                    "in fp32 and look at its autoencoder."
                )
        rows = [[pair.id, pair.instruction, pair.task, texts.index(pair.instruction)] for pair in pairs]
        label = {
            "identity": self._identity,
            "unit": unit,
            "rows": json.dumps(rows),
            "bad": json.dumps([[entry.id, entry.reason] for entry in bad]),
        }
        write_whole(self._file(unit), save(tensors, metadata=label))

    def _loaded(self, pair: RawPair | BadPair) -> Pair | BadPair:
        if isinstance(pair, BadPair):
            return pair
        try:
            return pair.load(self._size)
        except Unreadable as problem:
            return BadPair(pair.id, str(problem))

    def read(self, unit: str) -> list[RawPair | BadPair]:
        file = self._file(unit)
        try:
            with safe_open(str(file), framework="pt") as reader:
                label: dict[str, Any] = dict(reader.metadata() or {})
        except (SafetensorError, OSError) as problem:
            raise EmuEditError(
                f"--cache: {file} cannot be read ({problem}); delete it and give the same command again."
            ) from problem
        rows: Sequence[Any] = json.loads(label["rows"])
        found: list[RawPair | BadPair] = [
            CachedPair(name, words, task, file, row, text)
            for row, (name, words, task, text) in enumerate(rows)
        ]
        return found + [BadPair(name, reason) for name, reason in json.loads(label["bad"])]
