"""Recipes: what pairs of each task are made of, drawn in the published ranges, and made again bit for bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_models import toy_backbone

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks.sources import NONE_FOUND, Found
from emu_edit.core.pairs.recipes import generation, whole
from emu_edit.core.pairs.recipes.base import BLANK, NoCandidate, RecipeContext, find, start, try_seed
from emu_edit.core.pairs.recipes.table import RECIPES, candidates, missing, remake
from emu_edit.core.pairs.recipes.text import PlainWriter, kind_of
from emu_edit.core.pairs.records import Instruction, PairJob
from emu_edit.core.tasks import TASK_IDS
from emu_edit.training.pairs.world import World, fits
from emu_edit.training.small.edits import make_example

SIDE = 64  # the toy model's smallest
WORDS = {
    "local": Instruction("local", "make the cat a dog", "a red cat", "a red dog", "cat", "dog"),
    "texture": Instruction("texture", "make the cat furry", "a red cat", "a red fur cat", "cat", "cat"),
    "remove": Instruction("remove", "remove the cat", "a cat and a tree", "a tree", "cat", ""),
    "add": Instruction("add", "add a cat", "a tree", "a cat and a tree", "", "cat"),
    "background": Instruction("background", "put the cat at sea", "a cat", "a cat at sea", "cat", "sea"),
    "global": Instruction("global", "make it night", "a cat", "a cat at night"),
    "style": Instruction("style", "make it a comic", "a cat", "a comic of a cat"),
}
MASKED = ("local", "texture", "remove", "add")


class LeftHalf:
    """Finds whatever is asked for in the left half of every picture, but for unicorns."""

    name = "left"

    def detect(self, images, phrases, settings):
        if any("unicorn" in phrase.text for phrase in phrases):
            return (NONE_FOUND,) * len(images)
        height, width = images.shape[1:3]
        mask = torch.zeros(1, height, width)
        mask[:, 8 : height - 4, 4 : width // 2] = 1
        box = torch.tensor([[4.0, 8.0, width / 2, height - 4.0]])
        return tuple(Found(box, torch.ones(1), (phrases[0].text,), mask) for _ in images)


def real(job):
    return torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(9))


@cache
def model():
    """One text-to-image model for all tests; none of them changes it."""
    return toy_backbone(in_channels=4)


def context(**options):
    options = {"tries": 2, "steps": 3, "size": (SIDE, SIDE), "inversion_calls": 3} | options
    return RecipeContext(backbone=model(), finder=LeftHalf(), picture=real, **options)


def job(task, seed=5, **parameters):
    return PairJob("job", seed, WORDS[task], parameters=parameters)


def test_there_is_a_recipe_for_every_task():
    assert set(RECIPES) == set(TASK_IDS)


@pytest.mark.parametrize("task", list(WORDS))
def test_candidates_by_try_and_mask_and_each_made_again_bit_for_bit(task):
    setting = context()
    found = candidates(setting, job(task))
    kinds = ["precise", "soft", "box"] if task in MASKED else ["soft" if task == "background" else BLANK]
    assert [one.mask_kind for one in found] == kinds * 2
    assert [one.index for one in found] == [3 * t + k for t in range(2) for k in range(len(kinds))]
    assert len({one.seed for one in found}) == 2
    for one in found:
        assert one.source.shape == (SIDE, SIDE, 3) and not torch.equal(one.source, one.target)
    one = found[-1]  # of the last try, under the last mask
    again = remake(setting, job(task), one.to_json())
    assert torch.equal(again.source, one.source) and torch.equal(again.target, one.target)
    assert again.parameters == one.parameters and again.index == one.index
    assert all(torch.equal(again.masks[kind], mask) for kind, mask in one.masks.items())


def test_a_pair_made_again_follows_its_record_and_not_the_run():
    """A record made with other steps, or other ranges than today's, gives its own pair."""
    setting = context(tries=1)
    one = candidates(setting, job("local"))[1]
    later = replace(setting, steps=7, size=(128, 64))
    again = remake(later, job("local"), one.to_json())
    assert torch.equal(again.target, one.target)
    with pytest.raises(EmuEditError, match="cannot be made again"):
        remake(setting, job("local", seed=6), one.to_json())


