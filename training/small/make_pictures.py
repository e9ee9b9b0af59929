"""Write the example pictures of the pack, and the twelve edits that the demo makes of them.

    python -m emu_edit.training.small.make_pictures pictures

The edits are the first that the held-out split of the world gives for each task below: they were fixed before
the bundled editor was trained, and are not picked for success.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

from .edits import make_example

SEED = 2026
DEMO = (
    "local",
    "local",
    "remove",
    "add",
    "texture",
    "background",
    "global",
    "style",
    "color",
    "color",
    "detect",
    "segment",
)


def main() -> None:
    """The command; its one argument is the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    edits = []
    for number, task in enumerate(DEMO):
        made = make_example(SEED, number, tasks=(task,), split="test")
        name = f"scene_{number + 1:02}.png"
        Image.fromarray(made.source).save(folder / name)
        edits.append(
            {"picture": name, "instruction": made.instruction, "task": task, "caption": made.source_caption}
        )
    (folder / "demo.json").write_text(json.dumps({"edits": edits}, indent=1) + "\n")


if __name__ == "__main__":
    main()
