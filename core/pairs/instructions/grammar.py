"""Instructions by rules alone: nothing to download, nothing to pay, and always the same for a seed.

The templates (grammar.json) have the slots and kinds of the procedural world's (training/small), whose own
may be given instead. What a rule cannot do with a caption is said, and that order comes to nothing.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from .backend import Answer, Request, Trouble, dice
from .captions import Caption, Thing, Words, article, words_called

Templates = Mapping[str, Mapping[str, Sequence[str]]]
BACK_SHARE = 0.25  # of the translations, how many go from the map to the picture


@cache
def _templates() -> Templates:
    return json.loads((Path(__file__).parent / "grammar.json").read_text(encoding="utf-8"))


class Draft:
    """What a task's rule came to: the template's kind and slots, the caption after, the two objects."""

    def __init__(self, kind: str, after: str, original: str = "", edited: str = "", **slots: str):
        self.kind, self.after, self.original, self.edited, self.slots = kind, after, original, edited, slots
        self.before = ""  # of a translation that starts from a map


Rule = Callable[[Caption, random.Random], Draft]


class Grammar:
    """The rule-based backend. words: "everyday" or "world"; templates: task -> kind -> texts, None ours."""

    writes_objects = False

    def __init__(self, words: str = "everyday", templates: Templates | None = None):
        self.words: Words = words_called(words)
        self.templates = _templates() if templates is None else templates
        self.name = f"grammar, {words} words"

    def answer(self, request: Request) -> Answer:
        """Raises Trouble, not to be asked again, where the rules find nothing to do with a caption."""
        # Its own dice: the request's seed changes with the attempt, and a rule need not be asked twice.
        rng = dice("grammar", request.seed, request.task, request.caption)
        draft = RULES[request.task](Caption(request.caption, self.words), rng)
        fitting = [t for t in self.templates[request.task][draft.kind] if _slots(t) <= draft.slots.keys()]
        if not fitting:
            raise _nothing(f"there is no wording for {request.task}, {draft.kind}")
        before = draft.before or request.caption
        found = {
            "instruction": rng.choice(fitting).format(**draft.slots),
            "input_caption": before,
            "output_caption": draft.after,
            "original_object": draft.original,
            "edited_object": draft.edited,
        }
        return Answer(json.dumps(found, ensure_ascii=False), metadata={"kind": draft.kind})


def _slots(template: str) -> set[str]:
    return {slot for _, slot, _, _ in string.Formatter().parse(template) if slot}


def _nothing(reason: str) -> Trouble:
    return Trouble(reason, again=False, broken=False)


def _one(caption: Caption, rng: random.Random, fits: Callable[[Thing], bool], what: str) -> Thing:
    """One of the things that fit and whose name tells it from the others."""
    names = [one.words.lower() for one in caption.things]
    options = [one for one in caption.things if fits(one) and names.count(one.words.lower()) == 1]
    if not options:
        raise _nothing(f"the rules find no thing to {what} in {caption.text!r}")
    return rng.choice(options)


def _colour(thing: Thing, words: Words) -> str:
    """The usual name of the colour among the adjectives, "" if there is none."""
    for word in thing.before.lower().split():
        usual = words["colour_names"].get(word, word)
        if usual in words["colours"]:
            return usual
    return ""


def _coloured(thing: Thing, colour: str, words: Words) -> str:
    """The thing's words in another colour."""
    kept = [
        word
        for word in thing.before.split()
        if words["colour_names"].get(word.lower(), word.lower()) not in words["colours"]
    ]
    return " ".join([*kept, colour, thing.noun])


def _told(caption: Caption, thing: Thing) -> str:
    """What the thing is called in the instruction."""
    return thing.words.lower() if thing.kind else thing.words


