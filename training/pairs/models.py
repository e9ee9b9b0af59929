"""What a build's plan asks for, loaded: jobs, the context of the recipes, the judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from ...core.errors import EmuEditError
from ...core.images import plan_resize
from ...core.masks.sources import Source
from ...core.pairs.instructions.backend import Backend
from ...core.pairs.instructions.dedupe import Seen
from ...core.pairs.instructions.write import Order, Writer, Written
from ...core.pairs.recipes import annotators
from ...core.pairs.recipes.base import Annotator, RecipeContext
from ...core.pairs.recipes.table import RECIPES, missing
from ...core.pairs.records import Instruction, PairJob
from ...core.picture_files import load_picture
from .jobs import CaptionJobs, InstructionJobs, Jobs, PictureJobs, WorldJobs
from .plan import GRAMMAR, WORLD, BuildPlan
from .world import World

WORLD_SIZE = 128
FILE, LOCAL, SERVER = "file:", "local:", "server:"


def world_of(plan: BuildPlan) -> World | None:
    """The procedural world, if the build's captions are its scenes."""
    return World(plan.size or WORLD_SIZE, plan.split) if plan.captions == WORLD else None


def jobs_of(plan: BuildPlan, world: World | None, names: Sequence[str] = ()) -> Jobs:
    """The stream of jobs that the plan asks for; `names`: pictures numbered before (jobs.known_names)."""
    if plan.instructions.startswith(FILE):
        return InstructionJobs(plan, Path(plan.instructions.removeprefix(FILE)))
    if world is not None:
        if plan.instructions != GRAMMAR:
            raise EmuEditError(
                f"build: the world's scenes bring their own instructions, so {plan.instructions!r} has "
                "nothing to do; give --captions or --pictures besides, or leave --instructions out."
            )
        return WorldJobs(plan, world)
    write = partial(_write, Writer(_backend(plan)))
    return CaptionJobs(plan, write) if plan.captions else PictureJobs(plan, write, names)


class _NothingSeen(Seen):
    """Two pictures may have one caption; what is double doubles.py tells, by the pairs and over them all."""

    def why_double(self, one: Instruction) -> str:
        return ""


def _write(writer: Writer, asked: Sequence[tuple[str, str, int]]) -> list[Written]:
    todo = (Order(caption, task, seed) for task, caption, seed in asked)
    return list(writer.stream(todo, _NothingSeen()))


def _backend(plan: BuildPlan) -> Backend:
    kind, _, rest = plan.instructions.partition(":")
    if plan.instructions == GRAMMAR:
        from ...core.pairs.instructions.grammar import Grammar

        return Grammar()
    if kind == "local" and rest:
        from ...core.pairs.instructions.local_model import LocalModel

        return LocalModel.load(rest, plan.device)
    if kind == "server" and rest:
        from ...core.pairs.instructions.http_server import HttpServer

        if not plan.llm:
            raise EmuEditError("build: --instructions server:URL needs --llm, the model's name there.")
        return HttpServer(rest, plan.llm, plan.key_variable)
    raise EmuEditError(
        f"build: {plan.instructions!r} writes no instructions; give grammar, a .jsonl file, local:FOLDER or "
        "server:URL."
    )


def context_of(plan: BuildPlan, world: World | None) -> RecipeContext:
    """The models of the recipes, as far as the plan names them."""
    context = RecipeContext(
        tries=plan.tries,
        steps=plan.steps or None,
        control=plan.control,
        masks=plan.masks,
        backbone=_text_to_image(plan, world),
        size=(plan.size, plan.size) if plan.size else None,
    )
    if world is not None:
        return replace(
            context,
            finder=world,
            picture=world.picture,
            reader=world,
            inpainter=world,
            writer=world,
            annotators=world.annotators(),
        )
    if plan.pictures:
        context = replace(context, picture=folder_pictures(Path(plan.pictures), plan.size))
    if plan.detector:
        from ...core.masks.loading import load_detector, load_segmenter
        from ...core.masks.sources import Segmented

        finder: Source = load_detector(Path(plan.detector), plan.device)
        if plan.segmenter:
            finder = Segmented(finder, load_segmenter(Path(plan.segmenter), plan.device))
        context = replace(context, finder=finder)
    return replace(context, annotators=_annotators(plan, context))


def _annotators(plan: BuildPlan, context: RecipeContext) -> dict[str, Annotator]:
    """The annotators whose models the plan names, and the sketch's, which needs none."""
    made: dict[str, Annotator] = {"sketch": annotators.SketchAnnotator()}
    if plan.depth:
        from ...core.pairs.filters.models import load_depth

        depth = load_depth(plan.depth, plan.device)
        made |= {"depth": annotators.DepthAnnotator(depth), "normal": annotators.NormalAnnotator(depth)}
    if plan.segmentation:
        made["segmentation"] = annotators.SegmentationAnnotator.load(Path(plan.segmentation), plan.device)
    if plan.pose:
        if context.finder is None:
            raise EmuEditError("build: --pose needs --detector, which finds the people; give it besides.")
        made["pose"] = annotators.PoseAnnotator.load(Path(plan.pose), context.finder, plan.device)
    return made


def folder_pictures(folder: Path, size: int) -> Callable[[PairJob], Tensor]:
    """Reads a job's picture from below `folder`, its longest side brought to `size` (0: as it is)."""
    home = folder.resolve()

    def picture(job: PairJob) -> Tensor:
        if not job.picture:
            raise EmuEditError("the job names no picture")
        path = (home / job.picture).resolve()
        if not path.is_relative_to(home):
            raise EmuEditError(f"{job.picture!r} lies outside the folder of pictures")
        image = load_picture(path)
        return plan_resize(image.shape[1], image.shape[2], size or None, 8).apply(image)[0]

    return picture


def _text_to_image(plan: BuildPlan, world: World | None):
    from ...core.checkpoints import bundled_editor_path, load_editor

    path = Path(plan.model) if plan.model else bundled_editor_path().parent / "small_base"
    needed = any("backbone" in RECIPES[task].needs for task in plan.tasks)
    if not plan.model and not (world is not None and needed and path.is_dir()):
        return None
    backbone = load_editor(path, plan.device, kind="text-to-image")
    if backbone.takes_image:
        raise EmuEditError(
            f"build: {path} is an editor, which needs a picture to start from; give a text-to-image model."
        )
    return backbone


def possible(plan: BuildPlan, context: RecipeContext) -> tuple[tuple[str, ...], dict[str, str]]:
    """The plan's tasks that can be made, and for the others why not."""
    why = {task: missing(context, task) for task in plan.tasks}
    return tuple(t for t in plan.tasks if not why[t]), {t: reason for t, reason in why.items() if reason}
