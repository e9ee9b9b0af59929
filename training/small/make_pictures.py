"""Draw the example pictures of the pack from the scenes in their list.

    python -m emu_edit.training.small.make_pictures pictures

The list, demo.json, holds twelve scenes and an edit of each. They were drawn from the world's held-out split
before the bundled editor was trained, and are not picked for success.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from .finishes import as_bytes
from .render import render
from .scene import Obj, Scene, Text


def scene_of(entry: Mapping[str, Any]) -> Scene:
    """The scene that an entry of the list describes (dataclasses.asdict of it)."""
    fields = dict(entry["scene"])
    fields["objects"] = tuple(Obj(**thing) for thing in fields["objects"])
    fields["text"] = Text(**fields["text"]) if fields["text"] else None
    return Scene(**fields)


def main() -> None:
    """The command; its one argument is the folder, with demo.json in it."""
    folder = Path(sys.argv[1])
    for entry in json.loads((folder / "demo.json").read_text())["edits"]:
        Image.fromarray(as_bytes(render(scene_of(entry)))).save(folder / entry["picture"])


if __name__ == "__main__":
    main()