def _local(caption: Caption, rng: random.Random) -> Draft:
    words = caption.words
    thing = _one(caption, rng, lambda one: one.kind not in words["fixed"], "change")
    told = _told(caption, thing)
    made_of = set(thing.before.lower().split()) & {w for m in words["materials"].values() for w in m["how"]}
    colours = [c for c in words["colours"] if c != _colour(thing, words)]
    may_colour = thing.kind in words["colourable"] and not made_of
    if may_colour and (rng.random() < 0.45 or not thing.kind):
        colour = rng.choice(colours)
        new = _coloured(thing, colour, words)
        return Draft("recolour", caption.renamed(thing, new), told, new, obj=told, colour=colour)
    others = [name for name in words["kinds"].get(thing.kind, ()) if name != thing.name]
    if not others or thing.noun.lower() not in words.usual:  # a plural would need another plural
        raise _nothing(f"the rules know nothing to put in the place of {told!r}")
    other = rng.choice(others)
    if rng.random() < 0.5:
        new = f"{thing.before} {other}".strip() if may_colour or made_of else other
        return Draft("swap", caption.renamed(thing, new), told, new, obj=told, a_shape=article(other))
    new = f"{rng.choice(words['colours'])} {other}" if thing.kind in words["colourable"] else other
    return Draft("exchange", caption.renamed(thing, new), told, new, obj=told, a_thing=article(new))


def _remove(caption: Caption, rng: random.Random) -> Draft:
    thing = _one(caption, rng, lambda one: caption.without(one) is not None, "remove")
    told = _told(caption, thing)
    return Draft("remove", caption.without(thing) or "", told, obj=told)


def _add(caption: Caption, rng: random.Random) -> Draft:
    words = caption.words
    there = {one.name for one in caption.things}
    options = [name for kind in words["addable"] for name in words["kinds"][kind] if name not in there]
    options = [name for name in options if name not in caption.text.lower()]
    if not options:
        raise _nothing("the caption names all that the rules could add")
    new = rng.choice(options)
    if words["add_colours"] or rng.random() < 0.3:
        new = f"{rng.choice(words['colours'])} {new}" if new in _names(words, words["colourable"]) else new
    after = caption.adding(article(new))
    if words["spots"] and rng.random() < 0.5:
        return Draft("placed", after, "", new, a_thing=article(new), where=rng.choice(words["spots"]))
    return Draft("anywhere", after, "", new, a_thing=article(new))


def _names(words: Words, kinds: Sequence[str]) -> set[str]:
    return {name for kind in kinds for name in words["kinds"].get(kind, ())}


def _texture(caption: Caption, rng: random.Random) -> Draft:
    words = caption.words
    surfaces = {**words["patterns"], **words["materials"]}
    known = {how: name for name, forms in surfaces.items() for how in forms["how"]}
    materials = {how for forms in words["materials"].values() for how in forms["how"]}

    def bare(thing: Thing) -> bool:
        return thing.kind in words["colourable"] and not materials & set(thing.before.lower().split())

    thing = _one(caption, rng, bare, "cover")
    told = _told(caption, thing)
    adjectives = thing.before.split()
    had = [word for word in adjectives if known.get(word.lower()) in words["patterns"]]
    kept = [word for word in adjectives if word not in had]
    if had and rng.random() < 0.5:
        new = " ".join([*kept, thing.noun])
        return Draft("plain", caption.renamed(thing, new), told, new, obj=told)
    name = rng.choice([name for name in surfaces if name not in {known[word.lower()] for word in had}])
    forms = surfaces[name]
    look, noun = rng.choice(forms["how"]), rng.choice(forms["nouns"])
    if name in words["patterns"]:
        new = " ".join([name, *kept, thing.noun])
        slots = {"obj": told, "texture": look, "pattern": noun}
        return Draft("pattern", caption.renamed(thing, new), told, new, **slots)
    colourless = [word for word in kept if words["colour_names"].get(word, word) not in words["colours"]]
    new = " ".join([name, *colourless, thing.noun])
    slots = {"obj": told, "texture": look, "material": noun}
    return Draft("material", caption.renamed(thing, new), told, new, **slots)


def _background(caption: Caption, rng: random.Random) -> Draft:
    words = caption.words
    thing = _one(caption, rng, lambda one: one == caption.things[0], "keep")
    here = caption.where["where"].lower() if caption.where else ""
    options = [
        name
        for name, place in words["places"].items()
        if here not in place["where"] and name not in here and (caption.effect is None or place["outdoors"])
    ]
    name = rng.choice(options)
    place = words["places"][name]
    called = rng.choice(place["called"])
    new = called.removeprefix("the ").removeprefix("a ").removeprefix("an ")
    return Draft("background", caption.elsewhere(place["where"][0]), thing.words, new, backdrop=called)