@pytest.mark.parametrize("task", list(WORDS))
def test_parameters_lie_in_the_published_ranges_and_fill_them(task):
    low = {"guidance": 4.0, "self_fraction": 0.3, "cross_fraction": 0.3, "blend": 0.02}
    high = {"guidance": 8.0, "self_fraction": 0.9, "cross_fraction": 0.9, "blend": 0.2}
    if task == "global":
        low |= {"self_fraction": 0.4, "cross_fraction": 0.4, "blend": 0.1}
    setting = replace(context(), backbone=toy_backbone(in_channels=4, defaults={"text_guidance": 7.5}))
    drawn = []
    for number in range(60):
        draw = start(job(task), number)
        if task == "style":
            low, high = {"guidance": 6.5, "self_fraction": 0.5}, {"guidance": 11.0, "self_fraction": 1.0}
            draw.uniform("guidance", 6.5, 11.0), draw.uniform("self_fraction", 0.5, 1.0)
        elif task == "global":
            generation.drawn_settings(setting, draw, whole.FRACTION, whole.BLEND)
        else:
            generation.drawn_settings(setting, draw)
        drawn.append(draw.parameters)
    made = candidates(replace(setting, tries=1), job(task))[0].parameters
    for name in low:
        values = [one[name] for one in drawn]
        assert low[name] <= min(values) and max(values) <= high[name]
        assert max(values) - min(values) > 0.8 * (high[name] - low[name])
        assert made[name] == values[0]  # the recipe draws just so


@pytest.mark.parametrize(
    "defaults, expected",
    [
        ({}, (4.0, 8.0)),
        ({"text_guidance": 7.5}, (4.0, 8.0)),
        ({"text_guidance": 3.0}, (1 + 3 * 2 / 6.5, 1 + 7 * 2 / 6.5)),
        ({"text_guidance": 1.0}, (1.0, 1.0)),
        ({"text_guidance": 0.5}, (1.0, 1.0)),
    ],
)
def test_guidance_is_brought_to_what_the_model_wants(defaults, expected):
    setting = RecipeContext(backbone=SimpleNamespace(defaults=defaults))
    assert generation.guidance_range(setting, (4.0, 8.0)) == pytest.approx(expected)
    made = replace(context(tries=1), backbone=toy_backbone(in_channels=4, defaults=defaults))
    for task, printed in (("local", (4.0, 8.0)), ("style", (6.5, 11.0))):
        low, high = generation.guidance_range(setting, printed)
        drawn = candidates(made, job(task))[0].parameters["guidance"]
        assert low - 1e-4 <= drawn <= high + 1e-4


def test_fixed_parameters_are_kept_and_leave_the_others_alone():
    free = candidates(context(tries=1), job("local"))[0].parameters
    fixed = candidates(context(tries=1), job("local", guidance=5.0))[0].parameters
    assert fixed["guidance"] == 5.0 != free["guidance"]
    assert all(free[name] == fixed[name] for name in ("self_fraction", "cross_fraction", "blend", "try"))


def test_the_picture_looked_at_is_the_source_of_the_pair():
    setting = context()
    draw = start(job("local"), 0)
    settings = generation.drawn_settings(setting, draw)
    picture = generation.picture_of(setting, job("local"), "a red cat", settings, draw.seed)
    one = candidates(replace(setting, tries=1), job("local"))[0]
    assert torch.allclose(picture, one.source, atol=1e-4)


