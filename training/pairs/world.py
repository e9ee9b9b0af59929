"""The procedural world as a source of jobs and as the models that recipes ask for: exact ones.

A picture that the world has drawn is known by its bytes, so that detector, reader, inpainter and annotators
answer from the scene itself. Other pictures (a text-to-image model's) are read by `parse`, the world's scene
parser unless another is given.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...core.errors import EmuEditError
from ...core.masks.phrases import Phrase
from ...core.masks.sources import NONE_FOUND, DetectSettings, Found
from ...core.pairs.recipes.base import Annotator, Lettering, NoCandidate
from ...core.pairs.records import Instruction, PairJob
from ..small import maps
from ..small.edits import Example, make_example
from ..small.finishes import as_bytes
from ..small.lettering import draw_text, text_mask
from ..small.parser import read_scene
from ..small.render import render
from ..small.scene import RGB, Obj, Scene, Text, describe, phrase
from ..small.wording import NAMES

Parser = Callable[[Tensor], Scene | None]


def read(picture: Tensor) -> Scene | None:
    """The scene that a picture [S,S,3] in 0..1 shows, as far as the parser makes it out."""
    return read_scene(as_bytes(picture.numpy()))


KEPT = 64  # scenes remembered; a job looks at a handful
MADE_FROM = "scene"


class World:
    """Scenes of `size` pixels of a split (see small.scene.SPLITS), and exact answers about them."""

    name = "the world's own scenes"

    def __init__(self, size: int = 128, split: str = "train", parse: Parser = read) -> None:
        self.size, self.split, self.parse = size, split, parse
        self._scenes: OrderedDict[str, Scene] = OrderedDict()

    def job(self, seed: int, number: int, task: str, ident: str) -> PairJob:
        """Job `number` of a stream: one edit of one scene, in the world's own words."""
        made = make_example(seed, number, (task,), 16, split=self.split)
        assert made.before is not None and made.after is not None
        words = Instruction(
            task,
            made.instruction,
            made.source_caption,
            made.target_caption,
            *_objects(task, made),
            metadata={"writer": "world", "kind": made.kind},
        )
        chance = int(np.random.SeedSequence((seed, number, 7)).generate_state(1, np.uint32)[0])
        return PairJob(ident, chance, words, picture=f"{MADE_FROM}:{self.split}:{seed}:{number}")

    def example(self, job: PairJob) -> Example:
        """What a job's picture was drawn from."""
        try:
            kind, split, seed, number = job.picture.split(":")
            if kind != MADE_FROM:
                raise ValueError("it is a file")
            return make_example(int(seed), int(number), (job.task,), 16, split=split)
        except ValueError as problem:
            raise EmuEditError(
                f"the picture {job.picture!r} is none of the world's ({problem})."
            ) from problem

    def picture(self, job: PairJob) -> Tensor:
        """The picture [S,S,3] that a recipe starts from: the scene before the edit, or, where lettering is
        added, after it."""
        made = self.example(job)
        scene = made.after if job.task == "text" and made.before.text is None else made.before  # type: ignore[union-attr]
        assert scene is not None
        return self.drawn(scene)

    def drawn(self, scene: Scene) -> Tensor:
        """A scene as a picture [S,S,3] in 0..1 of 256 levels, remembered."""
        picture = torch.from_numpy(as_bytes(render(scene, self.size)).astype(np.float32) / 255)
        self.remember(picture, scene)
        return picture

    def remember(self, picture: Tensor, scene: Scene) -> None:
        """That a picture shows this scene."""
        self._scenes[_print(picture)] = scene
        while len(self._scenes) > KEPT:
            self._scenes.popitem(last=False)

    def scene(self, picture: Tensor) -> Scene:
        """What a picture shows; NoCandidate when nobody can tell."""
        found = self._scenes.get(_print(picture))
        if found is None:
            found = self.parse(picture)
            if found is None:
                raise NoCandidate("no scene could be made out in the picture.")
            self.remember(picture, found)
        return found

    def detect(
        self, images: Tensor, phrases: Sequence[Phrase], settings: DetectSettings
    ) -> tuple[Found, ...]:
        """masks.sources.Source: the objects that the phrases name, exactly."""
        return tuple(self._found(image, phrases) for image in images)

    def _found(self, image: Tensor, phrases: Sequence[Phrase]) -> Found:
        try:
            scene = self.scene(image)
        except NoCandidate:
            return NONE_FOUND
        planes = torch.from_numpy(maps.masks(scene, image.shape[0]))
        named = [
            (k, wanted.text)
            for k, obj in enumerate(scene.objects)
            for wanted in phrases
            if fits(wanted.text, obj) and bool((planes[k] > 0.5).any())
        ]
        if not named:
            return NONE_FOUND
        chosen = planes[[k for k, _ in named]]
        boxes = torch.stack([_box(plane) for plane in chosen])
        return Found(boxes, torch.ones(len(named)), tuple(text for _, text in named), chosen)

    def read(self, picture: Tensor) -> list[Lettering]:
        """recipes.base.TextReader: the word of the scene."""
        word = self.scene(picture).text
        if word is None:
            return []
        mask = torch.from_numpy(text_mask(word, picture.shape[0]))
        left, top, right, bottom = _box(mask).tolist()
        return [Lettering(word.word, (left, top, right, bottom), mask, word.colour)]

    def inpaint(self, picture: Tensor, mask: Tensor, caption: str, seed: int) -> Tensor:
        """recipes.base.Inpainter: the scene without its word where the mask is, the picture elsewhere."""
        bare = replace(self.scene(picture), text=None)
        filled = torch.where(mask[..., None] > 0, self.drawn(bare), picture)
        self.remember(filled, bare)
        return filled

    def write(
        self, picture: Tensor, box: Sequence[float], text: str, colour: str, font: str
    ) -> tuple[Tensor, Tensor]:
        """recipes.base.Writer: in the world's one font, at the top or at the bottom as the box says."""
        word = Text(text, colour if colour in RGB else "white", "top" if box[1] < self.size / 2 else "bottom")
        canvas = picture.numpy().copy()
        try:
            draw_text(canvas, word)
        except (KeyError, ValueError) as problem:
            raise NoCandidate(f"the lettering {text!r} does not fit the picture ({problem}).") from problem
        written = torch.from_numpy(canvas).clamp(0, 1)
        self.remember(written, replace(self.scene(picture), text=word))
        return written, torch.from_numpy(text_mask(word, picture.shape[0]))

    def annotators(self) -> dict[str, Annotator]:
        """Exact maps by task."""
        made = {
            "depth": maps.depth,
            "segmentation": maps.segmentation,
            "pose": maps.pose,
            "normal": maps.normals,
            "sketch": maps.sketch,
        }
        return {task: _Map(self, draw) for task, draw in made.items()}


