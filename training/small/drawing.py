"""How much of what a caption says the text-to-image base draws, read from its pictures by the scene parser.

    python -m emu_edit.training.small.drawing --pictures 64 --sheet base.png

Captions are those of held-out scenes without weather, words and style. A thing counts as drawn where the
parser reads its shape, colour and pattern anywhere in the picture. Beside it stands what the parser reads of
the true pictures of the same scenes, which is the most that could be reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.backbone import Backbone
from ...core.checkpoints import bundled_editor_path, load_editor
from ...core.errors import EmuEditError
from ...core.pairs.generate import generate_pair
from ...core.pairs.pair_settings import PairSettings
from ...core.picture_files import check_output
from ..arguments import at_least
from .captions import caption
from .finishes import as_bytes
from .parser import read_scene
from .render import render
from .scene import Scene, random_scene

BATCH = 16


def scenes_to_draw(count: int, seed: int) -> list[Scene]:
    """Held-out scenes of plain weather, without words and styles."""
    drawn = [random_scene(np.random.default_rng((seed, index, 9)), split="test") for index in range(count)]
    return [replace(scene, effect="", text=None, style="") for scene in drawn]


def draw(
    base: Backbone, captions: Sequence[str], seed: int, steps: int | None, guidance: float | None
) -> np.ndarray:
    """Pictures float32 [N,S,S,3] in 0..1."""
    # A target that copies its source to the end costs nothing.
    settings = PairSettings(steps=steps, guidance=guidance, blend=1.0)
    shown = []
    for first in range(0, len(captions), BATCH):
        part = list(captions[first : first + BATCH])
        seeds = [seed + first + row for row in range(len(part))]
        shown.append(generate_pair(base, part, part, None, settings, seeds).source.numpy())
    return np.concatenate(shown)


def read(scenes: Sequence[Scene], pictures: Sequence[np.ndarray]) -> dict[str, float]:
    """Shares read as said: backdrops, things whole, their shapes alone, and pictures right in everything."""
    told: dict[str, list[float]] = {"backdrop": [], "thing": [], "shape": [], "all": []}
    for scene, picture in zip(scenes, pictures, strict=True):
        found = read_scene(picture, len(scene.objects) + 1)
        seen = [(obj.shape, obj.look, obj.texture) for obj in found.objects]
        things = [float((obj.shape, obj.look, obj.texture) in seen) for obj in scene.objects]
        told["backdrop"].append(float(found.background == scene.background))
        told["thing"] += things
        told["shape"] += [float(obj.shape in {one[0] for one in seen}) for obj in scene.objects]
        right = len(seen) == len(scene.objects) and found.background == scene.background
        told["all"].append(float(right and all(things)))
    return {name: round(float(np.mean(values)), 4) for name, values in told.items() if values}


def sheet(pictures: np.ndarray, columns: int = 8) -> Image.Image:
    """The pictures in rows; those that fill no row are left out."""
    columns = min(columns, len(pictures))
    rows = [
        np.concatenate([as_bytes(picture) for picture in pictures[first : first + columns]], 1)
        for first in range(0, len(pictures) - len(pictures) % columns, columns)
    ]
    return Image.fromarray(np.concatenate(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=bundled_editor_path().with_name("small_base"))
    parser.add_argument("--pictures", type=at_least(1), default=64)
    parser.add_argument("--seed", type=at_least(0), default=7)
    parser.add_argument("--steps", type=at_least(1))
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sheet", type=Path, help="write the pictures, 8 a row")
    chosen = parser.parse_args(arguments)
    scenes = scenes_to_draw(chosen.pictures, chosen.seed)
    try:
        if chosen.sheet:
            check_output(chosen.sheet)
        base = load_editor(chosen.model, kind="text-to-image")
        captions = [caption(scene) for scene in scenes]
        pictures = draw(base, captions, chosen.seed, chosen.steps, chosen.guidance)
    except EmuEditError as slip:
        print(slip, file=sys.stderr)
        return 1
    found = read(scenes, list(pictures))
    most = read(scenes, [as_bytes(render(scene)) / np.float32(255) for scene in scenes])
    if chosen.sheet:
        sheet(pictures).save(chosen.sheet)
    if chosen.json:
        print(json.dumps({"drawn": found, "true_pictures": most, "pictures": chosen.pictures}))
        return 0
    for name, value in found.items():
        print(f"{name:9} {value:.3f}  (of the true pictures {most[name]:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
