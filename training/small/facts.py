"""What an instruction or a caption says, as labels: who is meant, what it becomes, where.

Only what can be known from the words is labelled; everything else is NOTHING, option 0 of every slot.
"""

from __future__ import annotations

import numpy as np

from .captions import LEVELS, caption
from .edits import PLANS, TASKS, usable
from .scene import (
    ANCHORS,
    BACKGROUNDS,
    COLOURS,
    GLOBALS,
    MATERIALS,
    PATTERNS,
    SHAPES,
    STYLES,
    WORDS,
    Obj,
    Scene,
    pick,
    random_scene,
)
from .translations import Plan
from .wording import KINDS, LOOKS, NAMES, words_of

NOTHING = ""
ADJECTIVES = (*COLOURS, *MATERIALS)  # what tells a thing from others of its shape
#: How often each task is read about: more where words decide more.
SHARES: dict[str, float] = {task: 1.0 for task in TASKS} | {
    "local": 4.0,
    "add": 4.0,
    "texture": 2.0,
    "text": 2.0,
    "remove": 1.5,
    "detect": 1.5,
    "segment": 1.5,
}
CAPTIONS = 0.15  # of the texts are captions of pictures

SLOTS: dict[str, tuple[str, ...]] = {
    name: (NOTHING, *options)
    for name, options in {
        "kind": (*(f"{task} {kind}" for task in KINDS for kind in KINDS[task]), "caption"),
        "who": SHAPES,
        "whose look": ADJECTIVES,
        "new shape": SHAPES,
        "new look": ADJECTIVES,
        "new texture": ("plain", *PATTERNS, *MATERIALS),
        "place": (*ANCHORS, "bottom", "left of", "right of", "on"),
        "beside": SHAPES,
        "backdrop": tuple(BACKGROUNDS),
        "weather": (*GLOBALS, "clear"),
        "style": STYLES,
        "colours": tuple(LOOKS),
        "word": WORDS,
        "word's colour": tuple(COLOURS),
    }.items()
}
#: Things that captions list: "red ball", "striped ball".
MENTIONS: tuple[str, ...] = tuple(
    f"{adjective} {shape}" for shape in SHAPES for adjective in (*ADJECTIVES, *PATTERNS)
)
_MENTION = {name: number for number, name in enumerate(MENTIONS)}


def told(rng: np.random.Generator, split: str = "train") -> tuple[str, np.ndarray, np.ndarray]:
    """A random text, its labels int64 [len(SLOTS)] and its mentions float32 [len(MENTIONS)] (0 or 1)."""
    if rng.random() < CAPTIONS:
        scene = random_scene(rng, split=split)
        text = caption(scene, rng, pick(rng, LEVELS[1:]))
        return _labelled(text, {"kind": "caption", **_frame(scene)}, scene)
    shares = np.cumsum([SHARES[task] for task in TASKS])
    task = TASKS[int(np.searchsorted(shares / shares[-1], rng.random(), side="right"))]
    while not usable(plan := PLANS[task](rng, split), split):
        pass
    assert plan is not None
    listed = plan.source if plan.kind == "back" else None
    return _labelled(plan.instruction, facts(task, plan), listed)


def facts(task: str, plan: Plan) -> dict[str, str]:
    """Slot -> option, of all that the plan's instruction says."""
    text = f" {' '.join(words_of(plan.instruction))} "
    said: dict[str, str] = {}
    kinds = KINDS[task]
    said["kind"] = f"{task} {plan.kind if plan.kind in kinds else next(iter(kinds))}"
    if plan.kind == "back":
        return said | _frame(plan.source)
    before = _at(plan.source, plan.focus)
    after = _at(plan.target, plan.focus) if task in ("local", "add", "texture") else None
    if before is not None:
        said["who"] = before.shape
        if _names(text, before.look):
            said["whose look"] = before.look
    if after is not None:
        if before is None or after.shape != before.shape:
            said["new shape"] = after.shape
        if before is None or after.colour != before.colour:
            said["new look"] = after.look
        if before is None or after.texture != before.texture:
            said["new texture"] = after.texture
    if task == "add":
        said |= _where(text, plan)
    elif task == "background":
        said["backdrop"] = plan.target.background
    elif task == "global":
        said["weather"] = plan.target.effect or "clear"
    elif task == "style":
        said["style"] = plan.target.style
    elif task == "color":
        said["colours"] = plan.finish
    elif task == "text":
        said |= _written(text, plan)
    return said


def _frame(scene: Scene) -> dict[str, str]:
    said = {"backdrop": scene.background, "weather": scene.effect, "style": scene.style}
    if scene.text is not None:
        said["word"] = scene.text.word
    return said


def _at(scene: Scene, number: int | None) -> Obj | None:
    return scene.objects[number] if number is not None and number < len(scene.objects) else None


def _names(text: str, key: str) -> bool:
    return any(f" {word} " in text for word in NAMES.get(key, (key,)))


def _where(text: str, plan: Plan) -> dict[str, str]:
    """Where a thing is to be added; the longest name of a place that stands in the text."""
    named = [(len(word), place) for place in ANCHORS for word in NAMES[place] if f" {word} " in text]
    for relation in ("left of", "right of"):
        if f" {relation} the " in text and f" {relation} the picture " not in text:
            named.append((99, relation))
    if plan.kind == "placed" and not named:
        named.append((0, "on"))
    said = {"place": max(named)[1]} if named else {}
    if said.get("place") in ("left of", "right of", "on"):
        near = [obj.shape for obj in plan.source.objects if _names(text, obj.shape)]
        if len(set(near)) == 1:
            said["beside"] = near[0]
    return said


def _written(text: str, plan: Plan) -> dict[str, str]:
    said: dict[str, str] = {}
    new, old = plan.target.text, plan.source.text
    shown = new or old
    assert shown is not None
    if _names(text, shown.word):
        said["word"] = shown.word
    if new is not None and (old is None or new.colour != old.colour) and _names(text, new.colour):
        said["word's colour"] = new.colour
    if f" {shown.place} " in text:
        said["place"] = shown.place
    return said


def _labelled(text: str, said: dict[str, str], listed: Scene | None) -> tuple[str, np.ndarray, np.ndarray]:
    labels = np.array([options.index(said.get(slot, NOTHING)) for slot, options in SLOTS.items()], np.int64)
    mentions = np.zeros(len(MENTIONS), np.float32)
    for obj in listed.objects if listed is not None else ():
        mentions[_MENTION[f"{obj.look} {obj.shape}"]] = 1
        if obj.texture in PATTERNS:
            mentions[_MENTION[f"{obj.texture} {obj.shape}"]] = 1
    return text, labels, mentions
