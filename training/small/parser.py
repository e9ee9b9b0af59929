"""Reads a picture of the world back into its scene: backdrop, weather, word, objects.

    python -m emu_edit.training.small.parser --scenes 200

Analysis by synthesis, without any training: the backdrop that explains most pixels, then the word, then one
object after another, each proposed by its outline (correlation with every sprite) and decided by drawing it
in every colour and texture. Errors are cut off at CAP a pixel, so that what is not understood yet weighs
little. The command prints how often each attribute is read right on scenes drawn with known answers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..arguments import at_least
from .backdrops import backdrop
from .finishes import as_bytes
from .lettering import draw_text, text_mask
from .render import LATTICE, placed, render
from .scene import (
    BACKGROUNDS,
    CANVAS,
    COLOURS,
    FIGURES,
    GLOBALS,
    MATERIALS,
    OUTDOORS,
    PATTERNS,
    POSES,
    RGB,
    SHAPES,
    WORDS,
    Obj,
    Scene,
    Text,
    as_float,
    frozen,
    random_scene,
)
from .shapes import _DARK, _PALE, sprite, textured
from .weather import weather

WORK = 64  # pixels of the side at which outlines are sought
STEP = LATTICE * WORK // CANVAS  # things stand on a lattice
CAP = 0.25  # of the error of one pixel
AT_MOST = 5  # objects
NEAR = 0.12  # of the side: an object read farther off than this stands elsewhere

#: Every appearance an object may have: (colour, texture). A material hides the colour.
LOOKS = tuple((colour, texture) for texture in ("plain", *PATTERNS) for colour in COLOURS) + tuple(
    ("brown", material) for material in MATERIALS
)


def read_scene(picture: np.ndarray, at_most: int = AT_MOST) -> Scene:
    """The scene of a picture, uint8 or float 0..1 [S, S, 3]; styles are not read."""
    seen = np.asarray(picture, np.float32) / (255 if picture.dtype == np.uint8 else 1)
    if seen.shape[0] != WORK:
        planes = torch.from_numpy(np.ascontiguousarray(seen)).movedim(-1, 0)[None]
        planes = F.interpolate(planes, (WORK, WORK), mode="area")
        seen = planes[0].movedim(0, -1).numpy()
    scene = _backdrop_of(seen)
    scene = replace(scene, text=_text_of(seen, scene))
    for _ in range(at_most):
        trials = [
            _settled(seen, replace(scene, objects=(*scene.objects, obj)))
            for obj in _next_objects(seen, scene)
        ]
        if not trials:
            break
        scene = min(trials, key=lambda trial: _total(seen, trial))
    return _without_ghosts(seen, scene)


def holds(scene: Scene, wanted: Obj, near: float = NEAR, size: float = 0.0) -> bool:
    """Whether a scene as read shows the object: shape, colour (or material), pattern, and place.

    With `size`, it may also be at most that many times too big or too small.
    """
    return any(
        (obj.shape, obj.look, obj.texture) == (wanted.shape, wanted.look, wanted.texture)
        and offset(obj, wanted) <= near
        and (not size or max(obj.size / wanted.size, wanted.size / obj.size) <= size)
        for obj in scene.objects
    )


def offset(one: Obj, other: Obj) -> float:
    """Between the middles of two objects, as a share of the picture's side."""
    return float(np.hypot(one.x - other.x, one.y - one.size / 2 - other.y + other.size / 2)) / CANVAS


