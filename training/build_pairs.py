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
from dataclasses import replace
from pathlib import Path

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
    add(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of the data set; taken up again if there",
    )
    add("--count", required=True, type=int, metavar="N", help="pairs to keep")
    add("--seed", type=int, default=0, metavar="S")
    add(
        "--tasks",
        default="",
        metavar="A,B",
        help="task ids; default: all that can be made with what is there",
    )
    add(
        "--captions",
        default="",
        metavar="FILE",
        help='.txt, a caption a line, or .jsonl {"caption", "picture"}',
    )
    add(
        "--pictures",
        default="",
        metavar="DIR",
        help="real pictures; without --captions with .txt files beside them",
    )
    add(
        "--instructions",
        nargs="+",
        default=[GRAMMAR],
        metavar="HOW",
        help="grammar (default), a .jsonl file, `server URL`, or `local FOLDER`",
    )
    add("--llm", default="", metavar="NAME", help="the language model's name at the server")
    add("--llm-key", default="", metavar="VARIABLE", help="environment variable that holds the server's key")
    add("--model", default="", metavar="PATH", help="text-to-image model: diffusers folder or .safetensors")
    add("--size", type=int, default=0, metavar="PX", help="pixels of the longest side (default: the model's)")
    add("--tries", type=int, default=TRIES, metavar="N", help=f"tries of a job (default {TRIES})")
    add("--steps", type=int, default=0, metavar="N", help="denoising steps (default: the model's)")
    add("--keep", type=int, default=1, metavar="N", help="pairs kept of a job at most (default 1)")
    add("--filters", default="", metavar="A,B", help="filters to apply; default: all there are models for")
    add("--scorer", default="", metavar="FOLDER", help="CLIP, for the scores of pictures and texts")
    add("--detector", default="", metavar="PATH", help="GroundingDINO: transformers folder or original file")
    add("--segmenter", default="", metavar="PATH", help="SAM or SAM 2 besides")
    add(
        "--depth",
        default="",
        metavar="FOLDER",
        help="depth estimator: filter of structure, tasks depth and normal",
    )
    add(
        "--segmentation", default="", metavar="FOLDER", help="segmenter of classes, for the task segmentation"
    )
    add("--pose", default="", metavar="FOLDER", help="ViTPose, for the task pose (needs --detector)")
    add("--no-control", action="store_true", help="without attention control (for ablations)")
    add("--masks", default=",".join(MASKED), metavar="A,B", help="masks to try, or blank (for ablations)")
    add("--split", default="train", help="the world's split (default train)")
    add("--device", default="cpu", help="cpu (default), auto, cuda, cuda:1, mps")
    add(
        "--chunk-jobs",
        type=int,
        default=8,
        metavar="N",
        help="jobs between two writes to the disk (default 8)",
    )
    add("--shard-jobs", type=int, default=256, metavar="N", help="jobs of a shard (default 256)")
    add("--max-jobs", type=int, default=0, metavar="N", help="give up there (default 40 a pair and 400)")
    add(
        "--patience", type=int, default=2000, metavar="N", help="give up after N jobs in a row without a pair"
    )
    add("--ray", action="store_true", help="on a Ray cluster (RAY_ADDRESS), or on this machine's cores")
    add("--workers", type=int, default=0, metavar="N", help="with --ray: workers (default: as many as fit)")
    add("--worker-gpus", type=float, default=0.0, metavar="X", help="with --ray: graphics cards of a worker")
    add("--quiet", action="store_true", help="say nothing but errors")
    return parser


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def plan_from(options: argparse.Namespace) -> BuildPlan:
    """The plan that the options ask for; tasks are as given, or all."""
    how = ":".join(options.instructions)
    if how.startswith("file:") or how.endswith(".jsonl"):
        how = FILE + how.removeprefix(FILE)
    captions = options.captions or ("" if options.pictures else WORLD)
    return BuildPlan(
        count=options.count,
        seed=options.seed,
        tasks=_names(options.tasks) or TASK_IDS,
        captions=captions,
        pictures=options.pictures,
        instructions=how,
        llm=options.llm,
        key_variable=options.llm_key,
        model=options.model,
        size=options.size,
        tries=options.tries,
        steps=options.steps,
        keep=options.keep,
        filters=_names(options.filters),
        scorer=options.scorer,
        detector=options.detector,
        segmenter=options.segmenter,
        depth=options.depth,
        segmentation=options.segmentation,
        pose=options.pose,
        control=not options.no_control,
        masks=_names(options.masks),
        split=options.split,
        device=options.device,
        chunk_jobs=options.chunk_jobs,
        shard_jobs=options.shard_jobs,
        max_jobs=options.max_jobs,
        patience=options.patience,
    )


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


def run(options: argparse.Namespace, tell) -> None:
    """Build what the options ask for."""
    plan = plan_from(options)
    plan = replace(plan, device=usable_device(plan.device))
    world = world_of(plan)
    context = context_of(plan, world)
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
