"""What a scene is, in words: for the text-to-image base, for translations from maps, for measurements."""

from __future__ import annotations

import numpy as np

from .scene import BACKGROUNDS, CANVAS, FIGURES, GLOBALS, Obj, Scene, article, describe
from .wording import a_style, caption_name, spoken, words_of

LEVELS = ("short", "usual", "rich")
MAX_WORDS = 28  # with a start and an end, a caption fits into 30 tokens


def caption(scene: Scene, rng: np.random.Generator | None = None, level: str = "usual") -> str:
    """ "a red ball and a blue cup on a beach at night", of at most MAX_WORDS words.

    level: "short" says things by colour and shape, and the backdrop; "usual" adds patterns, weather or hour,
    text and style; "rich" adds what figures do, what is small or big, and where it stands, while words last.
    With `rng`, synonyms are used now and then; without, the words are always the same.
    """
    if level not in LEVELS:
        raise ValueError(f"the level of a caption is one of {', '.join(LEVELS)}, not {level!r}")
    details = ("pose", "place", "size") if level == "rich" else ()
    said = [_thing(obj, rng, level, details) for obj in scene.objects]
    frame = _frame(scene, rng, level)
    text = _joined(said, frame)
    for dropped in range(len(scene.objects) * len(details)):
        if len(words_of(text)) <= MAX_WORDS:
            break
        k = len(scene.objects) - 1 - dropped % len(scene.objects)
        kept = details[: len(details) - 1 - dropped // len(scene.objects)]
        said[k] = _thing(scene.objects[k], None, level, kept)
        text = _joined(said, frame)
    return text


def place_of(obj: Obj) -> str:
    """Where an object is: "on the left", "in the air"."""
    if not obj.grounded:
        return "in the air"
    third = "left" if obj.x < 0.36 * CANVAS else "right" if obj.x > 0.64 * CANVAS else ""
    return f"on the {third}" if third else "in the middle"


def _thing(obj: Obj, rng: np.random.Generator | None, level: str, details: tuple[str, ...]) -> str:
    words = f"{obj.look} {obj.shape}" if level == "short" else describe(obj)
    words = spoken(rng, words) if rng is not None else words
    if "size" in details and not (34 <= obj.size <= 50):
        words = f"{'small' if obj.size < 34 else 'big'} {words}"
    words = article(words)
    if "pose" in details and obj.shape in FIGURES:
        words += f" {obj.pose}"
    return f"{words} {place_of(obj)}" if "place" in details else words


def _frame(scene: Scene, rng: np.random.Generator | None, level: str) -> tuple[str, str]:
    """What stands before and behind the list of things."""
    where = BACKGROUNDS[scene.background] if rng is None else caption_name(rng, scene.background)
    after, before = [where], ""
    if level != "short":
        if scene.effect:
            after.append(GLOBALS[scene.effect] if rng is None else caption_name(rng, scene.effect))
        if scene.text:
            after.append(f'with the text "{scene.text.word}"')
        if scene.style:
            styled = article(scene.style) if rng is None else a_style(rng, scene.style)[1]
            before = f"{styled} picture of "
    return before, " ".join(after)


def _joined(things: list[str], frame: tuple[str, str]) -> str:
    listed = " and ".join(filter(None, [", ".join(things[:-1]), things[-1]])) if things else "nothing"
    return f"{frame[0]}{listed} {frame[1]}"
