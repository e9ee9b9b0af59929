"""`emu-edit edit`: a picture file and instructions in, the edited picture out, turn by turn."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.backbone import Backbone
from ..core.checkpoints import bundled_editor_path, load_editor, load_task
from ..core.devices import usable_device
from ..core.edit import EditSettings, Task, check_instructions, edit
from ..core.errors import EmuEditError
from ..core.images import fit_mask
from ..core.picture_files import check_apart, check_output, load_mask, load_picture, save_picture
from ..core.predictor import TaskGuess, task_for
from ..core.sampling import StepInfo
from ..core.tasks import NO_TASK
from ..core.thresholding import ALPHA, WHOLE_PICTURE_TASKS, check_threshold, sequential_threshold
from ..core.weights import write_json
from .progress import Bar

OnTurnStep = Callable[[int, StepInfo], None]


@dataclass(frozen=True, eq=False)
class Turn:
    """One instruction carried out: `picture` [1,H,W,3] after it, `mask` [1,H,W] where it changed visibly.

    The mask is the thresholding's, 1 = changed; only if `thresholded` is the picture unchanged where it is 0.
    `notes` say what of the instruction could not be read (they are logged as warnings too).
    """

    instruction: str
    guess: TaskGuess
    seed: int
    seconds: float
    thresholded: bool
    notes: tuple[str, ...]
    picture: Tensor
    mask: Tensor

    @property
    def task(self) -> str:
        """The task's name, as picked, read from a file or guessed."""
        return self.guess.task

    @property
    def changed(self) -> float:
        """The share of pixels that the turn changed visibly, 0..1."""
        return float(self.mask.mean())

    def report(self) -> dict[str, Any]:
        """What JSON reports say of it."""
        return {
            "instruction": self.instruction,
            "task": self.task,
            "task_reason": self.guess.reason,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "thresholded": self.thresholded,
            "changed": round(self.changed, 6),
            "notes": list(self.notes),
        }


def run_turns(
    backbone: Backbone,
    picture: Tensor,
    instructions: Sequence[str],
    task: str = "auto",
    mask: Tensor | None = None,
    settings: EditSettings | None = None,
    alpha: float = ALPHA,
    threshold: str = "auto",
    on_step: OnTurnStep | None = None,
) -> Iterator[Turn]:
    """Edit `picture` [1,H,W,3] by each instruction in turn, yielding every turn as it is done.

    Each turn is thresholded at `alpha` against the picture before it (thresholding.sequential_threshold), but
    `threshold` "auto" spares thresholding.WHOLE_PICTURE_TASKS, "never" every turn, and "always" none. `mask`
    holds in every turn. Turn k starts from noise of seed + k: the same noise again and again would engrave
    its own pattern.
    """
    settings = settings or EditSettings()
    tasks = [choose_task(task, instruction, backbone) for instruction in instructions]  # before any work
    for index, (instruction, (vector, guess)) in enumerate(zip(instructions, tasks, strict=True)):
        started = time.perf_counter()
        chosen = replace(settings, seed=settings.seed + index)

        def step(info: StepInfo, turn: int = index) -> None:
            if on_step is not None:
                on_step(turn, info)

        result = edit(backbone, picture, instruction, vector, mask, chosen, step)
        kept, changes = sequential_threshold(picture, result.images, alpha)
        spared = threshold == "never" or (threshold == "auto" and guess.task in WHOLE_PICTURE_TASKS)
        picture = result.images if spared else kept
        seconds = time.perf_counter() - started
        yield Turn(instruction, guess, chosen.seed, seconds, not spared, result.notes, picture, changes)


def choose_task(choice: str, instruction: str, backbone: Backbone) -> tuple[Task, TaskGuess]:
    """What `--task` means for an instruction: the task for core.edit, and its name with the reason."""
    if choice == "auto":
        guess = task_for(instruction, backbone.task_names)
        return guess.task, guess
    if choice == NO_TASK or choice in backbone.task_names:
        return choice, TaskGuess(choice, "picked")
    if Path(choice).suffix or Path(choice).exists():
        learnt = load_task(choice, backbone)
        return learnt, TaskGuess(learnt.name, f"from {choice}")
    names = ", ".join(backbone.task_names) or "no tasks"
    raise EmuEditError(
        f"task {choice!r}: the editor {backbone.name!r} knows {names}, and there is no such file; "
        "pick one of these, auto, none, or a task file."
    )


