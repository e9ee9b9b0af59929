"""How many of a build's pairs are right: what was kept, and on request what was dropped, judged.

Pairs whose two pictures are generated are judged by judge.py; those that start from a picture of the world by
small.rules, against the world's own answer. Color is not judged, for its strength is drawn at random. Only
kept pairs have their pictures in the shards; dropped candidates are made again from their records.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...core.devices import usable_device
from ...core.errors import EmuEditError
from ...core.pairs import shards
from ...core.pairs.recipes.base import eight_bit
from ...core.pairs.recipes.table import remake
from ...core.pairs.records import PairJob
from ...core.tasks import TASK_IDS
from ..small.edits import make_example
from ..small.report import interval
from ..small.rules import judge
from . import judge as judging
from .judge import Judged, Reader, judge_pair
from .models import context_of, world_of
from .plan import GRAMMAR, WORLD, BuildPlan
from .rows import read_rows, task_of
from .store import PLAN

UNJUDGED = ("color",)
SAME = 2 / 255  # mean absolute difference up to which a source is the world's own picture
KEPT, SPARE, DROPPED = "kept", "spare", "dropped"
"""In a shard; passed the filters, but another of the job's was better; failed a filter."""

Group = tuple[str, str]
"""A task, and SPARE or DROPPED."""

Tell = Callable[[str], None]


