"""The `emu-edit` command: its arguments, its exit codes, and how a slip is told.

Exit codes: 0 done, 1 a user's slip (one sentence on stderr), 2 wrong usage, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..core.errors import EmuEditError

INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emu-edit", description="Edit pictures by instruction.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    edit = commands.add_parser(
        "edit",
        help="edit a picture by one or more instructions",
        description="Edit a picture. Several instructions are turns: each edits what the last one made, and "
        "what a turn hardly changed stays exactly as it was.",
        epilog='Example: emu-edit edit in.png "make the ball blue" "add a tree on the left" -o out.png',
    )
    edit.add_argument("picture", metavar="IN", help="the picture file to edit (PNG, JPEG, WebP, ...)")
    edit.add_argument("instructions", metavar="INSTRUCTION", nargs="+", help='such as "make the ball blue"')
    edit.add_argument("-o", "--output", metavar="OUT", required=True, help="file to write; replaced if there")
    edit.add_argument(
        "--task",
        default="auto",
        help="auto (by keywords of the instruction), none, a name (see `emu-edit tasks`), or a task file",
    )
    edit.add_argument("--mask", metavar="FILE", help="white where the picture may change, black elsewhere")
    edit.add_argument("--model", metavar="PATH", help="diffusers folder or .safetensors (default: bundled)")
    edit.add_argument("--tokenizer", metavar="FOLDER", help="CLIP vocabulary, for a single .safetensors file")
    edit.add_argument("--steps", type=int, metavar="N", help="denoising steps; default: the editor's own")
    edit.add_argument("--seed", type=int, default=0, metavar="N", help="turn k uses seed + k (default 0)")
    edit.add_argument("--text-guidance", type=float, metavar="X", help="how strictly the words are followed")
    edit.add_argument("--image-guidance", type=float, metavar="X", help="how closely the picture is kept")
    edit.add_argument("--size", type=int, metavar="PX", help="longest side to work at; the result is as IN")
    edit.add_argument("--alpha", type=float, default=0.03, metavar="X", help="least change kept (0.03)")
    edit.add_argument(
        "--threshold",
        choices=("auto", "always", "never"),
        default="auto",
        help="what a turn changed by less than alpha stays as it was; auto: except in tasks about the whole "
        "picture, such as style",
    )
    edit.add_argument("--no-threshold", dest="threshold", action="store_const", const="never", help="= never")
    edit.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ... (default auto)")
    edit.add_argument("--json", metavar="FILE", dest="report", help="write what was done as JSON")

    models = commands.add_parser("models", help="list the editors found")
    models.add_argument("--folder", action="append", default=[], metavar="DIR", help="also look in DIR")
    models.add_argument("--json", action="store_true", help="print JSON")

    tasks = commands.add_parser("tasks", help="list the sixteen tasks")
    tasks.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (`arguments` default to the process's) and return its exit code."""
    options = _parser().parse_args(arguments)
    return run(lambda: _dispatch(options), options.command)


def run(action, name: str) -> int:
    """Call `action` and turn what it raises into an exit code and one line on stderr."""
    try:
        action()
    except EmuEditError as slip:
        print(f"emu-edit {name}: {slip}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nemu-edit {name}: interrupted; no file was written.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _dispatch(options: argparse.Namespace) -> None:
    if options.command == "edit":
        from .edit import edit_file

        edit_file(options)
    elif options.command == "models":
        from .listing import list_models

        list_models(options.folder, options.json)
    else:
        from .listing import list_tasks

        list_tasks(options.json)


if __name__ == "__main__":
    sys.exit(main())
