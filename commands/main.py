"""The `emu-edit` command: its arguments, its exit codes, and how a slip is told.

Exit codes: 0 done, 1 a user's slip (one sentence on stderr), 2 wrong usage, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..core.errors import EmuEditError

INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emu-edit", description="Edit pictures by instruction.")
    parser.add_argument("--version", action="version", version=f"emu-edit {_version()}")
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
    _output(edit, "OUT", "file to write; replaced if there")
    edit.add_argument(
        "--task",
        default="auto",
        help="auto (predicted from the instruction), none, a name (see `emu-edit tasks`), or a task file",
    )
    _mask(edit)
    edit.add_argument("--model", metavar="PATH", help="diffusers folder or .safetensors (default: bundled)")
    edit.add_argument("--tokenizer", metavar="FOLDER", help="CLIP vocabulary, for a single .safetensors file")
    edit.add_argument("--steps", type=int, metavar="N", help="denoising steps; default: the editor's own")
    edit.add_argument("--seed", type=int, default=0, metavar="N", help="turn k uses seed + k (default 0)")
    edit.add_argument("--text-guidance", type=float, metavar="X", help="how strictly the words are followed")
    edit.add_argument("--image-guidance", type=float, metavar="X", help="how closely the picture is kept")
    edit.add_argument("--size", type=int, metavar="PX", help="longest side to work at; the result is as IN")
    _number(edit, "--alpha", 0.03, "X", "least change kept (0.03)")
    edit.add_argument(
        "--threshold",
        choices=("auto", "always", "never"),
        default="auto",
        help="what a turn changed by less than alpha stays as it was; auto: except in tasks about the whole "
        "picture, such as style",
    )
    edit.add_argument("--no-threshold", dest="threshold", action="store_const", const="never", help="= never")
    _device(edit)
    edit.add_argument("--json", metavar="FILE", dest="report", help="write what was done as JSON")

    models = commands.add_parser("models", help="list the editors found")
    models.add_argument("--folder", action="append", default=[], metavar="DIR", help="also look in DIR")
    _json(models)

    tasks = commands.add_parser("tasks", help="list the sixteen tasks")
    _json(tasks)
    _add_predict(commands)
    _add_keep(commands)
    _add_mask(commands)
    _add_invert(commands)
    return parser


def _output(parser: argparse.ArgumentParser, metavar: str, told: str) -> None:
    parser.add_argument("-o", "--output", metavar=metavar, required=True, help=told)


def _mask(parser: argparse.ArgumentParser) -> None:
    told = "white where the picture may change, black elsewhere"
    parser.add_argument("--mask", metavar="FILE", help=told)


def _device(parser: argparse.ArgumentParser) -> None:
    told = "auto, cpu, cuda, cuda:1, mps, ... (default auto)"
    parser.add_argument("--device", default="auto", help=told)


def _json(parser: argparse.ArgumentParser, told: str = "print JSON") -> None:
    parser.add_argument("--json", action="store_true", help=told)


def _number(parser: argparse.ArgumentParser, name: str, default: float, metavar: str, told: str) -> None:
    parser.add_argument(name, type=float, default=default, metavar=metavar, help=told)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="tell which task an instruction asks for")
    predict.add_argument("instructions", metavar="INSTRUCTION", nargs="*", help='such as "make it night"')
    predict.add_argument("--file", metavar="LINES.txt", help="read the instructions from a file, one a line")
    _json(predict, "print one JSON object a line")
    predict.add_argument("--predictor", metavar="FOLDER", help="a trained predictor (default: bundled)")
    predict.add_argument("--encoder", metavar="FOLDER", help="all-MiniLM-L6-v2, if the predictor needs it")
    predict.add_argument("--threshold", type=float, metavar="P", help="unsure below this confidence, 0..1")
    predict.add_argument("--fallback", metavar="TASK", help="the task to name when it is unsure")


def _add_keep(commands: Any) -> None:
    keep = commands.add_parser(
        "keep",
        help="keep of an edited picture the edit alone",
        description="Behind any editor: undo its resize, shift, zoom and colour drift, and put every pixel "
        "that the edit did not change back to exactly what it was.",
        epilog="Example: emu-edit keep before.png after.png --mode hysteresis -o kept.png",
    )
    keep.add_argument("previous", metavar="PREVIOUS", help="the picture before the edit")
    keep.add_argument("edited", metavar="EDITED", help="the same after it, of any size")
    _output(keep, "OUT", "file to write; replaced if there")
    _mask(keep)
    keep.add_argument("--mask-out", metavar="FILE", help="also write where the edit was taken")
    keep.add_argument("--mode", default="paper", help="paper (default), hysteresis, or feathered")
    _number(keep, "--alpha", 0.03, "X", "least change taken (0.03)")
    _number(keep, "--sigma", 2.0, "PX", "low-pass of the change (2)")
    keep.add_argument("--fit", default="auto", help="auto (default), stretch, crop, or pad: what was resized")
    keep.add_argument("--no-align", action="store_true", help="do not undo shift, zoom and turn")
    keep.add_argument("--colour", default="gain", help="undo a drift: gain (default), matrix, or none")
    keep.add_argument("--compare-in", default="srgb", help="srgb (default), linear, or perceptual")
    _number(keep, "--feather", 4.0, "PX", "soft border, mode feathered")
    _number(keep, "--specks", 0.0, "AREA", "drop smaller regions")
    _number(keep, "--holes", 0.0, "AREA", "fill holes up to this")
    _json(keep, "print what was measured as JSON")


def _add_mask(commands: Any) -> None:
    mask = commands.add_parser(
        "mask",
        help="make a mask of what words name",
        description="Find what a phrase or an instruction is about and write a mask of it. Without a "
        "detector the bundled editor's Segment task does it, for simple drawn scenes.",
        epilog='Example: emu-edit mask in.png "the red ball" -o mask.png --kind soft',
    )
    mask.add_argument("picture", metavar="IN", help="the picture file to look in")
    mask.add_argument("text", metavar="TEXT", help='a phrase or an instruction, such as "the red ball"')
    _output(mask, "MASK", "mask file to write")
    mask.add_argument(
        "--source",
        default="auto",
        metavar="WHAT",
        help="auto or editor (the bundled one), or a GroundingDINO: transformers folder or original file",
    )
    mask.add_argument("--segmenter", metavar="PATH", help="a SAM or SAM 2: folder, or original SAM file")
    mask.add_argument("--kind", default="precise", help="precise (default), soft, box, or background")
    mask.add_argument("--overlay", metavar="FILE", help="also write the picture with the mask shown on it")
    _number(mask, "--threshold", 0.3, "X", "least score of a find (0.3)")
    _number(mask, "--text-threshold", 0.25, "X", "of its noun (0.25)")
    mask.add_argument("--max", type=int, default=0, metavar="N", dest="most", help="keep the best N; 0: all")
    _device(mask)


def _add_invert(commands: Any) -> None:
    from ..training.invert_options import add_options

    invert = commands.add_parser(
        "invert",
        help="learn a new task from examples",
        description="Learn a task from examples of it, for one editor, and write it as a task file of "
        "a few KB for `emu-edit edit --task` and the Task node. EXAMPLES_DIR holds NAME.source.png, "
        "NAME.target.png and NAME.txt (the instruction) for each example, or an examples.json: a list of "
        "objects with source, target and instruction.",
        epilog="Example: emu-edit invert my_examples -o outline.safetensors --sheet outline.png",
    )
    add_options(invert)


def _version() -> str:
    try:
        return version("emu-edit")
    except PackageNotFoundError:
        return "(not installed by pip)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (`arguments` default to the process's) and return its exit code."""
    options = _parser().parse_args(arguments)
    return run(lambda: _dispatch(options), options.command)


def run(action: Callable[[], None], name: str) -> int:
    """Call `action` and turn what it raises into an exit code and one line on stderr."""
    try:
        action()
    except EmuEditError as slip:
        print(f"emu-edit {name}: {slip}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\nemu-edit {name}: interrupted; {str(stop) or 'no file was written'}.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _dispatch(options: argparse.Namespace) -> None:
    if options.command == "edit":
        from .edit import edit_file

        edit_file(options)
    elif options.command == "mask":
        from .mask import mask_file

        mask_file(options)
    elif options.command == "keep":
        from .keep import keep_file

        keep_file(options)
    elif options.command == "invert":
        from .invert import invert_examples

        invert_examples(options)
    elif options.command == "models":
        from .listing import list_models

        list_models(options.folder, options.json)
    elif options.command == "predict":
        from .predict import predict_lines

        predict_lines(
            options.instructions,
            options.file,
            options.json,
            options.predictor,
            options.encoder,
            options.threshold,
            options.fallback,
        )
    else:
        from .listing import list_tasks

        list_tasks(options.json)


if __name__ == "__main__":
    sys.exit(main())