def _cost(seen: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The error of every pixel, [..., H, W], at most CAP."""
    off = np.abs(seen - drawn)
    return np.minimum((off[..., 0] + off[..., 1] + off[..., 2]) / 3, CAP)


@lru_cache(maxsize=1)
def _bare() -> tuple[list[Scene], np.ndarray]:
    """Every backdrop under every weather, as scenes and as pictures [n, WORK / 2, WORK / 2, 3]."""
    scenes = [
        Scene(name, (), None, effect, "", 0.98, mirrored)
        for name in BACKGROUNDS
        for effect in ("", *(GLOBALS if name in OUTDOORS else ()))
        for mirrored in (False, True)
    ]
    return scenes, np.stack([_halved(render(scene, WORK)) for scene in scenes])


def _halved(picture: np.ndarray) -> np.ndarray:
    h, w = picture.shape[0] // 2, picture.shape[1] // 2
    return picture.reshape(h, 2, w, 2, 3).mean((1, 3))


def _backdrop_of(seen: np.ndarray) -> Scene:
    scenes, pictures = _bare()
    ranked = np.argsort(_cost(_halved(seen), pictures).mean((-2, -1)))[:4]
    lit = [replace(scenes[k], light=0.90 + 0.04 * step) for k in ranked for step in range(5)]
    best = min(lit, key=lambda scene: _total(seen, scene))
    lights = [replace(best, light=round(best.light + 0.01 * step, 2)) for step in (-2, -1, 0, 1, 2)]
    return min(lights, key=lambda scene: _total(seen, scene))


def _text_of(seen: np.ndarray, scene: Scene) -> Text | None:
    """The word that lies over the picture, if one explains its pixels much better than the backdrop does."""
    size = seen.shape[0]
    drawn = render(scene, size)
    before = _cost(seen, drawn)
    best, best_gain = None, 0.0
    for place in ("top", "bottom"):
        for word in WORDS:
            cover = text_mask(Text(word, "white", place), size)
            rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
            window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            area = cover[window]
            if float((before[window] * area).sum()) < 0.05 * area.sum():
                continue  # the backdrop as it is explains these pixels
            for colour in COLOURS:
                text = Text(word, colour, place)
                picture = drawn.copy()
                draw_text(picture, text)
                gain = float(((before[window] - _cost(seen[window], picture[window])) * area).sum())
                if gain > best_gain and gain > 0.035 * area.sum():
                    best, best_gain = text, gain
    return best


@lru_cache(maxsize=1)
def _outlines() -> tuple[list[tuple[str, int, bool, str]], np.ndarray, np.ndarray, np.ndarray]:
    """Every sprite at WORK pixels: its key, its spectrum, its area, and the size (h, w) of its window."""
    keys, spectra, areas, windows = [], [], [], []
    for shape in SHAPES:
        posed = shape in FIGURES
        for size in range(32, 81, LATTICE) if posed else range(24, 65, LATTICE):
            for flip in (False, True):
                for pose in POSES if posed else POSES[:1]:
                    side = max(6, round(size * WORK / CANVAS))
                    alpha = sprite(shape, side, flip, pose).alpha
                    if flip and np.allclose(alpha, sprite(shape, side, False, pose).alpha):
                        continue
                    padded = np.zeros((WORK, WORK), np.float32)
                    padded[: alpha.shape[0], : alpha.shape[1]] = alpha
                    keys.append((shape, size, flip, pose))
                    spectra.append(np.conj(np.fft.rfft2(padded)).astype(np.complex64))
                    areas.append(float(alpha.sum()))
                    windows.append(alpha.shape)
    return keys, np.stack(spectra), np.array(areas, np.float32), np.array(windows)


def _unexplained(seen: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Where the drawing is wrong, [S, S] in -1..1: 1 is surely something else, -1 surely as drawn."""
    difference = np.abs(seen - drawn).max(-1)
    wrong = np.clip((difference - 0.05) / 0.10, 0, 1)
    shade = (seen * drawn).sum(-1) / np.maximum((drawn * drawn).sum(-1), 1e-4)
    shadowed = (np.abs(seen - shade[..., None] * drawn).max(-1) < 0.035) & (shade > 0.55) & (shade < 1)
    return 2 * wrong * np.where(shadowed, 0.2, 1.0) - 1


def _next_objects(seen: np.ndarray, scene: Scene, count: int = 3) -> list[Obj]:
    """The objects that explain most of what is left, best first; none if little is left."""
    drawn = render(scene, WORK)
    wrong = _unexplained(seen, drawn)
    if (wrong > 0).sum() < 25:
        return []
    keys, spectra, areas, windows = _outlines()
    # objects lie wholly inside the picture, so that the correlation may go round
    score = np.fft.irfft2(np.fft.rfft2(wrong).astype(np.complex64) * spectra)
    best: dict[tuple[str, str, int], tuple[float, Obj]] = {}
    for power in (0.0, 0.5):
        for k, (shape, size, flip, pose) in enumerate(keys):
            h, w = windows[k]
            here = score[k, : WORK - h + 1 : STEP, : WORK - w + 1 : STEP]
            top, left = (STEP * place for place in np.unravel_index(int(here.argmax()), here.shape))
            value = float(score[k, top, left]) / areas[k] ** power
            if value <= 0 or (value <= best.get((shape, pose, int(2 * power)), (0.0,))[0]):
                continue
            x, y = (left + w / 2) * CANVAS / WORK, (top + h) * CANVAS / WORK
            obj = Obj(shape, "red", "plain", round(x), round(y), size, flip, bool(y > 80), pose)
            best[(shape, pose, int(2 * power))] = (value, obj)
    before = _cost(seen, drawn)
    tried = [_dressed(seen, scene, obj, before) for obj in _most_likely(best)]
    ranked = sorted((entry for entry in tried if entry[0] > 0), key=lambda entry: -entry[0])
    kinds: dict[tuple[str, str], Obj] = {}
    for _, obj in ranked:
        kinds.setdefault((obj.shape, obj.pose), obj)
    return list(kinds.values())[:count]


def _most_likely(best: dict[tuple[str, str, int], tuple[float, Obj]], count: int = 14) -> list[Obj]:
    """The candidates with the best scores, whether or not large ones are preferred, without repeats."""
    chosen: list[Obj] = []
    for power in (0, 1):
        ranked = sorted((v for k, v in best.items() if k[2] == power), key=lambda entry: -entry[0])
        chosen += [obj for _, obj in ranked[:count] if obj not in chosen]
    return chosen


@lru_cache(maxsize=2048)
def _wardrobe(shape: str, side: int, flip: bool, pose: str) -> np.ndarray:
    """The own colour of a sprite in every one of LOOKS, [n, h, w, 3]."""
    sheet = sprite(shape, side, flip, pose)
    black = as_float((0, 0, 0))
    worn = []
    for texture in ("plain", *PATTERNS):
        weight = 0.0 if texture == "plain" else textured(sheet, side, black, texture)[..., :1] / _PALE[0]
        for colour in COLOURS:
            other = _DARK if float(RGB[colour] @ as_float((0.3, 0.59, 0.11))) > 0.72 else _PALE
            worn.append(
                np.broadcast_to(RGB[colour] + weight * (other - RGB[colour]), (*sheet.alpha.shape, 3))
            )
    worn += [textured(sheet, side, black, material) for material in MATERIALS]
    return frozen(np.stack(worn))


def _dressed(seen: np.ndarray, scene: Scene, obj: Obj, before: np.ndarray) -> tuple[float, Obj]:
    """The appearance that explains the pixels of an object best, and by how much it beats `before` [S, S]."""
    size = seen.shape[0]
    found = placed(obj, size)
    if found is None:
        return 0.0, obj
    sheet, side, where, window = found
    under = backdrop(scene.background, scene.effect, scene.mirrored, size).rgb[where]
    alpha = sheet.alpha[window][..., None]
    base = under * (1 - alpha) + sheet.fixed[window]
    colours = _wardrobe(obj.shape, side, obj.flip, obj.pose)[(slice(None), *window)]
    paint = (base + sheet.main[window][..., None] * colours) * np.float32(scene.light)
    if scene.effect:
        paint = _weathered(paint, scene.effect, size, where)
    weight = np.minimum(2 * sheet.alpha[window], 1)
    gains = ((before[where] - _cost(seen[where], np.clip(paint, 0, 1))) * weight).sum((-2, -1))
    best = int(gains.argmax())
    return float(gains[best]), replace(obj, colour=LOOKS[best][0], texture=LOOKS[best][1])


def _weathered(paint: np.ndarray, effect: str, size: int, where) -> np.ndarray:
    """`weather` on windows [n, h, w, 3] of a picture."""
    out = np.empty_like(paint)
    canvas = np.zeros((size, size, 3), np.float32)
    for k, one in enumerate(paint):
        canvas[where] = one
        out[k] = weather(canvas, effect)[where]
    return out


def _total(seen: np.ndarray, scene: Scene) -> float:
    return float(_cost(seen, render(scene, seen.shape[0])).sum())


def _settled(seen: np.ndarray, scene: Scene) -> Scene:
    """Moves, sizes and dresses the newest object until nothing helps any more."""
    k = len(scene.objects) - 1
    best = _total(seen, scene)
    for _ in range(3):
        obj, improved = scene.objects[k], False
        steps: list[dict[str, Any]] = [
            {"x": obj.x + LATTICE},
            {"x": obj.x - LATTICE},
            {"y": obj.y + LATTICE},
            {"y": obj.y - LATTICE},
            {"size": obj.size + LATTICE},
            {"size": obj.size - LATTICE},
            {"size": obj.size + LATTICE, "y": obj.y + LATTICE},
            {"size": obj.size - LATTICE, "y": obj.y - LATTICE},
            {"flip": not obj.flip},
            {"grounded": not obj.grounded},
        ]
        for step in steps:
            moved = replace(scene.objects[k], **step)
            trial = replace(scene, objects=(*scene.objects[:k], moved))
            cost = _total(seen, trial)
            if cost < best - 1e-3:
                best, scene, improved = cost, trial, True
        without = _cost(seen, render(replace(scene, objects=scene.objects[:k]), seen.shape[0]))
        dressed = _dressed(seen, scene, scene.objects[k], without)[1]
        trial = replace(scene, objects=(*scene.objects[:k], dressed))
        if dressed != scene.objects[k] and (cost := _total(seen, trial)) < best - 1e-3:
            best, scene, improved = cost, trial, True
        if not improved:
            break
    return scene


def _without_ghosts(seen: np.ndarray, scene: Scene) -> Scene:
    """Drops objects that explain too little to be believed."""
    for obj in sorted(scene.objects, key=lambda o: o.size):
        rest = replace(scene, objects=tuple(o for o in scene.objects if o is not obj))
        gain = _total(seen, rest) - _total(seen, scene)
        found = placed(obj, seen.shape[0])
        if found is None or gain < max(0.035 * float(found[0].alpha.sum()), 2.5):
            scene = rest
    return scene


def accuracy(scenes: int, seed: int, size: int) -> dict[str, float]:
    """How often each attribute is read right on random scenes; objects are matched by place."""
    told: dict[str, list[float]] = {}

    def note(name: str, right: bool) -> None:
        told.setdefault(name, []).append(float(right))

    for index in range(scenes):
        truth = random_scene(np.random.default_rng((seed, index, 5)), split="test")
        read = read_scene(as_bytes(render(truth, size)))
        note("backdrop", read.background == truth.background)
        note("weather", read.effect == truth.effect)
        note("text", read.text == truth.text)
        note("count", len(read.objects) == len(truth.objects))
        for obj in truth.objects:
            near = [o for o in read.objects if offset(o, obj) <= NEAR]
            note("place", bool(near))
            if near:
                other = min(near, key=lambda o: offset(o, obj))
                note("shape", other.shape == obj.shape)
                note("colour", other.look == obj.look)
                note("texture", other.texture == obj.texture)
            note("object", holds(read, obj))
        note("scene", all(holds(read, o) for o in truth.objects) and len(read.objects) == len(truth.objects)
             and (read.background, read.effect) == (truth.background, truth.effect))  # fmt: skip
    return {name: round(float(np.mean(values)), 4) for name, values in told.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=at_least(1), default=200)
    parser.add_argument("--seed", type=at_least(0), default=7)
    parser.add_argument("--size", type=at_least(32), default=128, help="pixels of the side")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    began = time.perf_counter()
    found = accuracy(chosen.scenes, chosen.seed, chosen.size)
    seconds = round((time.perf_counter() - began) / chosen.scenes, 3)
    if chosen.json:
        print(json.dumps(found | {"scenes": chosen.scenes, "seconds_per_scene": seconds}))
        return
    for name, value in found.items():
        print(f"{name:9} {value:.3f}")
    print(f"{chosen.scenes} scenes of {chosen.size} px, {seconds} s each; place: within {NEAR} of the side")


if __name__ == "__main__":
    main()
