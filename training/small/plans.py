"""One plan per task: a scene, the edit done to it, and the words that ask for it.

A plan is None when what was drawn is ambiguous or does not fit; the caller draws again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .captions import caption
from .scene import (
    ADDED_SIZE,
    ANCHORS,
    BACKGROUNDS,
    CANVAS,
    COLOURS,
    GLOBALS,
    MATERIALS,
    OUTDOORS,
    PATTERNS,
    POSES,
    SHAPES,
    STYLES,
    USUAL_COLOUR,
    WORDS,
    Obj,
    Scene,
    Text,
    allowed,
    article,
    crowded,
    describe,
    phrase,
    pick,
    random_scene,
    same_name,
    some_colour,
)
from .shapes import sprite
from .translations import MAPS, Plan, called, index, mapping, pointing
from .wording import (
    KINDS,
    LOOKS,
    MATERIAL_NOUNS,
    PATTERN_NOUNS,
    PICTURES,
    RELATIONS,
    WEATHER,
    a_style,
    fill,
    name,
    spoken,
)

GROWTH = {"bigger": 1.4, "smaller": 0.7}


def _changed(scene: Scene, k: int, obj: Obj) -> Scene:
    return replace(scene, objects=scene.objects[:k] + (obj,) + scene.objects[k + 1 :])


def _local(rng, split) -> Plan | None:
    scene = random_scene(rng, split=split)
    k = index(rng, scene)
    obj = scene.objects[k]
    chance = rng.random()
    kind = (
        "recolour"
        if chance < 0.42
        else "swap"
        if chance < 0.64
        else "exchange"
        if chance < 0.86
        else "bigger"
        if obj.size < 44
        else "smaller"
    )
    values = {"obj": called(rng, scene, k)}
    if kind in GROWTH:
        new = replace(obj, size=2 * round(obj.size * GROWTH[kind] / 2))
        values["bare"] = values["obj"]
        if new.size > new.y or not new.size // 2 <= new.x <= CANVAS - new.size // 2:
            return None
    elif kind == "recolour":
        colour = some_colour(rng, obj.shape, split)
        new = replace(obj, colour=colour)
        values["colour"] = name(rng, colour)
        if obj.texture in MATERIALS or colour == obj.colour:
            return None
    else:
        shape = pick(rng, SHAPES)
        if shape == obj.shape:
            return None
        new = replace(obj, shape=shape, pose=POSES[0])
        values["a_shape"] = article(name(rng, shape))
        if kind == "exchange":
            # naming a colour means a plain thing of that colour; the pattern goes with the old thing
            new = replace(new, colour=some_colour(rng, shape, split), texture="plain")
            values["a_thing"] = article(spoken(rng, f"{new.colour} {shape}"))
    others = scene.objects[:k] + scene.objects[k + 1 :]
    if not allowed(new.colour, new.shape, split) or any(same_name(new, other) for other in others):
        return None
    instruction = fill(rng, "local", kind, split, **values)
    return Plan(instruction, scene, _changed(scene, k, new), phrase(obj, scene), k, kind=kind)


def _remove(rng, split) -> Plan | None:
    scene = random_scene(rng, split=split)
    k = index(rng, scene)
    target = replace(scene, objects=scene.objects[:k] + scene.objects[k + 1 :])
    instruction = fill(rng, "remove", "remove", split, obj=called(rng, scene, k))
    return Plan(instruction, scene, target, phrase(scene.objects[k], scene), k, kind="remove")


def _new_object(rng, split) -> tuple[Obj, str]:
    """A thing without a place yet, and what it is called with its article."""
    shape = pick(rng, SHAPES)
    if rng.random() < 0.15:
        return Obj(shape, USUAL_COLOUR[shape], "plain", 0, 0, ADDED_SIZE), article(name(rng, shape))
    colour = some_colour(rng, shape, split)
    texture = (
        pick(rng, PATTERNS)
        if rng.random() < 0.12
        else pick(rng, MATERIALS)
        if rng.random() < 0.06
        else "plain"
    )
    obj = Obj(shape, colour, texture, 0, 0, ADDED_SIZE)
    return obj, article(spoken(rng, describe(obj)))


def _beside(obj: Obj, relation: str) -> tuple[int, int] | None:
    """Where the foot of an added thing goes next to another one, if there is room."""
    if relation == "on":
        x, y = (
            obj.x,
            obj.y - sprite(obj.shape, obj.size).alpha.shape[0] + 4,
        )  # shapes are lower than their box
    else:
        gap = (obj.size + ADDED_SIZE) // 2 + 1
        x, y = obj.x + (gap if relation == "right of" else -gap), obj.y
    fits = ADDED_SIZE // 2 <= x <= CANVAS - ADDED_SIZE // 2 and y >= ADDED_SIZE
    return (x, y) if fits else None


def _add(rng, split) -> Plan | None:
    scene = random_scene(rng, n_objects=1 + int(rng.random() < 0.4), split=split)
    obj, words = _new_object(rng, split)
    if not allowed(obj.colour, obj.shape, split) or any(same_name(obj, other) for other in scene.objects):
        return None
    chance = rng.random()
    kind, where = "placed", ""
    if chance < 0.3:
        k = index(rng, scene)
        relation = pick(rng, tuple(RELATIONS))
        spot = _beside(scene.objects[k], relation)
        where = pick(rng, RELATIONS[relation]).format(obj=called(rng, scene, k))
        if relation != "on" and spot is not None and not scene.objects[k].grounded:
            obj = replace(obj, grounded=False)
        if relation == "on":
            obj = replace(obj, grounded=False)
    elif chance < 0.45:
        # no place said: the first free one of middle, right, left
        kind = "anywhere"
        free = [
            ANCHORS[place] for place in ("middle", "right", "left") if not _taken(obj, ANCHORS[place], scene)
        ]
        spot = free[0] if free else None
    else:
        place = pick(rng, tuple(ANCHORS))
        spot, where = ANCHORS[place], name(rng, place)
        obj = replace(obj, grounded=not place.startswith("top"))
    if spot is None or _taken(obj, spot, scene):
        return None
    obj = replace(obj, x=spot[0], y=spot[1])
    values = {"a_thing": words, **({"where": where} if where else {})}
    instruction = fill(rng, "add", kind, split, **values)
    if "of the picture" in instruction and (" of " in where or "air" in where):
        return None
    return Plan(
        instruction,
        scene,
        replace(scene, objects=(*scene.objects, obj)),
        f"{obj.look} {obj.shape}",
        len(scene.objects),
        kind=kind,
    )


def _taken(obj: Obj, spot: tuple[int, int], scene: Scene) -> bool:
    return crowded(replace(obj, x=spot[0], y=spot[1]), scene.objects, room=0.42)


def _texture(rng, split) -> Plan | None:
    scene = random_scene(rng, split=split)
    coloured = [k for k, obj in enumerate(scene.objects) if obj.texture not in MATERIALS]
    if not coloured:
        return None
    k = pick(rng, coloured)
    obj = scene.objects[k]
    values = {"obj": spoken(rng, phrase(obj, scene, short=bool(rng.random() < 0.4)))}
    if obj.texture != "plain" and rng.random() < 0.5:
        kind, texture = "plain", "plain"
    elif rng.random() < 0.7:
        kind, texture = "pattern", pick(rng, PATTERNS)
        values.update(texture=name(rng, texture), pattern=pick(rng, PATTERN_NOUNS[texture]))
    else:
        kind, texture = "material", pick(rng, MATERIALS)
        values.update(texture=name(rng, texture), material=pick(rng, MATERIAL_NOUNS[texture]))
    new = replace(obj, texture=texture)
    if texture == obj.texture or any(same_name(new, other) for other in scene.objects if other is not obj):
        return None
    instruction = fill(rng, "texture", kind, split, **values)
    return Plan(instruction, scene, _changed(scene, k, new), phrase(obj, scene), k, kind=kind)


def _background(rng, split) -> Plan | None:
    scene = replace(random_scene(rng, split=split), effect="")
    there = pick(rng, tuple(BACKGROUNDS))
    if there == scene.background:
        return None
    instruction = fill(rng, "background", "background", split, backdrop=name(rng, there))
    return Plan(instruction, scene, replace(scene, background=there, mirrored=False), there)


def _global(rng, split) -> Plan | None:
    scene = replace(random_scene(rng, split=split), background=pick(rng, OUTDOORS))
    effect = pick(rng, tuple(GLOBALS))
    before = pick(rng, tuple(GLOBALS)) if rng.random() < 0.12 else ""
    named = effect
    if before:
        # from one weather to another, or back to a clear day
        effect, named = ("", "clear") if rng.random() < 0.6 else (effect, effect)
    if before == effect:
        return None
    values = {slot: pick(rng, forms) for slot, forms in WEATHER[named].items()}
    instruction = fill(rng, "global", "weather", split, **values)
    return Plan(instruction, replace(scene, effect=before), replace(scene, effect=effect))


def _style(rng, split) -> Plan | None:
    scene = random_scene(rng, split=split)
    style = pick(rng, STYLES)
    bare, with_article = a_style(rng, style)
    return Plan(
        fill(rng, "style", "style", split, style=bare, a_style=with_article),
        scene,
        replace(scene, style=style),
    )


def _color(rng, split) -> Plan | None:
    scene = random_scene(rng, split=split)
    look = pick(rng, tuple(LOOKS))
    values = {slot: pick(rng, forms) for slot, forms in LOOKS[look].items()}
    instruction = fill(rng, "color", "photometric", split, pic=pick(rng, PICTURES), **values)
    return Plan(
        instruction, scene, scene, finish=look, target_caption=f"{article(look)} picture of {caption(scene)}"
    )


def _text(rng, split) -> Plan | None:
    scene = random_scene(rng, split=split)
    kind = pick(rng, tuple(KINDS["text"]))
    word, colour, place = pick(rng, WORDS), pick(rng, tuple(COLOURS)), pick(rng, ("top", "bottom"))
    old = None if kind.startswith("write") else Text(pick(rng, WORDS), pick(rng, tuple(COLOURS)), place)
    if old is None:
        new = Text(word, colour if kind == "write_coloured" else "white", place)
    elif kind == "erase":
        new = None
    elif kind == "repaint":
        new = replace(old, colour=colour)
    else:
        new = replace(old, word=word, colour=colour if kind == "reword_coloured" else old.colour)
    if new == old or (kind.startswith("reword") and new and old and new.word == old.word):
        return None
    told = old if kind in ("erase", "repaint") else new
    assert told is not None
    values = {
        "word": f'"{told.word}"',
        "where": f"at the {place}",
        "colour": name(rng, colour),
        "a_colour": article(colour),
        "old": f'"{old.word}"' if old else "",
    }
    instruction = fill(rng, "text", kind, split, **values)
    scene = replace(scene, text=old)
    return Plan(instruction, scene, replace(scene, text=new), (new or told).word, kind=kind)


PLANS: dict[str, Callable] = {
    "local": _local,
    "remove": _remove,
    "add": _add,
    "texture": _texture,
    "background": _background,
    "global": _global,
    "style": _style,
    "text": _text,
    "detect": pointing("detect"),
    "segment": pointing("segment"),
    "color": _color,
    **{task: mapping(task) for task in MAPS},
}
