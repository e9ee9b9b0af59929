"""What Make Pair does in one run: masks somebody has made, or the recipes of a list of instructions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..core.attention.alignment import spelt
from ..core.errors import EmuEditError
from ..core.images import check_images, fill_size
from . import host
from .control import ControlChoice
from .detectors import cancellable
from .detectors import make_resident as detector_resident
from .edit import quick_look
from .filters import pictures
from .inputs import is_stand_in

if TYPE_CHECKING:
    from ..core.masks.phrases import Phrase
    from ..core.masks.sources import DetectSettings, Found, Source
    from ..core.pairs.pair_settings import PairSettings
    from ..core.pairs.records import Candidate, Instruction, PairJob

SEEDS = 2**32
MOST_BYTES = 4 * 2**30
"""Pictures that one run may make, as they lie in memory; the outputs hold them once more."""
UNDER_EACH = ("local", "texture", "add", "remove")
"""Tasks whose recipes make a candidate under each of the three masks; of the others a try makes one."""


class Work:
    """One run of the node: candidates and report lines as they come."""

    def __init__(
        self, model: Any, settings: PairSettings, control: ControlChoice | None, seed: int, tries: int
    ) -> None:
        from ..core.pairs.filters.base import Poll

        self.model, self.settings, self.control = model, settings, control
        self.seed, self.tries = seed, tries
        self.on = control is None or control.on
        self.made: list[Candidate] = []
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.poll = Poll(host.stop_if_interrupted)
        filled = settings.filled(model)
        if self.on:
            filled.check_windows()
        self.steps = int(filled.steps or 1)
        self.height, self.width = filled.size  # type: ignore[misc]

    def by_hand(self, wanted: Instruction, masks: dict[str, Tensor], words: Sequence[str] | None) -> None:
        from ..core.pairs.by_hand import ERASED, pairs_by_hand
        from ..core.pairs.recipes.base import try_seed
        from ..core.pairs.records import PairJob

        empty = [name for name, mask in masks.items() if is_stand_in(mask) or not bool(mask.any())]
        masks = {name: mask for name, mask in masks.items() if name not in empty}
        if empty:
            left = "the others are used" if masks else "the whole picture may change"
            self.notes.append(f"Empty masks were left out ({', '.join(empty)}); {left}.")
        self._check_room(1, self.tries * max(1, len(masks)))
        self._note_words(words, [wanted])
        first = PairJob("hand", self.seed, wanted)
        # No neighbour's, as the box may count on by itself; all fit the box, to be made again as first tries.
        seeds = [self.seed, *(try_seed(first, k) % SEEDS for k in range(1, self.tries))]
        host.make_resident(self.model)
        count = Steps(self.model, self.steps * len(seeds), self.poll)
        several = pairs_by_hand(
            self.model,
            wanted,
            seeds,
            masks,
            self.settings.turned() if wanted.task in ERASED else self.settings,
            drawn=self.control is None,
            control=self.on,
            words=words,
            on_step=count,
        )
        made = 0
        try:
            for some in several:
                self._keep(some, PairJob(f"hand-{some[0].seed}", some[0].seed, wanted))
                made += 1
        except Exception as problem:
            why = self._told(problem)
            if not made:
                raise
            self.notes.append(f"Try {made + 1} of {self.tries} failed, and none was made after it: {why}")
        self.lines.append(f"{wanted.task}, {wanted.instruction!r}: {len(self.made)} candidates.")

    def by_recipes(
        self,
        wanted: Sequence[Instruction],
        detector: Any,
        given: Tensor | None,
        words: Sequence[str] | None = None,
    ) -> None:
        from ..core.pairs.by_hand import ERASED
        from ..core.pairs.recipes.base import RecipeContext
        from ..core.pairs.recipes.table import candidates as candidates_of
        from ..core.pairs.recipes.table import missing
        from ..core.pairs.records import PairJob

        fixed: dict[str, Any] = {}
        if self.control is not None:
            fixed = {n: getattr(self.settings, n) for n in ("self_fraction", "cross_fraction", "blend")}
        if self.settings.guidance is not None:
            fixed["guidance"] = self.settings.guidance

        def parameters(task: str) -> dict[str, Any]:
            if self.control is None:
                return fixed
            chosen = self.settings.turned() if task in ERASED else self.settings
            return {**fixed, "generation": chosen.to_json()}

        self._note_words(words, wanted)
        count = Steps(self.model, 2 * self.steps * self.tries * len(wanted), self.poll)
        jobs = [
            PairJob(f"make-{row:05d}", (self.seed + row) % SEEDS, one, parameters=parameters(one.task))
            for row, one in enumerate(wanted)
        ]
        size = self.settings.size
        context = RecipeContext(
            backbone=self.model,
            finder=None if detector is None else InTurn(cancellable(detector, self.poll), self.model),
            picture=None if given is None else _reader(given, jobs, self.settings, self.model),
            tries=self.tries,
            steps=self.settings.steps,
            sampler=self.settings.sampler,
            size=(size, size) if isinstance(size, int) else None,
            control=self.on,
            record=True,
            words=None if words is None else tuple(words),
            on_step=count,
        )
        able = [one for one in wanted if not missing(context, one.task)]
        self._check_room(len(able), sum(self._of_one(one.task) for one in able))
        faults: list[Exception] = []
        for row, job in enumerate(jobs):
            name = f"{job.task}, {job.instruction.instruction!r}"
            why = missing(context, job.task)
            some: list[Candidate] = []
            if not why:
                try:
                    host.make_resident(self.model)
                    some = candidates_of(context, job)
                except Exception as problem:  # this one's alone: what the others give is not lost
                    why = self._told(problem)
                    faults.append(problem)
            self._keep(some, job)
            self.lines.append(f"{name}: none: {why}" if why else f"{name}: {len(some)} candidates.")
            count.reach(2 * self.steps * self.tries * (row + 1))
        if not self.made:
            for fault in faults:
                if not isinstance(fault, EmuEditError):  # ComfyUI knows what to do about some
                    raise fault
            raise EmuEditError(f"no pair came of {len(jobs)} instructions; the first: {self.lines[0]}")

    def _of_one(self, task: str) -> int:
        """How many candidates an instruction can give at the most."""
        from ..core.pairs.recipes.base import MASKED
        from ..core.pairs.recipes.table import RECIPES

        recipe = RECIPES.get(task)
        if recipe is None:
            return 0
        return (self.tries if recipe.drawn else 1) * (len(MASKED) if task in UNDER_EACH else 1)

    def _check_room(self, instructions: int, count: int) -> None:
        """Refuse, before anything is made, more pictures than the machine should hold at once."""
        size = count * 2 * 3 * 4 * self.height * self.width
        if size > MOST_BYTES:
            raise EmuEditError(
                f"{instructions} instruction{'s' * (instructions != 1)} with {self.tries} candidates each, "
                f"under every mask, are up to {count} pairs of {self.width} x {self.height} pixels, "
                f"{size / 2**30:.1f} GB of pictures where one run holds {MOST_BYTES / 2**30:g}; lower "
                "candidates, size or the number of instructions, or use the command build_pairs."
            )

    def _note_words(self, words: Sequence[str] | None, wanted: Sequence[Instruction]) -> None:
        lacking = [word for word in words or () if not any(holds(one, word) for one in wanted)]
        if lacking:
            self.notes.append(f"No caption holds {', '.join(map(repr, lacking))}, so no map was kept.")

    def _told(self, problem: Exception) -> str:
        """A fault in a line. What ComfyUI stops a run with is none, and goes on its way."""
        from ..core.pairs.faults import told

        if self.poll.stopped is not None:
            raise self.poll.stopped from None
        # ComfyUI's progress bar asks by itself.
        if isinstance(problem, getattr(host.comfy_memory, "InterruptProcessingException", ())):
            raise problem
        if not isinstance(problem, EmuEditError):
            logging.getLogger(__name__).warning("Make Pair met a fault.", exc_info=problem)
        return told(problem)

    def _keep(self, some: Sequence[Candidate], job: PairJob) -> None:
        from ..core.pairs.save import JOB

        record = {JOB: job.to_json()}
        for one in some:
            # The map of a word that neither caption holds is zeros, which would be shown as if it were one.
            maps = {word: shown for word, shown in one.maps.items() if holds(job.instruction, word)}
            self.made.append(replace(one, maps=maps, metadata={**one.metadata, **record}))

    def results(self) -> tuple[Any, ...]:
        lines = [
            json.dumps(
                {"index": k + 1, "seed": one.seed, "mask_kind": one.mask_kind, **one.parameters},
                ensure_ascii=False,
            )
            for k, one in enumerate(self.made)
        ]
        count = len(self.made)
        host.remark(self.notes)
        report = "\n".join([f"{count} candidates.", *self.notes, *self.lines])
        return self.made, *pictures(self.made, self.made[0]), "\n".join(lines), report, count


def holds(wanted: Instruction, word: str) -> bool:
    """Whether one of an instruction's captions has this word."""
    return any(spelt(word, caption.split()) for caption in (wanted.input_caption, wanted.output_caption))