class _Map:
    """recipes.base.Annotator of one of the world's maps."""

    def __init__(self, world: World, draw: Callable[[Scene, int], np.ndarray]) -> None:
        self.world, self.draw = world, draw

    def annotate(self, picture: Tensor) -> Tensor:
        return torch.from_numpy(self.draw(self.world.scene(picture), picture.shape[0])).clamp(0, 1)


_USUAL = {other: usual for usual, names in NAMES.items() for other in names if " " not in other}


def fits(words: str, obj: Obj) -> bool:
    """Whether every word names something about the object: its shape, colour or texture."""
    said = {_USUAL.get(word, word) for word in words.lower().split()} - {"a", "an", "the"}
    return obj.shape in said and said <= {*describe(obj).split(), obj.colour, obj.texture, obj.shape}


def _objects(task: str, made: Example) -> tuple[str, str]:
    """Original and edited object of a world's edit, in words that `fits` understands."""
    before, after, focus = made.before, made.after, made.focus
    assert before is not None and after is not None
    if task == "text":
        return before.text.word if before.text else "", after.text.word if after.text else ""
    if task == "background":  # what stands before it is looked for
        return " and ".join(phrase(obj, before) for obj in before.objects), after.background
    if focus is None:
        return "", ""
    if task == "add":
        return "", phrase(after.objects[focus], after)
    original = phrase(before.objects[focus], before)
    if task == "remove":
        return original, ""
    return original, original if task in ("detect", "segment") else phrase(after.objects[focus], after)


def _box(plane: Tensor) -> Tensor:
    """left, top, right, bottom (exclusive) of what a mask [H,W] marks."""
    marked = plane > 0.5
    rows, columns = marked.any(dim=1).nonzero()[:, 0], marked.any(dim=0).nonzero()[:, 0]
    return torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=torch.float32)


def _print(picture: Tensor) -> str:
    levels = (picture.detach().cpu() * 255).round().to(torch.uint8).contiguous()
    return hashlib.blake2b(levels.numpy().tobytes(), digest_size=16).hexdigest()
