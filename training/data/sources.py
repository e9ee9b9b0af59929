"""Which reader a word on the command line means, and several data sets as one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...core.errors import EmuEditError
from .pairs import BadPair, PairSource, RawPair, StoredPair, no_pairs

KINDS = ("shards", "ip2p", "magicbrush", "parquet", "world")
HELP = (
    "a data set: a folder of our shards, of InstructPix2Pix, MagicBrush or UltraEdit (folders or parquet), "
    "known by what it holds or named as shards:PATH, ip2p:PATH, magicbrush:PATH, parquet:PATH; or "
    "world:COUNT[:SEED], pairs of the procedural world"
)


def open_source(words: str) -> PairSource:
    """The data set that `words` name (see HELP). Raises EmuEditError if there is none."""
    kind, _, rest = words.partition(":")
    if kind == "world":
        return _world(words, rest)
    named = kind in KINDS and bool(rest)
    place = Path(rest if named else words).expanduser()
    if not place.exists():
        raise EmuEditError(f"--data {words}: {place} does not exist; check the spelling.")
    found = kind if named else _guess(place)
    if found == "shards":
        from .shards import ShardSource

        return ShardSource(place)
    if found == "parquet" or (found in ("ip2p", "magicbrush") and _holds(place, "**/*.parquet")):
        from .parquet import ParquetSource

        return ParquetSource(place)
    from .folders import InstructPix2PixFolder, MagicBrushFolder

    if found == "ip2p":
        return InstructPix2PixFolder(place)
    if found == "magicbrush":
        return MagicBrushFolder(place)
    raise no_pairs(place, HELP.replace("a data set: ", "give "))


def _guess(place: Path) -> str:
    if place.is_file():
        return {".tar": "shards", ".parquet": "parquet"}.get(place.suffix, "")
    if (place / "edit_sessions.json").is_file():
        return "magicbrush"
    if _holds(place, "*.tar") or _holds(place, "shards/*.tar"):
        return "shards"
    if (place / "seeds.json").is_file() or _holds(place, "*/prompt.json") or _holds(place, "*/*/prompt.json"):
        return "ip2p"
    return "parquet" if _holds(place, "**/*.parquet") else ""


def _holds(place: Path, pattern: str) -> bool:
    return place.is_dir() and next(place.glob(pattern), None) is not None


def _world(words: str, rest: str) -> PairSource:
    from .world import WorldSource

    numbers = rest.split(":")
    if not 1 <= len(numbers) <= 2 or not all(number.isdigit() for number in numbers) or not int(numbers[0]):
        raise EmuEditError(f"--data {words}: write world:COUNT or world:COUNT:SEED, such as world:100000.")
    return WorldSource(*(int(number) for number in numbers))


class ManySources:
    """Several data sets as one; their pairs and units carry the data set's place in the list."""

    def __init__(self, sources: Sequence[PairSource]) -> None:
        self._sources = list(sources)
        self.name = " + ".join(source.name for source in sources)

    def units(self) -> list[str]:
        return [f"{n}/{unit}" for n, source in enumerate(self._sources) for unit in source.units()]

    def stamp(self, unit: str) -> str:
        number, rest = unit.split("/", 1)
        return self._sources[int(number)].stamp(rest)

    def read(self, unit: str) -> list[RawPair | BadPair]:
        number, rest = unit.split("/", 1)
        found = self._sources[int(number)].read(rest)
        if len(self._sources) == 1:
            return found
        # Two data sets may number their pairs alike; those of the world carry their seed.
        return [
            replace(p, id=f"{number}:{p.id}") if isinstance(p, (StoredPair, BadPair)) else p for p in found
        ]


def open_sources(words: Sequence[str]) -> PairSource:
    """One source for all that --data names."""
    if not words:
        raise EmuEditError("--data is missing; name at least one data set.")
    return ManySources([open_source(each) for each in words])


def fingerprint(source: PairSource) -> str:
    """Sixteen digits that change when a unit is added, taken away or renamed."""
    digest = hashlib.sha256()
    for unit in source.units():
        digest.update(f"{unit}\n".encode())
    return digest.hexdigest()[:16]