@dataclass(frozen=True, eq=False)
class InTurn:
    """A detector that is brought onto its device right before it looks, and the generator back after it.

    Not both at the start: one may push the other out, and where memory is short ComfyUI moves out a part of
    a model, which then cannot run at all.
    """

    finder: Source
    model: Any

    @property
    def name(self) -> str:
        return self.finder.name

    def detect(
        self, images: Tensor, phrases: Sequence[Phrase], settings: DetectSettings
    ) -> tuple[Found, ...]:
        detector_resident(self.finder)
        found = self.finder.detect(images, phrases, settings)
        host.make_resident(self.model)
        return found


class Steps:
    """Counts denoising steps for the progress bar, shows the state, and stops when told."""

    def __init__(self, model: Any, total: int, poll: Callable[[], None]) -> None:
        self.model, self.total, self.done, self.poll = model, max(1, total), 0, poll
        self.bar = host.Progress(self.total)

    def __call__(self, info: Any) -> None:
        self.poll()
        self.done = min(self.done + 1, self.total)
        self.bar.show(self.done, self.total, quick_look(self.model, info.x0))

    def reach(self, done: int) -> None:
        self.poll()
        self.done = done
        self.bar.show(done, self.total)


def _reader(
    given: Tensor, jobs: Sequence[PairJob], settings: PairSettings, model: Any
) -> Callable[[PairJob], Tensor]:
    """Gives each job its picture [H,W,3]: its middle, in the proportions and at the size of all pairs."""
    given = check_images(given, "pictures").cpu()
    if len(given) not in (1, len(jobs)):
        raise EmuEditError(
            f"pictures: there are {len(given)} for {len(jobs)} instructions; wire one for each, or one."
        )
    height, width = settings.filled(model).size  # type: ignore[misc]
    places = {job.id: row for row, job in enumerate(jobs)}

    def picture(job: PairJob) -> Tensor:
        row = 0 if len(given) == 1 else places[job.id]
        return fill_size(given[row : row + 1], height, width)[0]

    return picture
