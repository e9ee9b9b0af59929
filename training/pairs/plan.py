"""What a build is: everything its pairs follow from, as one JSON-able value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...core.errors import EmuEditError
from ...core.pairs.filters.standard import NAMES
from ...core.pairs.recipes.base import BLANK, MASKED, TRIES
from ...core.tasks import TASK_IDS
from ..small.scene import SPLITS

#: What may differ when a build is taken up again: how far it goes, and how it is run.
FREE = ("count", "max_jobs", "patience", "key_variable")
WORLD = "world"
GRAMMAR = "grammar"
MASKS = (*MASKED, BLANK)
LEAST = {"count": 1, "seed": 0, "size": 0, "tries": 1, "steps": 0, "keep": 1, "chunk_jobs": 1}
LEAST |= {"max_jobs": 0, "patience": 1}


@dataclass(frozen=True)
class BuildPlan:
    """A build. Job n is a pure function of this and of n (but for a language model's answers, which are
    written down before they are used).

    count: pairs to keep. seed: of every chance. tasks: job n has task n % len(tasks). captions: "world" for
    the procedural world, or a file, one caption a line (.txt) or {"caption", "picture"} (.jsonl). pictures: a
    folder of pictures for the tasks that start from a real one; a caption is a .txt of the same name.
    instructions: "grammar" (rules alone), "file:" and a .jsonl of ready ones, "local:FOLDER", or "server:URL"
    and `llm` the model's name there (key_variable: the environment variable that holds its key). model: a
    text-to-image model, "" for the world's own. size: pixels of the world's pictures, or of generated ones
    (0: the model's). tries, steps, keep: tries of a job, denoising steps (0: the model's), pairs kept of a
    job. filters: names of those applied, empty for all of them.
    scorer, detector, segmenter, depth, segmentation, pose: folders of models ("": none). control,
    masks: the ablation.
    chunk_jobs, shard_jobs: jobs of a unit of work and of a shard. max_jobs: give up there (0: 40 jobs a pair
    and 400). patience: give up after so many jobs in a row without a pair.
    """

    count: int
    seed: int = 0
    tasks: tuple[str, ...] = TASK_IDS
    captions: str = WORLD
    pictures: str = ""
    instructions: str = GRAMMAR
    llm: str = ""
    key_variable: str = ""
    model: str = ""
    size: int = 0
    tries: int = TRIES
    steps: int = 0
    keep: int = 1
    filters: tuple[str, ...] = ()
    scorer: str = ""
    detector: str = ""
    segmenter: str = ""
    depth: str = ""
    segmentation: str = ""
    pose: str = ""
    control: bool = True
    masks: tuple[str, ...] = MASKED
    split: str = "train"
    device: str = "cpu"
    chunk_jobs: int = 8
    shard_jobs: int = 256
    max_jobs: int = 0
    patience: int = 2000

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise EmuEditError(f"build: {name} is {getattr(self, name)}; give {least} or more.")
        kinds = ((self.tasks, "task", TASK_IDS), (self.filters, "filter", NAMES), (self.masks, "mask", MASKS))
        for names, what, known in kinds:
            for name in names:
                if name not in known:
                    raise EmuEditError(f"build: {name!r} is no {what}; give some of {', '.join(known)}.")
        for names, what, _ in (kinds[0], kinds[2]):
            if not names:
                raise EmuEditError(f"build: there are no {what}s; name at least one.")
        if self.split not in SPLITS:
            raise EmuEditError(f"build: {self.split!r} is no split; give one of {', '.join(SPLITS)}.")
        if self.shard_jobs < 1 or self.shard_jobs % self.chunk_jobs:
            raise EmuEditError(
                f"build: {self.shard_jobs} jobs in a shard are no multiple of the {self.chunk_jobs} in a "
                "chunk; give a multiple."
            )

    @property
    def chunks_per_shard(self) -> int:
        return self.shard_jobs // self.chunk_jobs

    @property
    def job_limit(self) -> int:
        """How many jobs the build may take at most."""
        return self.max_jobs or 40 * self.count + 400

    def numbers(self, chunk: int, total: int) -> range:
        """The jobs of a chunk, of `total` jobs; the last chunk may be shorter than the others."""
        return range(chunk * self.chunk_jobs, min((chunk + 1) * self.chunk_jobs, total))

    def key(self, number: int, place: int = 0) -> str:
        """The key in its shard of the pair that is `place` among those kept of job `number`."""
        return f"{number * self.keep + place:08d}"

    def to_json(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> BuildPlan:
        known: dict[str, Any] = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**known)

    def differs(self, other: BuildPlan) -> list[str]:
        """The names of what makes two builds' pairs different."""
        names = [f.name for f in fields(self) if f.name not in FREE]
        return [name for name in names if getattr(self, name) != getattr(other, name)]
