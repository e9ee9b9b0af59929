"""Train an Emu Edit model from a text-to-image checkpoint, or go on training one.

    python -m emu_edit.training.train_editor --base SD15 --data PAIRS --cache CACHE --run runs/editor
    accelerate launch --config_file FILE -m emu_edit.training.train_editor --config training/configs/sd15.yaml
    python -m emu_edit.training.train_editor --run runs/editor --export EDITOR

The same command goes on where a run was stopped or killed. docs/training.md is the guide.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import EmuEditError
from ..core.locks import only_one
from .editor.config import TrainConfig, add_options, read_options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="train_editor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and the memory it needs, train nothing"
    )
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write RUN's newest checkpoint as an editor"
    )
    parser.add_argument("--export-precision", choices=("fp32", "fp16", "bf16"), default="fp16")
    options = parser.parse_args(arguments)
    try:
        if options.export is not None:
            from .editor.export import export

            config = read_options(options)
            run = Path(config.run)
            step = export(run, options.export, options.export_precision, config.base)
            _say(f"step {step} of {run} was written to {options.export}.")
        elif options.dry_run:
            from .editor.plan import plan

            for line in plan(read_options(options)):
                _say(line)
        else:
            run_training(read_options(options))
    except EmuEditError as slip:
        print(f"train_editor: {slip}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train_editor: interrupted; the checkpoints written so far are whole.", file=sys.stderr)
        return 130
    return 0


def run_training(config: TrainConfig) -> None:
    """Train as configured, in this process and those that `accelerate launch` started beside it."""
    from .editor.loop import train
    from .editor.run import Run, make_accelerator

    accelerator = make_accelerator(config)
    main_process = bool(accelerator.is_main_process)
    say = _say if main_process else _silent
    folder = Path(config.run)
    with only_one(folder, "train_editor") if main_process else contextlib.nullcontext():
        run = Run(config, accelerator, say)
        run.write_config()
        try:
            train(run, say)
        finally:
            run.close()
            if run.skipped and main_process:
                say(run.skipped.sentence())
            if accelerator.num_processes > 1:
                accelerator.end_training()
    if run.step >= config.steps:
        say(f"{folder} has taken its {run.step} steps; write the editor with --run {folder} --export FOLDER.")


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """What the other processes say."""


if __name__ == "__main__":
    sys.exit(main())
