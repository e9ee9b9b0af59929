"""The command; see the package's docstring."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...core.errors import EmuEditError
from ...core.tasks import TASK_IDS
from ..small.unseen import UNSEEN
from . import few_shot, multitask, turns, vectors
from .cells import Cells
from .lab import QUICK, Lab, Sizes
from .report import ALL, write_report

MEASURES = {
    "a": vectors.measure,
    "b": multitask.experts,
    "c": multitask.counts,
    "d": few_shot.measure,
    "e": turns.measure,
}

NAMES = {"tasks": TASK_IDS, "expert_tasks": TASK_IDS, "probe": TASK_IDS, "unseen": UNSEEN}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write the report; returns the exit code."""
    names = ", ".join(field.name for field in fields(Sizes) if field.name != "learning")
    parser = argparse.ArgumentParser(prog="ablations", description="Emu Edit's ablations, reproduced small.")
    parser.add_argument(
        "--out", type=Path, help="folder of the table and plots: docs (with --quick: CACHE/quick)"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/ablations"), help="folder of the results")
    parser.add_argument("--model", type=Path, help="folder of the editor; the bundled one by default")
    parser.add_argument("--only", nargs="*", choices=ALL, default=list(ALL), help="measure only these")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help=f"sizes: {names}")
    chosen = parser.parse_args(arguments)
    try:
        sizes = with_values(QUICK if chosen.quick else Sizes(), chosen.set)
        out = chosen.out or (chosen.cache / "quick" if chosen.quick else Path("docs"))
        out.mkdir(parents=True, exist_ok=True)
        found: dict[str, dict[str, Any] | None] = {}
        for letter, measure in MEASURES.items():
            cells = Cells(chosen.cache, letter in chosen.only, lambda line: print(line, flush=True))
            found[letter] = measure(Lab(sizes, cells, chosen.model))
        name = Lab(sizes, cells, chosen.model).editor().name
        print(f"wrote {write_report(out, found, sizes, name, command_of(chosen))}")
    except EmuEditError as slip:
        print(f"ablations: {slip}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nablations: interrupted; what was measured is kept in {chosen.cache}.", file=sys.stderr)
        return 130
    return 0


def command_of(chosen: argparse.Namespace) -> str:
    """What the report names as its maker: the options that bear on the numbers."""
    words = ["python -m emu_edit.training.ablations"]
    if tuple(chosen.only) != ALL:
        words += ["--only", *chosen.only]
    if chosen.quick:
        words.append("--quick")
    if chosen.set:
        words += ["--set", *chosen.set]
    return " ".join(words)


def with_values(sizes: Sizes, given: Sequence[str]) -> Sizes:
    """Sizes with NAME=VALUE replaced; lists are written with commas."""
    for item in given:
        name, equals, value = item.partition("=")
        old = getattr(sizes, name, None)
        if not equals or old is None or name == "learning":
            raise EmuEditError(f"--set {item}: give NAME=VALUE with one of the names that --help lists.")
        try:
            if isinstance(old, tuple):
                kind = type(old[0])
                new: Any = tuple(kind(part) for part in value.split(",") if part)
            else:
                new = type(old)(value)
        except ValueError:
            raise EmuEditError(f"--set {item}: {value!r} is not of the kind of {old!r}.") from None
        known = NAMES.get(name, ())
        each = new if isinstance(new, tuple) else (new,)
        if not each or known and not {*each} <= {*known}:
            of = f" of {', '.join(known)}" if known else ""
            raise EmuEditError(f"--set {item}: give one or more values{of}.")
        sizes = replace(sizes, **{name: new})
    return sizes


if __name__ == "__main__":
    sys.exit(main())