def test_to_add_the_target_comes_first_and_is_erased():
    setting = context(tries=1)
    one = candidates(setting, job("add"))[0]
    draw = start(job("add"), 0)
    settings = generation.drawn_settings(setting, draw)
    picture = generation.picture_of(setting, job("add"), "a cat and a tree", settings, draw.seed)
    assert torch.allclose(picture, one.target, atol=1e-4)
    assert not torch.allclose(picture, one.source, atol=1e-2)
    assert one.parameters["generation"]["source_caption"] == "a cat and a tree"
    gone = candidates(setting, job("remove"))[0]
    assert gone.parameters["generation"]["source_caption"] == "a cat and a tree"


def test_the_background_alone_changes():
    one = candidates(context(tries=1), job("background"))[0]
    assert one.mask_kind == "soft" and set(one.masks) == {"precise", "soft"}
    kept = one.masks["soft"] == 0
    assert 0.02 < float(kept.float().mean()) < 0.9
    assert torch.equal(one.source[kept], one.target[kept])
    assert bool((one.masks["soft"] >= one.masks["precise"] - 0.5).all())  # the minimum filter extends it

    class Red:
        def inpaint(self, picture, mask, caption, seed):
            assert caption == "a cat at sea"
            return torch.tensor([1.0, 0, 0]).expand_as(picture)

    painted = candidates(context(tries=1, painter=Red()), job("background"))[0]
    far = painted.masks["soft"] == 1
    assert torch.equal(painted.target[far], torch.tensor([1.0, 0, 0]).expand(int(far.sum()), 3))
    assert torch.equal(painted.source[kept], painted.target[kept])


def test_the_ablations_change_the_target_and_not_the_source():
    whole_run = candidates(context(tries=1), job("local"))
    free = candidates(context(tries=1, control=False), job("local"))
    blank = candidates(context(tries=1, masks=(BLANK,)), job("local"))
    assert len(blank) == 1 and blank[0].mask_kind == BLANK
    for other in (free[0], blank[0]):
        assert torch.allclose(other.source, whole_run[0].source, atol=1e-4)
        assert not torch.allclose(other.target, whole_run[0].target, atol=1e-3)


def test_attention_maps_of_the_objects_are_kept_when_asked():
    one = candidates(context(tries=1, record=True), job("local"))[0]
    assert set(one.maps) == {"cat", "dog"} and float(one.maps["cat"].sum()) > 0


def test_what_is_not_found_is_a_reason_and_what_is_missing_a_sentence():
    words = replace(WORDS["local"], original_object="unicorn")
    with pytest.raises(NoCandidate, match="'unicorn' was not found"):
        candidates(context(), PairJob("job", 1, words))
    with pytest.raises(
        EmuEditError, match="local cannot be made: it needs a text-to-image model and a detector"
    ):
        candidates(RecipeContext(), job("local"))
    assert missing(RecipeContext(picture=real), "color") == ""
    assert "annotator" in missing(RecipeContext(picture=real), "depth")

    def unreadable(job):
        raise EmuEditError("picture: a.png cannot be read (broken); save it again.")

    with pytest.raises(NoCandidate, match="its picture cannot be read: picture: a.png"):
        candidates(
            RecipeContext(picture=unreadable), PairJob("job", 1, replace(WORDS["style"], task="color"))
        )


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("black and white cat", ["black and white cat"]),
        ("the Black and White cat and the dog", ["black and white cat", "dog"]),
        ("cat and dog", ["cat", "dog"]),
        (
            "red ball . green cube and black and yellow bee",
            ["red ball", "green cube", "black and yellow bee"],
        ),
        ("the", ["the"]),  # no phrase is left, yet something was named
    ],
)
def test_the_detector_is_asked_for_things_and_not_for_half_of_their_colours(words, asked):
    phrases = []

    class Recorder(LeftHalf):
        def detect(self, images, wanted, settings):
            phrases.extend(wanted)
            return super().detect(images, wanted, settings)

    one_job = job("local")
    mask = find(RecipeContext(finder=Recorder()), real(one_job), words, one_job)
    assert [phrase.text for phrase in phrases] == asked and float(mask.sum()) > 0


