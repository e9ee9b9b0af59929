"""Instructions by rules: the world's captions exactly, everyday captions as far as possible."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs.instructions import agent
from emu_edit.core.pairs.instructions.backend import Trouble
from emu_edit.core.pairs.instructions.captions import HERE, Caption, words_called
from emu_edit.core.pairs.instructions.grammar import RULES, Grammar
from emu_edit.core.pairs.instructions.rules import checked, read_object
from emu_edit.core.pairs.instructions.write import Writer, orders
from emu_edit.core.pairs.records import Dropped, Instruction
from emu_edit.core.predictors.base import TASKS
from emu_edit.training.small import scene, wording
from emu_edit.training.small.captions import caption
from emu_edit.training.small.translations import MAPS

WORLD = words_called("world")
EVERYDAY = words_called("everyday")


def world_words() -> dict:
    """What world.json must hold, from the world's own tables."""
    names, article = wording.NAMES, scene.article

    def forms(key):
        return list(names.get(key, (key,)))

    def styled(style):
        bare = [(one, one.endswith((" art", "on canvas", "comic", "glass"))) for one in forms(style)]
        return [[one, one if plain and one != "comic" else article(one)] for one, plain in bare]

    def surfaces(table):
        return {key: {"how": forms(key), "nouns": list(nouns)} for key, nouns in table.items()}

    return {
        "exact": True,
        "kinds": {"thing": list(scene.SHAPES)},
        "synonyms": {other: s for s in scene.SHAPES for other in forms(s)[1:]},
        "colours": list(scene.COLOURS),
        "colour_names": {other: c for c in scene.COLOURS for other in forms(c)[1:]},
        "colourable": ["thing"],
        "fixed": [],
        "addable": ["thing"],
        "add_colours": True,
        "posing": list(scene.FIGURES),
        "patterns": surfaces(wording.PATTERN_NOUNS),
        "materials": surfaces(wording.MATERIAL_NOUNS),
        "places": {
            key: {
                "where": list(wording.CAPTION_NAMES[key]),
                "called": forms(key),
                "outdoors": key in scene.OUTDOORS,
            }
            for key in scene.BACKGROUNDS
        },
        "place_nouns": [],
        "effects": {
            key: {
                "where": list(wording.CAPTION_NAMES[key]),
                **{slot: list(said) for slot, said in wording.WEATHER[key].items()},
            }
            for key in scene.GLOBALS
        },
        "clear": {slot: list(said) for slot, said in wording.WEATHER["clear"].items()},
        "styles": {
            key: {"caption": f"{article(key)} picture of", "forms": styled(key)} for key in scene.STYLES
        },
        "looks": {
            key: {
                "caption": f"{article(key)} picture of",
                **{slot: list(said) for slot, said in look.items()},
            }
            for key, look in wording.LOOKS.items()
        },
        "pictures": list(wording.PICTURES),
        "lettering": list(scene.WORDS),
        "text_spots": ["at the top", "at the bottom"],
        "spots": ["on the left", "on the right", "in the middle"],
        "maps": dict(MAPS),
        "stops": [],
        "ing_nouns": [],
    }


def test_the_worlds_words_are_the_worlds():
    """If this fails after a change of the world: write world_words() into world.json."""
    assert json.loads((HERE / "world.json").read_text(encoding="utf-8")) == world_words()


def test_no_wording_leaves_the_small_editors_vocabulary():
    known = set(wording.vocabulary())
    for kinds in agent.json.loads((HERE / "grammar.json").read_text(encoding="utf-8")).values():
        for texts in kinds.values():
            for text in texts:
                bare = re.sub(r"\{\w+\}", " ", text)
                assert set(wording.words_of(bare)) <= known, text


