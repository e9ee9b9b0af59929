"""`emu-edit invert`: a folder of examples in, a learnt task file out."""

from __future__ import annotations

import argparse
from typing import Any

from ..core.task_inversion import InversionStep
from ..training.invert_task import invert_folder
from .edit import open_editor
from .progress import Bar

WORDS = {"encode": "reading the examples", "start": "looking for a start", "learn": "learning"}


def invert_examples(options: argparse.Namespace) -> None:
    """Carry out the parsed command."""
    with Bar() as bar:

        def opened() -> Any:
            bar.say("loading the editor")
            return open_editor(options.model, options.device)

        def show(step: InversionStep) -> None:
            bar.show(WORDS[step.phase], step.index + 1, step.total)

        result = invert_folder(options, opened, show)
    print(result.report())
    print(f"wrote {options.output}")
