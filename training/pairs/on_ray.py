"""The same build on Ray Data: instructions by tasks, candidates and filters by actors that hold the models.

A row is a chunk of jobs. Workers hand parts back as bytes; the driver alone writes, and counts them in order,
so that the pairs are those of one process, whatever order parts come in. Ray starts a dead worker's chunk
again elsewhere, and a chunk is a pure function of the plan, so nothing is lost and nothing comes twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from ...core.devices import usable_device
from ...core.errors import EmuEditError
from .filtering import judge_of
from .jobs import Jobs, known_names
from .models import LOCAL, context_of, jobs_of, world_of
from .plan import GRAMMAR, WORLD, BuildPlan
from .run import Results, Tell, build
from .stages import Maker, completed, items_from_lines, items_to_lines
from .store import Store

WAVE = 4096
"""Chunks of one Ray data set; the pool of actors is made anew for each."""


def on_ray(folder: Path, plan: BuildPlan, tell: Tell, workers: int = 0, gpus: float = 0.0) -> dict[str, Any]:
    """Build on the cluster that RAY_ADDRESS names, else on a local one; returns the manifest.

    `workers`: actors (0: two, or as many as there are graphics cards to give `gpus` to each). Raises
    EmuEditError as `run.build` does, and where Ray is not installed.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        # One core is the driver's, one at least for the tasks that write instructions.
        cores = None if "RAY_ADDRESS" in os.environ else max(os.cpu_count() or 1, (workers or 2) + 2)
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="warning")
    try:
        if not workers:
            cards = int(ray.cluster_resources().get("GPU", 0))
            workers = max(1, int(cards / gpus)) if gpus else 2
        # Here jobs are only counted: the tasks that write instructions load the language model themselves.
        local = plan.captions != WORLD and plan.instructions.startswith(LOCAL)
        counted = replace(plan, instructions=GRAMMAR) if local else plan
        jobs = jobs_of(counted, world_of(plan), known_names(folder))
        names = tuple(getattr(jobs, "names", ()))

        def results(store: Store, total: int) -> Results:
            instructed = Instructed(json.dumps(plan.to_json()), total, names)
            return _results(ray, plan, store, instructed, workers, gpus)

        return build(folder, plan, jobs, results, tell)
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as problem:
        raise EmuEditError(
            f"build: --ray needs the Python package 'ray' with its data part ({problem}); run: "
            "pip install 'ray[data]'"
        ) from problem
    return ray


def _results(
    ray: Any, plan: BuildPlan, store: Store, instructed: Instructed, workers: int, gpus: float
) -> Results:
    told = json.dumps(plan.to_json())
    options = ray.data.DataContext.get_current()
    options.enable_progress_bars = False
    options.execution_options.preserve_order = False

    def results(chunks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        todo = iter(chunks)
        while wave := list(islice(todo, WAVE)):
            rows = [{"chunk": c, "known": store.written(c)} for c in wave]
            data = ray.data.from_items(rows, override_num_blocks=len(wave))
            data = data.map(instructed, num_cpus=0.5)
            pool = ray.data.ActorPoolStrategy(size=min(workers, len(wave)))
            data = data.map(
                Made, fn_constructor_args=(told,), compute=pool, num_cpus=1, num_gpus=gpus or None
            )
            for row in data.iter_rows():
                if row["slip"]:
                    raise EmuEditError(row["slip"])
                yield row["chunk"], row["part"]

    return results


class Instructed:
    """Stage one, a task: chunk and what is known of its jobs -> its jobs, both as items_to_lines writes them.

    names: the driver's numbers of the pictures.
    """

    def __init__(self, plan: str, total: int, names: tuple[str, ...]) -> None:
        self.plan, self.total, self.names = plan, total, names

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            plan, jobs = _planned(self.plan, self.names)
            numbers = plan.numbers(int(row["chunk"]), self.total)
            items = completed(items_from_lines(row["known"]), jobs.make, numbers)
        except EmuEditError as slip:
            return {"chunk": row["chunk"], "items": b"", "slip": str(slip)}
        return {"chunk": row["chunk"], "items": items_to_lines(items), "slip": ""}


@lru_cache(maxsize=2)
def _planned(told: str, names: tuple[str, ...]) -> tuple[BuildPlan, Jobs]:
    # A language model of this machine writes on the CPU: Ray hides cards from tasks that ask for none.
    plan = replace(BuildPlan.from_json(json.loads(told)), device="cpu")
    return plan, jobs_of(plan, world_of(plan), names)


class Made:
    """Stage two, an actor with the models: jobs -> the chunk's part."""

    slip = ""  # why it has no models

    def __init__(self, told: str) -> None:
        import torch

        torch.set_num_threads(1)  # as many workers as cores, and sums that do not depend on how many
        plan = BuildPlan.from_json(json.loads(told))
        try:
            usable_device(plan.device)
            context = context_of(plan, world_of(plan))
            self.maker = Maker(plan, context, judge_of(plan, context))
        except EmuEditError as slip:  # raised here, Ray would start the actor again and wrap it in a trace
            self.slip = str(slip)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if slip := row["slip"] or self.slip:
            return {"chunk": row["chunk"], "part": b"", "slip": slip}
        try:
            part = self.maker.part(int(row["chunk"]), items_from_lines(row["items"]))
        except EmuEditError as slip:  # such as DiskFull: the driver ends the run with this sentence
            return {"chunk": row["chunk"], "part": b"", "slip": str(slip)}
        return {"chunk": row["chunk"], "part": part, "slip": ""}
