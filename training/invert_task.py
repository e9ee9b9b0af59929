"""Learn a new task from a folder of examples and write it as a task file of a few kilobytes.

    python -m emu_edit.training.invert_task EXAMPLES_DIR -o TASK.safetensors [--log LOG.jsonl]

The editor stays as it is; only the task's vector is trained (core/task_inversion.py). The folder holds
NAME.source.png, NAME.target.png and NAME.txt for each example, or an examples.json (core/task_examples.py).
`python -m emu_edit.training.small.unseen` writes such folders to try it with. `emu-edit invert` is the same
behind the user's command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..core.backbone import Backbone
from ..core.checkpoints import bundled_editor_path, load_editor, save_task
from ..core.errors import EmuEditError
from ..core.picture_files import check_apart, check_output, save_picture
from ..core.task_examples import read_examples
from ..core.task_inversion import InversionResult, InversionSettings, InversionStep, OnStep, invert_task
from ..core.weights import write_json
from .invert_options import add_options


def settings_of(options: argparse.Namespace) -> InversionSettings:
    """The parsed options as settings, what was left out as the library has it; EmuEditError out of range."""
    names = ("steps", "rate", "batch", "seed", "start", "held_out", "size")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return InversionSettings(**given, checkpointing=options.save_memory)


def invert_folder(
    options: argparse.Namespace, open_editor: Callable[[], Backbone], on_step: OnStep | None = None
) -> InversionResult:
    """Carry out the parsed options. What can be refused is refused before the editor loads, and the files
    are written, each whole, only when all is learnt.
    """
    output = Path(options.output)
    if output.suffix != ".safetensors":
        raise EmuEditError(f"output: {output} is no task file's name; let it end in .safetensors.")
    if output.is_dir() or not output.parent.is_dir():
        raise EmuEditError(f"output: {output} cannot be written; give a file in a folder that exists.")
    sheet = None if options.sheet is None else check_output(options.sheet)
    report = None if options.report is None else Path(options.report)
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise EmuEditError(f"json: {report} cannot be written; give a file in a folder that exists.")
    check_apart({"output": output, "sheet": sheet, "json": report})
    settings = settings_of(options)
    examples = read_examples(options.examples)
    began = time.perf_counter()
    result = invert_task(open_editor(), examples, options.name or output.stem, settings, on_step)
    seconds = time.perf_counter() - began
    save_task(output, result.task)
    if sheet is not None:
        save_picture(sheet, result.preview)
    if report is not None:
        write_json(report, as_dict(result, seconds))
    return result


def as_dict(result: InversionResult, seconds: float) -> dict[str, Any]:
    """What JSON reports say of it."""
    return {
        "task": result.task.name,
        "examples": result.learnt_from,
        "held_out": result.held_out,
        "start": result.start,
        "starts": {name: round(loss, 6) for name, loss in result.starts.items()},
        "history": [[step, round(loss, 6)] for step, loss in result.history],
        "best_step": result.best_step,
        "seconds": round(seconds, 2),
        "notes": list(result.notes),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--log", type=Path, help="append one JSON object for each check")
    options = parser.parse_args(arguments)

    def open_editor() -> Backbone:
        device = options.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return load_editor(options.model or bundled_editor_path(), device)

    def tell(step: InversionStep) -> None:
        if not step.check:
            return
        print(f"step {step.index + 1}/{step.total}: loss {step.loss:.4f}, best held out {step.held_out:.4f}",
              flush=True)  # fmt: skip
        if options.log is not None:
            entry = {"step": step.index + 1, "loss": step.loss, "best_held_out": step.held_out}
            with options.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")

    try:
        print(invert_folder(options, open_editor, tell).report())
    except EmuEditError as slip:
        print(f"invert_task: {slip}", file=sys.stderr)
        return 1
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
