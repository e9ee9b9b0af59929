"""The pictures of the template browser: run each shipped workflow and set its previews side by side.

    python -m emu_edit.commands.thumbnails [NAME ...]

runs workflows/api/NAME.json (all by default) with this pack's nodes, without ComfyUI, and writes
workflows/NAME.jpg. What core nodes do in these graphs is little enough to be done here; a workflow that
uses others is told and left as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import EmuEditError

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
SIDE, GAP, CAPTION = 256, 8, 24

INSPECTED = 7  # the output of Inspect Pair that is its sheet
WIDE = 1.5  # proportions from which on a picture gets a row to itself


def _somebodys_picture(image: str) -> tuple[Any, Any]:
    """For Load Image, in place of the user's own picture and what they drew: ours, and a disc as its mask."""
    import torch

    from ..core.picture_files import load_picture
    from ..nodes.pictures import pictures

    picture = load_picture(next(iter(pictures().values())))
    height, width = picture.shape[1:3]
    y, x = torch.arange(height)[:, None] - 0.6 * height, torch.arange(width)[None] - 0.45 * width
    return picture, (y.square() + x.square() < (0.2 * min(height, width)) ** 2)[None].float()


# Core nodes, and what must leave nothing behind: inputs -> outputs. Pictures are collected from the inputs of
# previews.
CORE: dict[str, Callable[..., tuple[Any, ...]]] = {
    "LoadImage": _somebodys_picture,
    "PrimitiveStringMultiline": lambda value: (value,),
    "PreviewImage": lambda images: (),
    "MaskPreview": lambda mask: (),
    "PreviewAny": lambda source: (),
    "EmuEditSavePairs": lambda pairs, name, layout: ("", "", 0),  # a thumbnail leaves nothing behind
}


def run_workflow(prompt: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run a graph in API format; returns the pictures [B,H,W,3] shown, by the title of their preview node."""
    from ..nodes import NODE_CLASS_MAPPINGS

    unknown = {n["class_type"] for n in prompt.values()} - set(CORE) - set(NODE_CLASS_MAPPINGS)
    if unknown:
        raise EmuEditError(f"it uses {', '.join(sorted(unknown))}, which only ComfyUI has; run it there.")
    results: dict[str, tuple[Any, ...]] = {}
    shown: dict[str, Any] = {}

    def result(key: str) -> tuple[Any, ...]:
        if key not in results:
            node = prompt[key]
            inputs = {
                name: result(value[0])[value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            }
            kind = node["class_type"]
            if kind in CORE:
                results[key] = CORE[kind](**inputs)
            else:
                block = NODE_CLASS_MAPPINGS[kind]
                given = getattr(block(), block.FUNCTION)(**inputs)
                results[key] = given["result"] if isinstance(given, dict) else given
            if kind == "PreviewImage":
                shown[node["_meta"]["title"]] = inputs["images"]
            elif kind == "EmuEditMaskPreview":
                shown[node["_meta"]["title"]] = results[key][0]
            elif kind == "EmuEditInspectPair":
                shown[node["_meta"]["title"]] = results[key][INSPECTED]
        return results[key]

    for key in prompt:
        result(key)
    return shown


def contact_sheet(pictures: dict[str, Any]) -> Any:
    """A PIL picture with the first of each batch above its title: square tiles, two or three in a row, then
    wide ones in a row each.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    from ..core.picture_files import to_pil

    tiles = {title: to_pil(batch[0]) for title, batch in pictures.items() if len(batch)}
    wide = [title for title, tile in tiles.items() if tile.width > WIDE * tile.height]
    small = [title for title in tiles if title not in wide]
    columns = 3 if len(small) > 4 else 2
    across = columns * (SIDE + GAP) - GAP
    places, top = [], GAP
    for first in range(0, len(small), columns):
        places += [
            (GAP + i * (SIDE + GAP), top, SIDE, SIDE) for i in range(len(small[first : first + columns]))
        ]
        top += SIDE + CAPTION + GAP
    for title in wide:
        height = round(across * tiles[title].height / tiles[title].width)
        places.append((GAP, top, across, height))
        top += height + CAPTION + GAP
    sheet = Image.new("RGB", (across + 2 * GAP, top), (32, 32, 36))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for title, (x, y, width, height) in zip([*small, *wide], places, strict=True):
        sheet.paste(ImageOps.pad(tiles[title], (width, height), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + width // 2, y + height + CAPTION // 2), title, (225, 225, 225), font, anchor="mm")
    return sheet


def from_left_to_right(name: str, pictures: dict[str, Any]) -> dict[str, Any]:
    """The pictures in the order in which their preview nodes stand in the graph."""
    graph = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    places = {node.get("title", ""): (node["pos"][0], node["pos"][1]) for node in graph["nodes"]}
    return dict(sorted(pictures.items(), key=lambda item: places.get(item[0], (0, 0))))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="thumbnails", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="workflows, without .json; all by default")
    names = parser.parse_args(arguments).names or sorted(p.stem for p in (FOLDER / "api").glob("*.json"))
    failed = 0
    for name in names:
        try:
            prompt = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
            sheet = contact_sheet(from_left_to_right(name, run_workflow(prompt)))
        except EmuEditError as slip:
            print(f"{name}: {slip}", file=sys.stderr)
            failed += 1
            continue
        sheet.save(FOLDER / f"{name}.jpg", quality=90)
        print(f"workflows/{name}.jpg")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
