"""`python -m emu_edit.commands.demo`: the bundled editor on edits fixed beforehand, shown as they come.

Reads pictures/demo.json, {"edits": [{"picture", "instruction", "task"}]}, and carries every edit out as
`emu-edit edit PICTURE "INSTRUCTION"` does with no options; "task" is what the edit is meant to show and the
editor is not told. Writes contact_sheet.png and report.json, and leaves no edit out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .main import run

PICTURES = Path(__file__).resolve().parent.parent / "pictures"


def read_edits(file: Path) -> list[dict[str, str]]:
    """The edits of a demo.json, each with its picture's path, an instruction and the intended task."""
    from ..core.errors import EmuEditError
    from ..core.weights import read_json

    edits = []
    for number, entry in enumerate(read_json(file).get("edits", []), 1):
        missing = [key for key in ("picture", "instruction", "task") if not isinstance(entry.get(key), str)]
        if missing:
            raise EmuEditError(f"{file}: edit {number} has no {' and no '.join(missing)}; add it.")
        edits.append({**entry, "picture": str(file.parent / Path(entry["picture"]).name)})
    if not edits:
        raise EmuEditError(f'{file} lists no edits; it should hold {{"edits": [...]}}.')
    return edits


def _steps(count: int | None) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def demo(out: str, model: str | None, file: str, device: str) -> None:
    """Run all edits of `file` and write `out`/contact_sheet.png and `out`/report.json."""
    from ..core.edit import EditSettings
    from ..core.picture_files import load_picture
    from ..core.weights import replacing, write_json
    from .contact_sheet import Entry, contact_sheet
    from .edit import line_of, open_editor, run_turns

    edits = read_edits(Path(file))
    pictures = [load_picture(entry["picture"]) for entry in edits]
    started = time.perf_counter()
    backbone = open_editor(model, device)
    loading = time.perf_counter() - started
    settings = EditSettings().filled(backbone)
    print(f"{backbone.name} loaded in {loading:.1f} s; {_steps(settings.steps)} an edit on {backbone.device}")

    entries, rows = [], []
    for entry, picture in zip(edits, pictures, strict=True):
        (turn,) = run_turns(backbone, picture, [entry["instruction"]])
        meant = "" if turn.task == entry["task"] else f" (meant as {entry['task']})"
        note = f"task {turn.task}{meant}   {turn.seconds:.2f} s   {turn.changed:.0%} of the pixels changed"
        entries.append(Entry(turn.instruction, note, picture[0], turn.picture[0], turn.mask[0]))
        rows.append(turn.report() | {"picture": Path(entry["picture"]).name, "intended_task": entry["task"]})
        print(f"{len(rows)}/{len(edits)}: {line_of(turn)}", flush=True)
    mean = sum(row["seconds"] for row in rows) / len(rows)

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    heading = f"{backbone.name}: {len(rows)} edits, {_steps(settings.steps)}, {mean:.2f} s an edit"
    with replacing(folder / "contact_sheet.png") as part:
        contact_sheet(entries, heading, "each: input, edit, what changed").save(part, format="PNG")
    report = {
        "model": backbone.name,
        "device": str(backbone.device),
        "steps": settings.steps,
        "text_guidance": settings.text_guidance,
        "image_guidance": settings.image_guidance,
        "loading_seconds": round(loading, 3),
        "mean_seconds": round(mean, 3),
        "mean_changed": round(sum(row["changed"] for row in rows) / len(rows), 6),
        "edits": rows,
    }
    write_json(folder / "report.json", report)
    print(f"wrote {folder / 'contact_sheet.png'} and {folder / 'report.json'}")
    print(f"{mean:.2f} seconds per edit in the mean of {len(rows)} edits")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo's command line; exit codes as in commands.main."""
    parser = argparse.ArgumentParser(prog="demo", description="Edit the demo pictures; make a sheet.")
    parser.add_argument("--out", default="demo", metavar="FOLDER", help="where to write (default demo)")
    parser.add_argument("--model", metavar="PATH", help="another editor than the bundled one")
    parser.add_argument("--edits", default=str(PICTURES / "demo.json"), metavar="FILE", help="list of edits")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    options = parser.parse_args(arguments)
    return run(lambda: demo(options.out, options.model, options.edits, options.device), "demo")


if __name__ == "__main__":
    sys.exit(main())
