"""What Make Pair does in one run: masks somebody has made, or the recipes of a list of instructions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..core.errors import EmuEditError
from ..core.images import check_images, fill_size
from . import host
from .control import ControlChoice
from .detectors import cancellable
from .edit import quick_look
from .filters import pictures
from .inputs import is_stand_in

if TYPE_CHECKING:
    from ..core.pairs.pair_settings import PairSettings
    from ..core.pairs.records import Candidate, Instruction, PairJob

SEEDS = 2**32


class Work:
    """One run of the node: candidates and report lines as they come."""

    def __init__(
        self, model: Any, settings: PairSettings, control: ControlChoice | None, seed: int, tries: int
    ) -> None:
        self.model, self.settings, self.control = model, settings, control
        self.seed, self.tries = seed, tries
        self.on = control is None or control.on
        self.made: list[Candidate] = []
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.steps = int(settings.filled(model).steps or 1)

    def by_hand(self, wanted: Instruction, masks: dict[str, Tensor], words: Sequence[str] | None) -> None:
        from ..core.pairs.by_hand import ERASED, pairs_by_hand
        from ..core.pairs.records import PairJob

        empty = [name for name, mask in masks.items() if is_stand_in(mask) or not bool(mask.any())]
        masks = {name: mask for name, mask in masks.items() if name not in empty}
        if empty:
            left = "the others are used" if masks else "the whole picture may change"
            self.notes.append(f"Empty masks were left out ({', '.join(empty)}); {left}.")
        seeds = [(self.seed + k) % SEEDS for k in range(self.tries)]
        count = Steps(self.model, self.steps * len(seeds))
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
        for some in several:
            job = PairJob(f"hand-{some[0].seed}", some[0].seed, wanted)
            self._keep(some, job)
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

        count = Steps(self.model, 2 * self.steps * self.tries * len(wanted))
        jobs = [
            PairJob(f"make-{row:05d}", (self.seed + row) % SEEDS, one, parameters=parameters(one.task))
            for row, one in enumerate(wanted)
        ]
        size = self.settings.size
        context = RecipeContext(
            backbone=self.model,
            finder=cancellable(detector),
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
        for row, job in enumerate(jobs):
            name = f"{job.task}, {job.instruction.instruction!r}"
            why = missing(context, job.task)
            some: list[Candidate] = []
            if not why:
                try:
                    some = candidates_of(context, job)
                except EmuEditError as reason:  # this one's alone: what the others give is not lost
                    why = str(reason)
            self._keep(some, job)
            self.lines.append(f"{name}: none: {why}" if why else f"{name}: {len(some)} candidates.")
            count.reach(2 * self.steps * self.tries * (row + 1))
        if not self.made:
            raise EmuEditError(f"no pair came of {len(jobs)} instructions; the first: {self.lines[0]}")

    def _keep(self, some: Sequence[Candidate], job: PairJob) -> None:
        from ..core.pairs.save import JOB

        told = {JOB: job.to_json()}
        self.made += [replace(one, metadata={**one.metadata, **told}) for one in some]

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


class Steps:
    """Counts denoising steps for the progress bar, shows the state, and stops when told."""

    def __init__(self, model: Any, total: int) -> None:
        self.model, self.total, self.done = model, max(1, total), 0
        self.bar = host.Progress(self.total)

    def __call__(self, info: Any) -> None:
        host.stop_if_interrupted()
        self.done = min(self.done + 1, self.total)
        self.bar.show(self.done, self.total, quick_look(self.model, info.x0))

    def reach(self, done: int) -> None:
        host.stop_if_interrupted()
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
