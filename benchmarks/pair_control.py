"""What attention control and masks are worth: the same pairs made with and without, and judged.

    python -m emu_edit.benchmarks.pair_control --pairs 120 --seed 1 [--tasks local,add] [--model BASE]
        [--json OUT.json] [--sheet OUT.png]

Every try is made four ways from one job (the same captions, seed and drawn settings): with attention control
or without, under the object's mask or none; all four share the picture that is generated first. Background's
recipe has no control and Global's no mask, so these have two ways each and no part in the sum over tasks.
The pairs are judged by training/pairs/judge.py, over all of them and over those whose first picture shows
what its caption says. `moved_mask` is the mean absolute change (0..1) outside the object's mask (the same one
for all four ways, used or not), `moved_true` outside what the edited thing covers as read. Tries in whose
first picture the object is not found have no mask and are only counted. The last rows judge the world's own
pairs, as drawn (`exact`) and through the model's autoencoder (`decoded`): the most that could be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.devices import usable_device
from ..core.errors import EmuEditError
from ..core.pairs.recipes.base import BLANK, MASKED, NoCandidate, RecipeContext, eight_bit
from ..core.pairs.recipes.table import RECIPES
from ..core.pairs.records import Candidate, PairJob
from ..core.picture_files import check_output
from ..training.pairs.judge import TASKS, Judged, Reader, judge_pair, moved_outside
from ..training.pairs.models import context_of
from ..training.pairs.plan import BuildPlan
from ..training.pairs.world import World
from ..training.small.edits import Example, make_example
from ..training.small.plans import GROWTH
from .pair_control_report import summary, table

WAYS = {
    "control, mask": (True, True),
    "control": (True, False),
    "mask": (False, True),
    "neither": (False, False),
}
SPLIT = "train"


def ways_of(task: str) -> tuple[str, ...]:
    """The ways that differ for a task."""
    if task == "background":
        return "mask", "neither"
    return ("control", "neither") if task == "global" else tuple(WAYS)


@dataclass
class Try:
    """One try: its job, the edit asked for, and by way its candidate and what was read of it; empty with the
    recipe's reason where the object was not found."""

    job: PairJob
    asked: Example
    made: dict[str, Candidate] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    reason: str = ""

    @property
    def drawn(self) -> bool:
        """Whether the picture generated first, which all ways share, shows its caption."""
        one = next(iter(self.judged.values()))
        return one.after if self.job.task == "add" else one.before

    def first(self) -> Tensor:
        """That picture."""
        one = next(iter(self.made.values()))
        return one.target if self.job.task == "add" else one.source

    def second(self, way: str) -> Tensor:
        """The picture tied to it."""
        one = self.made[way]
        return one.source if self.job.task == "add" else one.target

    def moved_mask(self, way: str) -> float | None:
        """The change outside the object's mask of the chosen kind."""
        one = self.made[way]
        kinds = [kind for kind in one.masks if kind in MASKED]
        chosen = next((o.mask_kind for o in self.made.values() if o.mask_kind != BLANK), kinds and kinds[0])
        return moved_outside(one.source, one.target, one.masks.get(chosen)) if chosen else None


def jobs(world: World, count: int, seed: int, tasks: Sequence[str], fixed: Mapping[str, Any]):
    """`count` (job, edit) of the tasks in turn. Captions do not tell sizes: no job asks to change one."""
    number = dict.fromkeys(tasks, 0)
    for n in range(count):
        task = tasks[n % len(tasks)]
        while True:
            job = world.job(seed, number[task], task, f"{task}-{number[task]:06d}")
            asked = make_example(seed, number[task], (task,), world.size, split=world.split)
            number[task] += 1
            if asked.kind not in GROWTH:
                break
        yield replace(job, parameters=dict(fixed)), asked


def tried(context: RecipeContext, job: PairJob, asked: Example, mask: str, read: Reader) -> Try:
    """A try of a job in all its ways, judged."""
    found = Try(job, asked)
    try:
        for way in ways_of(job.task):
            control, masked = WAYS[way]
            so = replace(context, control=control, masks=(mask if masked else BLANK,))
            one = RECIPES[job.task].attempt(so, job, 0)[0]
            found.made[way] = replace(one, source=eight_bit(one.source), target=eight_bit(one.target))
    except NoCandidate as reason:
        return Try(job, asked, reason=str(reason))
    for way, one in found.made.items():
        found.judged[way] = judge_pair(asked, one.source, one.target, read)
    return found