def test_seeds_of_tries_do_not_collide():
    seeds = {try_seed(job("local", seed), number) for seed in range(300) for number in range(10)}
    assert len(seeds) == 3000 and all(0 <= seed < 2**63 for seed in seeds)


def world_context(world):
    return RecipeContext(
        finder=world,
        picture=world.picture,
        reader=world,
        inpainter=world,
        writer=world,
        annotators=world.annotators(),
    )


def as_bytes(picture):
    return (picture * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("task", ["detect", "segment", "depth", "segmentation", "pose", "normal", "sketch"])
def test_a_recipe_on_the_world_gives_the_worlds_own_answer(task):
    world = World(64)
    setting, made = world_context(world), 0
    for number in range(3):
        one_job = world.job(4, number, task, f"{number}")
        truth = make_example(4, number, (task,), 64)
        try:
            one = candidates(setting, one_job)[0]
        except NoCandidate:
            continue
        made += 1
        assert (one.instruction.instruction, one.task) == (truth.instruction, task)
        for mine, true in ((one.source, truth.source), (one.target, truth.target)):
            assert np.abs(as_bytes(mine).astype(int) - true.astype(int)).max() <= 1
        again = remake(world_context(World(64)), one_job, one.to_json())
        assert torch.equal(again.target, one.target) and torch.equal(again.source, one.source)
    assert made


def test_lettering_is_added_removed_and_replaced():
    world = World(64)
    setting, kinds = world_context(world), set()
    for number in range(16):
        one_job = world.job(4, number, "text", f"{number}")
        one = candidates(setting, one_job)[0]
        kind, old, new = kind_of(one_job)
        kinds.add(kind)
        assert [found.text for found in world.read(one.source)] == ([old] if old else [])
        assert [found.text for found in world.read(one.target)] == ([new] if new else [])
        outside = torch.stack([one.masks["soft"], one.masks["box"]]).amax(0) == 0
        assert torch.equal(one.source[outside], one.target[outside])
        again = remake(setting, one_job, one.to_json())
        assert torch.equal(again.target, one.target)
    assert kinds == {"add", "remove", "replace"}


def test_what_kind_of_lettering_is_asked_for():
    def kind(instruction, before="a shop", after="a shop", old="", new=""):
        words = Instruction("text", instruction, before, after + " now", old, new)
        return kind_of(PairJob("job", 1, words))

    assert kind('write "SALE"', old="", new="SALE") == ("add", "", "SALE")
    assert kind('write "SALE" on it', after='a shop with "SALE"') == ("add", "", "SALE")
    assert kind('remove "SALE"') == ("remove", "SALE", "")
    assert kind('change "tea" to "coffee"') == ("replace", "tea", "coffee")
    with pytest.raises(NoCandidate, match="quotes no lettering"):
        kind("make it nicer")


@pytest.mark.parametrize("font", ["regular", "bold"])
def test_the_plain_writer_writes_into_the_box(font):
    picture = torch.full((64, 96, 3), 0.5)
    box = (10.0, 20.0, 90.0, 44.0)
    written, mask = PlainWriter().write(picture, box, "Hello", "red", font)
    rows, columns = (mask > 0.2).nonzero(as_tuple=True)
    assert (
        int(rows.min()) >= 18
        and int(rows.max()) <= 46
        and int(columns.min()) >= 8
        and int(columns.max()) <= 92
    )
    assert int(columns.max() - columns.min()) > 40 or int(rows.max() - rows.min()) > 14
    assert torch.equal(written[mask == 0], picture[mask == 0])
    assert float(written[..., 0].max()) > 0.7 > float(written[..., 1].min())


def test_words_fit_things_by_all_they_say():
    world = World(64)
    scene = next(s for s in (world.example(world.job(1, n, "detect", "x")).before for n in range(50)) if s)
    thing = scene.objects[0]
    assert fits(f"{thing.look} {thing.shape}", thing) and fits(thing.shape, thing)
    assert not fits(thing.look, thing) and not fits(f"{thing.shape} with wings", thing)