def _global(caption: Caption, rng: random.Random) -> Draft:
    words = caption.words
    here = caption.where["where"].lower() if caption.where else ""
    for name, place in words["places"].items():
        if not place["outdoors"] and (here in place["where"] or name in here.split()):
            raise _nothing(f"there is no weather {here}")
    now = caption.effect["effect"].lower() if caption.effect else ""
    others = {name: effect for name, effect in words["effects"].items() if now not in effect["where"]}
    if now and rng.random() < 0.4:
        return Draft("weather", caption.under(""), **_weather(words["clear"], rng))
    effect = others[rng.choice(list(others))]
    return Draft("weather", caption.under(effect["where"][0]), **_weather(effect, rng))


def _weather(effect: Mapping[str, Sequence[str]], rng: random.Random) -> dict[str, str]:
    return {slot: rng.choice(effect[slot]) for slot in ("when", "how", "stuff") if effect.get(slot)}


def _style(caption: Caption, rng: random.Random) -> Draft:
    styles = caption.words["styles"]
    name = rng.choice([n for n, one in styles.items() if not caption.text.lower().startswith(one["caption"])])
    bare, with_article = rng.choice(styles[name]["forms"])
    plain = Caption(caption.plain(), caption.words).lower()
    return Draft("style", f"{styles[name]['caption']} {plain}", style=bare, a_style=with_article)


def _text(caption: Caption, rng: random.Random) -> Draft:
    words = caption.words
    old = caption.written[1] if caption.written else ""
    new = rng.choice([word for word in words["lettering"] if word.lower() != old.lower()])
    if old and rng.random() < 0.5:
        return Draft("erase", caption.reading(""), old, "", old=f'"{old}"', word=f'"{old}"')
    if old:
        return Draft("reword", caption.reading(new), old, new, old=f'"{old}"', word=f'"{new}"')
    slots = {"word": f'"{new}"', "where": rng.choice(words["text_spots"])}
    if rng.random() < 0.4:
        colour = rng.choice(words["colours"])
        return Draft("write_coloured", caption.reading(new), "", new, colour=colour, **slots)
    return Draft("write", caption.reading(new), "", new, **slots)


def _pointing(task: str, ending: str) -> Rule:
    def rule(caption: Caption, rng: random.Random) -> Draft:
        thing = _one(caption, rng, lambda one: True, "mark")
        told = _told(caption, thing)
        return Draft(task, f"{caption.text} {ending.format(told)}", told, told, obj=told)

    return rule


def _color(caption: Caption, rng: random.Random) -> Draft:
    looks = caption.words["looks"]
    look = looks[rng.choice(list(looks))]
    slots = {slot: rng.choice(look[slot]) for slot in ("how", "do") if look.get(slot)}
    after = f"{look['caption']} {caption.lower()}"
    return Draft("photometric", after, pic=rng.choice(caption.words["pictures"]), **slots)


def _translation(task: str) -> Rule:
    def rule(caption: Caption, rng: random.Random) -> Draft:
        if task == "pose" and not any(
            one.kind in caption.words["posing"] or one.name in caption.words["posing"]
            for one in caption.things
        ):
            raise _nothing(f"the rules find nobody with a pose in {caption.text!r}")
        titled = f"{caption.words['maps'][task]} of {caption.lower()}"
        if rng.random() >= BACK_SHARE:
            return Draft("map", titled)
        draft = Draft("back", caption.text, caption=caption.lower())
        draft.before = titled
        return draft

    return rule


RULES: dict[str, Rule] = {
    "local": _local,
    "remove": _remove,
    "add": _add,
    "texture": _texture,
    "background": _background,
    "global": _global,
    "style": _style,
    "text": _text,
    "detect": _pointing("detect", "with a box around the {}"),
    "segment": _pointing("segment", "with the {} highlighted"),
    "color": _color,
    **{task: _translation(task) for task in ("depth", "segmentation", "pose", "normal", "sketch")},
}