def scenes(count: int, seed: int = 3, **changes):
    """Scenes whose objects have the usual pose, now and then with a word, a weather, a style."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        made = scene.random_scene(rng)
        made = replace(made, objects=tuple(replace(o, pose=scene.POSES[0]) for o in made.objects))
        if n % 4 == 0 and made.background in scene.OUTDOORS:
            made = replace(made, effect=tuple(scene.GLOBALS)[n // 4 % len(scene.GLOBALS)])
        if n % 5 == 0:
            made = replace(made, text=scene.Text("hello"))
        if n % 7 == 0:
            made = replace(made, style=scene.STYLES[n // 7 % len(scene.STYLES)])
        yield replace(made, **changes)


def read(made) -> Caption:
    return Caption(caption(made), WORLD)


def test_the_worlds_captions_are_understood_exactly():
    for made in scenes(150):
        told = read(made)
        assert [one.words for one in told.things] == [scene.describe(obj) for obj in made.objects], told.text
        assert told.where and told.where["where"] == scene.BACKGROUNDS[made.background]
        assert (told.effect["effect"] if told.effect else "") == scene.GLOBALS.get(made.effect, "")
        assert (told.written[1] if told.written else "") == (made.text.word if made.text else "")
        assert bool(told.style) == bool(made.style)


def test_the_worlds_captions_are_understood_in_other_words_too():
    rng = np.random.default_rng(1)
    for made in scenes(100):
        told = Caption(caption(made, rng), WORLD)
        assert [one.name for one in told.things] == [obj.shape for obj in made.objects], told.text
        assert told.where and bool(told.effect) == bool(made.effect), told.text


def test_edits_of_the_worlds_captions_are_captions_of_the_edited_scenes():
    for made in scenes(120):
        told, objects = read(made), made.objects
        rest = replace(made, objects=objects[:-1])
        assert told.without(told.things[-1]) == caption(rest)
        if rest.objects:
            added = scene.describe(objects[-1])
            assert read(rest).adding(scene.article(added)) == caption(made)
        new = replace(objects[0], colour="orange", shape="apple", texture="plain")
        assert told.renamed(told.things[0], "orange apple") == caption(
            replace(made, objects=(new, *objects[1:]))
        )
        assert told.elsewhere("on the moon") == caption(replace(made, background="moon"))
        assert told.under("at night") == caption(replace(made, effect="night"))
        assert told.under("") == caption(replace(made, effect=""))
        assert told.reading("wow") == caption(replace(made, text=scene.Text("wow")))
        if made.text:
            assert told.reading("") == caption(replace(made, text=None))


def written(words: str, captions: list[str], tasks, count: int, seed: int = 0):
    writer = Writer(Grammar(words))
    return list(writer.stream(orders(captions, tasks, count, seed))), writer


def test_every_task_of_the_world_is_written():
    captions = [caption(made) for made in scenes(24, style="")]
    done, writer = written("world", captions, TASKS, 400)
    assert len(done) == 400 and writer.usage.written + sum(writer.usage.dropped.values()) == 400
    kept = [one for one in done if isinstance(one, Instruction)]
    assert {one.task for one in kept} == set(TASKS) and len(kept) > 300
    known = set(wording.vocabulary())
    for one in kept:
        unknown = set(wording.words_of(f"{one.instruction} {one.output_caption}")) - known
        assert not unknown, (one, unknown)
    for one in done:
        assert isinstance(one, Instruction) or one.reason


def test_the_worlds_own_templates_fit():
    kinds = {task: {k: v for k, v in table.items()} for task, table in wording.KINDS.items()}
    for task in TASKS:
        kinds[task] = {**Grammar("world").templates[task], **kinds[task]}
    grammar = Grammar("world", kinds)
    made = caption(next(scenes(1)))
    wordings = {grammar.answer(agent.request("style", made, seed)).text for seed in range(30)}
    assert len(wordings) > 20


EVERYDAY_CAPTIONS = [
    "A cat asleep on a garden wall",
    "a wooden bowl of oranges on a kitchen table",
    "Two girls flying a kite on a windy beach",
    "an old man with a hat feeding pigeons in the park at sunset",
    "a red tractor in a barn",
    'a banner with the text "SALE" above a shoe shop',
    "a woman with a black umbrella walking down a wet street",
    "a violin, a book and a lamp on a desk in the living room",
]


@pytest.mark.parametrize(
    ("text", "things", "where", "effect"),
    [
        ("A cat asleep on a garden wall", ["cat", "garden wall"], "", ""),
        ("a red tractor in a barn at night", ["red tractor"], "in a barn", "at night"),
        ("a smiling woman holding an umbrella", ["smiling woman", "umbrella"], "", ""),
        ("a dog in the snow on a beach", ["dog"], "on a beach", "in the snow"),
        ("two dogs and a fire engine in front of a church", ["dogs", "fire engine", "church"], "", ""),
        ("sunset over mountains", [], "", ""),
    ],
)
def test_everyday_captions_are_taken_apart(text, things, where, effect):
    told = Caption(text, EVERYDAY)
    assert [one.words for one in told.things] == things
    assert (told.where["where"] if told.where else "") == where
    assert (told.effect["effect"] if told.effect else "") == effect


@pytest.mark.parametrize(
    ("text", "which", "left"),
    [
        ("a violin, a book and a lamp on a desk", 1, "a violin and a lamp on a desk"),
        ("A cat and a dog on a beach", 0, "A dog on a beach"),
        ("a man with a hat in the park", 1, "a man in the park"),
        ("a dog on a beach at night", 0, "a beach at night"),
        ("a man with a hat feeding pigeons", 1, None),
        ("a cat asleep on a sofa", 0, None),
    ],
)
def test_removal_leaves_a_sentence_or_is_refused(text, which, left):
    told = Caption(text, EVERYDAY)
    assert told.without(told.things[which]) == left


def test_every_task_is_written_for_everyday_captions():
    done, _ = written("everyday", EVERYDAY_CAPTIONS, TASKS, 320)
    kept = [one for one in done if isinstance(one, Instruction)]
    assert {one.task for one in kept} == set(TASKS) and len(kept) > 180
    for one in kept:
        assert "  " not in one.output_caption and not re.search(r"\ban? an?\b", one.output_caption)
        assert not re.search(r"\ba [aeiou]", one.output_caption), one.output_caption
        assert not re.search(r"\ban [^aeiou]", one.output_caption), one.output_caption


def test_the_same_seed_writes_the_same_and_another_does_not():
    one, again, other = (written("everyday", EVERYDAY_CAPTIONS, TASKS, 40, seed)[0] for seed in (5, 5, 6))
    assert one == again and one != other


def test_a_longer_run_begins_as_a_shorter_one():
    short, long = (written("everyday", EVERYDAY_CAPTIONS, TASKS, count)[0] for count in (20, 50))
    assert long[:20] == short


@pytest.mark.parametrize("words", ["everyday", "world"])
def test_what_rules_write_passes_the_rules(words):
    captions = EVERYDAY_CAPTIONS if words == "everyday" else [caption(made) for made in scenes(8)]
    for task in RULES:
        for seed, text in enumerate(captions):
            try:
                answer = Grammar(words).answer(agent.request(task, text, seed))
            except Trouble as problem:
                assert not problem.again and not problem.broken
                continue
            checked(task, text, read_object(answer.text))


def test_what_cannot_be_done_is_said():
    (one,), writer = written("everyday", ["sunset over mountains"], ["remove"], 1)
    assert isinstance(one, Dropped) and "no thing to remove" in one.reason and one.item.startswith("sunset")
    assert writer.usage.asked == 1 and writer.usage.dropped == {"refused": 1}
    with pytest.raises(EmuEditError, match="no words 'latin'"):
        Grammar("latin")