def judged_yield(
    folder: Path, again: int = 0, seed: int = 0, tell: Tell = lambda line: None
) -> dict[str, Any]:
    """{"tasks": {task: {"kept" | "spare" | "dropped": counts}}, "all": the same over all tasks}.

    Counts are {"n", "right", "share", "interval", "not_judged"}, and for tasks that judge.py judges "done",
    "rest", "before", "after" and, of `placed_n` that name a place, "placed". `again`: how many candidates
    each of a task's spare and dropped ones, drawn at random by `seed`, are made again and judged; it takes
    the build's models. Raises EmuEditError for a folder that holds no build from the world's scenes.
    """
    plan = plan_of(folder)
    found: dict[str, dict[str, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    read = Reader()
    for number, pair in enumerate(shards.read_pairs(folder)):
        job = PairJob.from_json(pair.record["job"])
        source, target = (one.float() / 255 for one in (pair.source, pair.target))
        found[job.task][KEPT].append(judged(job, source, target, read))
        if (number + 1) % 50 == 0:
            tell(f"{number + 1} pairs judged")
    if again:
        for kind, job, source, target in _made_again(folder, plan, again, seed, tell):
            found[job.task][kind].append(judged(job, source, target, read))
    tasks = {task: found[task] for task in TASK_IDS if task in found}
    both: dict[str, list[Verdict]] = defaultdict(list)
    for kinds in tasks.values():
        for kind, verdicts in kinds.items():
            both[kind] += verdicts
    return {
        "folder": folder.name,
        "tasks": {task: {kind: counts(v) for kind, v in kinds.items()} for task, kinds in tasks.items()},
        "all": {kind: counts(verdicts) for kind, verdicts in both.items()},
    }


Verdict = Judged | bool | None
"""Judged by scenes, by rules, or not at all."""


def plan_of(folder: Path) -> BuildPlan:
    """The plan of a build of the world's own edits; others have no answer to judge by: EmuEditError."""
    try:
        plan = BuildPlan.from_json(json.loads((folder / PLAN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as problem:
        raise EmuEditError(
            f"report: {folder / PLAN} cannot be read ({problem}); give a folder of training.build_pairs."
        ) from problem
    if plan.captions != WORLD or plan.instructions != GRAMMAR:
        source = plan.instructions if plan.captions == WORLD else plan.captions or plan.pictures
        raise EmuEditError(
            f"report: {folder} was built from {source!r}, and only the world's own edits of its scenes can "
            "be judged; leave --judge out."
        )
    return plan


def judged(job: PairJob, source: Tensor, target: Tensor, read: Reader) -> Verdict:
    """What a pair of pictures [S,S,3] in 0..1 comes to."""
    if job.task in UNJUDGED:
        return None
    _, split, seed, number = job.picture.split(":")
    asked = make_example(int(seed), int(number), (job.task,), len(source), split=split)
    if job.task in judging.TASKS:
        return judge_pair(asked, source, target, read)
    off = np.abs(source.numpy() - asked.source.astype(np.float32) / 255).mean()
    return None if off > SAME else bool(judge(asked, target.numpy())["success"])


def counts(verdicts: list[Verdict]) -> dict[str, Any]:
    """How many verdicts are right, and what the pictures were read to show."""
    known = [one for one in verdicts if one is not None]
    right = sum(one if isinstance(one, bool) else one.right for one in known)
    told: dict[str, Any] = {"n": len(known), "not_judged": len(verdicts) - len(known), "right": right}
    told["share"] = round(right / len(known), 4) if known else None
    told["interval"] = interval(right, len(known)) if known else None
    read = [one for one in known if isinstance(one, Judged)]
    if read and len(read) == len(known):
        told |= {
            name: sum(getattr(one, name) for one in read) for name in ("done", "rest", "before", "after")
        }
        placed = [one.placed for one in read if one.placed is not None]
        told |= {"placed": sum(placed), "placed_n": len(placed)} if placed else {}
    return told


def _made_again(
    folder: Path, plan: BuildPlan, count: int, seed: int, tell: Tell
) -> Iterator[tuple[str, PairJob, Tensor, Tensor]]:
    """(kind, job, source, target) of `count` spare and as many dropped candidates of each task."""
    sizes = Counter(group for group, _, _ in _not_kept(folder))
    groups = sorted(group for group in sizes if group[0] not in UNJUDGED)
    if not groups:
        return
    chance = np.random.default_rng(seed)
    chosen = {group: {int(k) for k in chance.permutation(sizes[group])[:count]} for group in groups}
    drawn: dict[Group, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    seen: Counter[Group] = Counter()
    for group, job, record in _not_kept(folder):
        if seen[group] in chosen.get(group, ()):
            drawn[group].append((job, record))
        seen[group] += 1
    plan = replace(plan, device=usable_device(plan.device))
    context = context_of(plan, world_of(plan))
    for task, kind in groups:
        some = drawn[task, kind]
        tell(f"{task}: {len(some)} of {sizes[task, kind]} {kind} candidates made again")
        for job, record in some:
            one = remake(context, PairJob.from_json(job), record)
            yield kind, PairJob.from_json(job), eight_bit(one.source), eight_bit(one.target)


def _not_kept(folder: Path) -> Iterator[tuple[Group, dict[str, Any], dict[str, Any]]]:
    """(task and kind, job, candidate) of all that is in no shard, in order; the records are read as they are
    asked for, for there may be more of them than memory holds."""
    for path in sorted((folder / shards.RECORDS).glob("[0-9]*.jsonl")):
        for row in read_rows(path):
            for one in row["candidates"]:
                if not one["key"]:
                    kind = SPARE if one["verdict"]["kept"] else DROPPED
                    yield (task_of(row), kind), row["job"], one["candidate"]


def table(found: dict[str, Any]) -> str:
    """The yield as a Markdown table."""
    heads = ["task", "candidates", "n", "right", "95 %", "done", "rest the same", "in place", "not judged"]
    lines = [heads, ["---"] * len(heads)]
    for task, kinds in {**found["tasks"], "all": found["all"]}.items():
        for kind in (KEPT, SPARE, DROPPED):
            one = kinds.get(kind)
            if one is None:
                continue
            line = [task, kind, str(one["n"]), str(one["right"])]
            line.append(f"{one['interval'][0]:.2f}-{one['interval'][1]:.2f}" if one["n"] else "")
            line += [str(one.get(name, "")) for name in ("done", "rest")]
            line.append(f"{one['placed']} of {one['placed_n']}" if "placed" in one else "")
            lines.append([*line, str(one["not_judged"])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
