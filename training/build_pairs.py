"""Build a data set of pairs: captions -> instructions -> candidates -> filters -> shards.

    python -m emu_edit.training.build_pairs --out DIR --count N --seed S [--tasks local,add] [--ray]

Without more it draws the procedural world, which needs nothing downloaded. Stop it at any time, in any way,
and give the same command again: the pairs are those of a run that was never stopped. See docs/pairs.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..core.devices import usable_device
from ..core.errors import EmuEditError
from ..core.pairs.recipes.base import MASKED, TRIES
from ..core.tasks import TASK_IDS
from .pairs.filtering import judge_of
from .pairs.jobs import known_names
from .pairs.models import FILE, context_of, jobs_of, possible, world_of
from .pairs.plan import GRAMMAR, WORLD, BuildPlan
from .pairs.run import build, one_process
from .pairs.stages import Maker


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emu_edit.training.build_pairs", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument

    def text(name: str, metavar: str, told: str, **more: Any) -> None:
        add(name, default="", metavar=metavar, help=told, **more)

    def number(name: str, default: int, told: str, metavar: str = "N") -> None:
        add(name, type=int, default=default, metavar=metavar, help=told)

    folder = "folder of the data set; taken up again if there"
    add("--out", required=True, type=Path, metavar="DIR", help=folder)
    add("--count", required=True, type=int, metavar="N", help="pairs to keep")
    number("--seed", 0, "seed of every chance (default 0)", "S")
    text("--tasks", "A,B", "task ids; default: all that can be made with what is there")
    text("--captions", "FILE", '.txt, a caption a line, or .jsonl {"caption", "picture"}')
    text("--pictures", "DIR", "real pictures; without --captions with .txt files beside them")
    how = "grammar (default), a .jsonl file, `server URL`, or `local FOLDER`"
    add("--instructions", nargs="+", default=[GRAMMAR], metavar="HOW", help=how)
    text("--llm", "NAME", "the language model's name at the server")
    text("--llm-key", "VARIABLE", "environment variable that holds the server's key", dest="key_variable")
    text("--model", "PATH", "text-to-image model: diffusers folder or .safetensors")
    number("--size", 0, "pixels of the longest side (default: the model's)", "PX")
    number("--tries", TRIES, f"tries of a job (default {TRIES})")
    number("--steps", 0, "denoising steps (default: the model's)")
    number("--keep", 1, "pairs kept of a job at most (default 1)")
    text("--filters", "A,B", "filters to apply; default: all there are models for")
    text("--scorer", "FOLDER", "CLIP, for the scores of pictures and texts")
    text("--detector", "PATH", "GroundingDINO: transformers folder or original file")
    text("--segmenter", "PATH", "SAM or SAM 2 besides")
    text("--depth", "FOLDER", "depth estimator: filter of structure, tasks depth and normal")
    text("--segmentation", "FOLDER", "segmenter of classes, for the task segmentation")
    text("--pose", "FOLDER", "ViTPose, for the task pose (needs --detector)")
    without = "without attention control (for ablations)"
    add("--no-control", dest="control", action="store_false", help=without)
    add("--masks", default=",".join(MASKED), metavar="A,B", help="masks to try, or blank (for ablations)")
    add("--split", default="train", help="the world's split (default train)")
    add("--device", default="cpu", help="cpu (default), auto, cuda, cuda:1, mps")
    number("--chunk-jobs", 8, "jobs between two writes to the disk (default 8)")
    number("--shard-jobs", 256, "jobs of a shard (default 256)")
    number("--max-jobs", 0, "give up there (default 40 a pair and 400)")
    number("--patience", 2000, "give up after N jobs in a row without a pair")
    add("--ray", action="store_true", help="on a Ray cluster (RAY_ADDRESS), or on this machine's cores")
    number("--workers", 0, "with --ray: workers (default: as many as fit)")
    add("--worker-gpus", type=float, default=0.0, metavar="X", help="with --ray: graphics cards of a worker")
    add("--quiet", action="store_true", help="say nothing but errors")
    return parser


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def plan_from(options: argparse.Namespace) -> BuildPlan:
    """The plan that the options ask for, each under the plan's own name; tasks are as given, or all."""
    given = {field.name: getattr(options, field.name) for field in fields(BuildPlan)}
    how = ":".join(options.instructions)
    if how.startswith(FILE) or how.endswith(".jsonl"):
        how = FILE + how.removeprefix(FILE)
    given |= {name: _names(given[name]) for name in ("tasks", "filters", "masks")}
    given |= {
        "tasks": given["tasks"] or TASK_IDS,
        "captions": options.captions or ("" if options.pictures else WORLD),
        "instructions": how,
    }
    return BuildPlan(**given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all pairs are there, 1 with one sentence, 130 when interrupted."""
    options = _parser().parse_args(arguments)

    def tell(line: str) -> None:
        if not options.quiet:
            print(line, flush=True)

    try:
        run(options, tell)
    except EmuEditError as slip:
        print(f"build_pairs: {slip}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbuild_pairs: interrupted; give the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def _device(options: argparse.Namespace) -> str:
    """The device that models run on; with Ray that of the workers, of which this process may have none."""
    if not options.ray:
        return usable_device(options.device)
    if options.device == "auto":
        return "cuda" if options.worker_gpus else "cpu"
    if options.device.startswith("cuda") and not options.worker_gpus:
        raise EmuEditError(
            f"--device {options.device} with --ray: Ray hides the graphics cards from workers that ask for "
            "none; give --worker-gpus 1, or a part of one, besides."
        )
    return options.device


def run(options: argparse.Namespace, tell) -> None:
    """Build what the options ask for."""
    plan = plan_from(options)
    plan = replace(plan, device=_device(options))
    world = world_of(plan)
    # With Ray the models of this process only tell what can be made, and it may have no graphics card.
    context = context_of(replace(plan, device="cpu") if options.ray else plan, world)
    tasks, impossible = possible(plan, context)
    for task, why in impossible.items():
        tell(f"{task} is left out: {why}")
    if not tasks or (options.tasks and impossible):
        task = next(iter(impossible))
        raise EmuEditError(
            f"the task {task} cannot be made: {impossible[task]}; give it, or leave the task out."
        )
    plan = replace(plan, tasks=tasks)
    began = time.monotonic()
    if options.ray:
        from .pairs.on_ray import on_ray

        del context
        manifest = on_ray(options.out, plan, tell, options.workers, options.worker_gpus)
    else:
        jobs = jobs_of(plan, world, known_names(options.out))
        maker = Maker(plan, context, judge_of(plan, context))
        manifest = build(
            options.out, plan, jobs, lambda store, total: one_process(plan, jobs, maker, store, total), tell
        )
    tell(
        f"{manifest['pairs']} pairs of {manifest['jobs']} jobs in {len(manifest['shards'])} shards, "
        f"{time.monotonic() - began:.0f} s: {options.out}"
    )


if __name__ == "__main__":
    sys.exit(main())