def ceiling(asked: Example, read: Reader, backbone: Backbone | None) -> dict[str, Judged]:
    """The world's own pair judged as drawn, and through the model's autoencoder."""
    both = torch.stack([torch.from_numpy(p).float() / 255 for p in (asked.source, asked.target)])
    shown = {"exact": both}
    if backbone is not None:
        with torch.inference_mode():
            shown["decoded"] = eight_bit(backbone.decode_latents(backbone.encode_image(both)).float().cpu())
    return {name: judge_pair(asked, pair[0], pair[1], read) for name, pair in shown.items()}


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[Try]]:
    """The report, and every try."""
    plan = BuildPlan(
        count=1,
        tasks=options.tasks,
        model=options.model,
        steps=options.steps,
        size=options.size,
        device=usable_device(options.device),
        split=SPLIT,
    )
    read = Reader()
    generate, exact = ("generated" in options.pictures), ("exact" in options.pictures)
    context, backbone = RecipeContext(), None
    size = options.size or 128
    if generate:
        context = context_of(plan, World(size, SPLIT, read))
        backbone = context.backbone
        if backbone is None:
            raise EmuEditError("pair_control: there is no text-to-image model; give --model.")
        size = options.size or int(backbone.defaults.get("size", 128))
    world = World(size, SPLIT, read)
    context = replace(context, finder=world)
    fixed = {} if options.guidance is None else {"guidance": options.guidance}
    tries: list[Try] = []
    ceilings: list[tuple[str, dict[str, Judged]]] = []
    began = told = time.monotonic()
    for n, (job, asked) in enumerate(jobs(world, options.pairs, options.seed, options.tasks, fixed)):
        if generate:
            tries.append(tried(context, job, asked, options.mask, read))
        if exact:
            ceilings.append((job.task, ceiling(asked, read, backbone)))
        if time.monotonic() - told > 10 or n + 1 == options.pairs:
            told = time.monotonic()
            print(f"{n + 1} of {options.pairs} pairs, {told - began:.0f} s", file=sys.stderr, flush=True)
    whole = [task for task in options.tasks if len(ways_of(task)) == len(WAYS)]
    report = {
        "benchmark": "pair_control",
        "model": backbone.name if backbone is not None else None,
        "seed": options.seed,
        "pairs": options.pairs,
        "size": size,
        "mask": options.mask,
        "steps": options.steps or None,
        "guidance": options.guidance,
        "seconds": round(time.monotonic() - began, 1),
        **summary(tries, ceilings, options.tasks, tuple(WAYS), whole),
    }
    return report, tries


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emu_edit.benchmarks.pair_control",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--pairs", type=int, default=60, metavar="N", help="tries, over the tasks in turn (60)")
    add("--seed", type=int, default=1, metavar="S")
    add("--tasks", default=",".join(TASKS), metavar="A,B", help=f"default: {','.join(TASKS)}")
    add("--model", default="", metavar="BASE", help="text-to-image model (default: the world's own)")
    add("--mask", choices=MASKED, default="soft", help="the mask of the ways that have one (soft)")
    add("--steps", type=int, default=0, metavar="N", help="denoising steps (default: the model's)")
    add("--size", type=int, default=0, metavar="PX", help="side of the pictures (default: the model's)")
    add("--guidance", type=float, metavar="G", help="of all tries (default: drawn, as the recipes do)")
    add("--pictures", nargs="+", choices=("generated", "exact"), default=["generated", "exact"])
    add("--device", default="cpu", help="cpu (default), auto, cuda, mps")
    add("--json", type=Path, metavar="FILE")
    add("--sheet", type=Path, metavar="PNG", help="first picture, the four made from it, the mask")
    add("--rows", type=int, default=24, metavar="N", help="tries on the sheet (24)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is judged, 1 with one sentence."""
    options = _parser().parse_args(arguments)
    options.tasks = tuple(name.strip() for name in options.tasks.split(",") if name.strip())
    try:
        _check(options)
        report, tries = run(options)
    except EmuEditError as slip:
        print(slip, file=sys.stderr)
        return 1
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.sheet:
        from .pair_control_report import sheet

        sheet(tries, tuple(WAYS), options.rows).save(options.sheet)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Slips are told before any work."""
    unknown = [name for name in options.tasks if name not in TASKS] or ([] if options.tasks else ["(none)"])
    if unknown:
        raise EmuEditError(
            f"pair_control: {unknown[0]!r} is no task that is judged here; give some of {', '.join(TASKS)}."
        )
    for name, least in (("pairs", 1), ("rows", 1), ("steps", 0), ("size", 0), ("seed", 0)):
        if getattr(options, name) < least:
            raise EmuEditError(f"pair_control: --{name} is {getattr(options, name)}; give {least} or more.")
    if options.json is not None and (options.json.is_dir() or not options.json.parent.is_dir()):
        raise EmuEditError(
            f"pair_control: --json {options.json} is no file in a folder that exists; give one."
        )
    if options.sheet is not None:
        check_output(options.sheet)


if __name__ == "__main__":
    sys.exit(main())