def open_editor(model: str | None, device: str = "auto", tokenizer: str | None = None) -> Any:
    """The editor at `model`, or the bundled one, on `device` ("auto": CUDA, else the CPU)."""
    where = usable_device(device)
    if tokenizer is not None and (model is None or Path(model).is_dir()):
        which = "the bundled editor" if model is None else f"the folder {model}"
        raise EmuEditError(
            f"--tokenizer {tokenizer}: {which} has a tokenizer of its own; the option is for a single "
            ".safetensors file, so leave it out."
        )
    return load_editor(bundled_editor_path() if model is None else model, where, tokenizer=tokenizer)


def edit_file(options: argparse.Namespace) -> None:
    """Carry out the parsed `emu-edit edit`. What can be refused is refused before the editor loads."""
    output = check_output(options.output)
    report = None if options.report is None else _report_path(options.report)
    check_apart({"output": output, "report": report}, [options.mask])
    check_apart({"report": report}, [options.picture])
    instructions = check_instructions(options.instructions)
    check_threshold(options.alpha)
    picture = load_picture(options.picture)
    mask = None if options.mask is None else fit_mask(load_mask(options.mask), *picture.shape[:3])
    with Bar() as bar:
        bar.say("loading the editor")
        backbone = open_editor(options.model, options.device, options.tokenizer)
    settings = EditSettings(
        steps=options.steps,
        text_guidance=options.text_guidance,
        image_guidance=options.image_guidance,
        seed=options.seed,
        size=options.size,
    ).filled(backbone)
    turns: list[Turn] = []
    with Bar() as bar:

        def show(turn: int, info: StepInfo) -> None:
            bar.show(f"turn {turn + 1}/{len(instructions)}", info.index + 1, info.total)

        rules = (options.alpha, options.threshold, show)
        try:
            for turn in run_turns(backbone, picture, instructions, options.task, mask, settings, *rules):
                bar.clear()
                turns.append(turn)
                print(f"turn {len(turns)}/{len(instructions)}: {line_of(turn)}", flush=True)
        except (KeyboardInterrupt, Exception) as end:
            if not turns:
                raise
            kept = f"the picture after turn {len(turns)} is kept in {_rescue(output, turns)}"
            if isinstance(end, KeyboardInterrupt):
                raise KeyboardInterrupt(f"{output} was not written; {kept}") from None
            print(f"emu-edit edit: {kept}", file=sys.stderr)
            raise
    save_picture(output, turns[-1].picture)
    if report is not None:
        write_json(report, _report(options, backbone, settings, turns))
    print(f"wrote {output}")


def _rescue(output: Path, turns: Sequence[Turn]) -> Path:
    """Save what was done before a later turn ended badly, beside `output` and over nothing."""
    name, number = f"{output.stem}.turn{len(turns)}", 1
    path = output.with_name(name + output.suffix)
    while path.exists():
        number += 1
        path = output.with_name(f"{name}-{number}{output.suffix}")
    return save_picture(path, turns[-1].picture)


def line_of(turn: Turn) -> str:
    """What is printed of a finished turn."""
    hint = "" if turn.changed else "; nothing changed: try other words or more --text-guidance"
    return (
        f"{turn.instruction} [{turn.task}: {turn.guess.reason}] "
        f"{turn.changed:.1%} of the pixels changed, {turn.seconds:.2f} s{hint}"
    )


def _report_path(path: str) -> Path:
    file = Path(path)
    if file.is_dir() or not file.parent.is_dir():
        raise EmuEditError(f"report: {file} cannot be written; give a file in a folder that exists.")
    return file


def _report(
    options: argparse.Namespace,
    backbone: Backbone,
    settings: EditSettings,
    turns: Sequence[Turn],
) -> dict[str, Any]:
    height, width = turns[-1].picture.shape[1:3]
    return {
        "picture": options.picture,
        "output": options.output,
        "model": backbone.name,
        "device": str(backbone.device),
        "width": width,
        "height": height,
        "mask": options.mask,
        "alpha": options.alpha if math.isfinite(options.alpha) else str(options.alpha),  # no infinity in JSON
        "steps": settings.steps,
        "text_guidance": settings.text_guidance,
        "image_guidance": settings.image_guidance,
        "sampler": settings.sampler,
        "size": settings.size,
        "seconds": round(sum(turn.seconds for turn in turns), 3),
        "turns": [turn.report() for turn in turns],
    }
