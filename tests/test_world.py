"""The procedural picture world: exact, repeatable, closed vocabulary, honest held-out split."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emu_edit.training.small import (
    captions,
    data,
    edits,
    figures,
    make_pictures,
    maps,
    render,
    scene,
    wording,
)

SMALL = 64


def examples(task, count=25, split="train", size=SMALL, seed=3):
    return [edits.make_example(seed, index, (task,), size, split=split) for index in range(count)]


def random_scenes(count=40, split="test"):
    return [scene.random_scene(np.random.default_rng((9, k)), split=split) for k in range(count)]


@pytest.mark.parametrize("task", edits.TASKS)
def test_an_example_is_a_pure_function_of_its_arguments(task):
    for first, again in zip(examples(task, 4), examples(task, 4), strict=True):
        assert (first.instruction, first.source_caption, first.target_caption) == (
            again.instruction,
            again.source_caption,
            again.target_caption,
        )
        for field in ("source", "target", "mask"):
            assert np.array_equal(getattr(first, field), getattr(again, field))


@pytest.mark.parametrize("size", [64, 128, 200])
def test_shapes_types_and_ranges(size):
    for task in edits.TASKS:
        for example in examples(task, 2, size=size):
            assert example.source.shape == example.target.shape == (size, size, 3)
            assert example.source.dtype == example.target.dtype == np.uint8
            assert example.mask.shape == (size, size) and example.mask.dtype == np.float32
            assert example.mask.min() >= 0 and example.mask.max() <= 1 and example.mask.any()


@pytest.mark.parametrize("task", ["local", "remove", "add", "texture", "text", "segment"])
def test_pixels_outside_the_mask_are_exactly_equal(task):
    for example in examples(task, 40, split="test", size=128):
        outside = example.mask == 0
        assert np.array_equal(example.source[outside], example.target[outside])
        assert outside.mean() > 0.4


def test_a_new_background_leaves_the_objects_alone():
    for example in examples("background", 30, size=128):
        solid = example.mask == 0
        assert solid.any() and np.array_equal(example.source[solid], example.target[solid])


@pytest.mark.parametrize("task", edits.TASKS)
def test_every_edit_shows(task):
    for example in examples(task, 15, split="test"):
        difference = np.abs(example.source.astype(int) - example.target).max(-1)
        assert (difference > 12).sum() > 20, example.instruction


def test_detect_draws_a_rectangle_that_holds_the_object():
    for example in examples("detect", 20, size=128):
        box = (example.target == edits.BOX_COLOUR).all(-1)
        rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        y, x = np.nonzero(example.mask > 0.5)
        assert rows[0] <= y.min() and y.max() <= rows[-1] and columns[0] <= x.min() and x.max() <= columns[-1]


def test_masks_share_the_picture_out():
    for one in random_scenes():
        weights = maps.masks(one, SMALL)
        assert weights.shape == (len(one.objects), SMALL, SMALL)
        assert weights.min() >= 0 and weights.sum(0).max() <= 1 + 1e-5
        assert (weights.reshape(len(weights), -1).max(1) > 0.5).all()


@pytest.mark.parametrize(
    "draw", [render.render, maps.depth, maps.normals, maps.segmentation, maps.sketch, maps.pose]
)
def test_maps_are_pictures(draw):
    for one in random_scenes(8):
        picture = draw(one, SMALL)
        assert picture.shape == (SMALL, SMALL, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1 and np.isfinite(picture).all()


@pytest.mark.parametrize("shape", scene.SHAPES)
@pytest.mark.parametrize("texture", scene.TEXTURES)
def test_every_shape_wears_every_texture(shape, texture):
    bare = scene.Scene("room", ())
    worn = scene.Scene("room", (scene.Obj(shape, "blue", texture, 64, 110, 40),))
    assert (np.abs(render.render(worn) - render.render(bare)).max(-1) > 0.1).sum() > 150


def test_phrases_single_out_their_object():
    for one in random_scenes(300):
        long = [scene.phrase(obj, one) for obj in one.objects]
        assert len(set(long)) == len(long)
        for obj in one.objects:
            if scene.phrase(obj, one, short=True) == obj.shape:
                assert sum(other.shape == obj.shape for other in one.objects) == 1


def test_vocabulary_covers_everything_said():
    known = wording.vocabulary()
    assert known == sorted(set(known)) and 400 <= len(known) <= 700
    for split in ("train", "test"):
        for task in edits.TASKS:
            for index in range(30):
                plan_words = edits.make_example(5, index, (task,), 24, split=split)
                said = " ".join(
                    (
                        plan_words.instruction,
                        plan_words.source_caption,
                        plan_words.target_caption,
                        plan_words.phrase,
                    )
                )
                assert set(wording.words_of(said)) <= set(known), said


def test_every_template_is_in_the_vocabulary_and_plentiful():
    known = set(wording.vocabulary())
    for full in wording.TEMPLATES.values():
        assert len(full) >= 30 and len(set(full)) == len(full)
        for template in full:
            assert template == template.lower()
            blank = template.format(**dict.fromkeys(wording.slots(template), ""))
            assert set(wording.words_of(blank)) <= known


def test_training_never_sees_what_is_held_out():
    for one in random_scenes(400, split="train"):
        assert not {(obj.colour, obj.shape) for obj in one.objects} & scene.HELD_OUT_PAIRS
    held_out = [f"{colour} {shape}" for colour, shape in scene.HELD_OUT_PAIRS]
    for index in range(400):
        example = edits.make_example(11, index, ("local", "add", "texture", "remove"), 24)
        said = f"{example.source_caption} / {example.target_caption}"
        assert not any(pair in said for pair in held_out), said
    seen = " / ".join(
        edits.make_example(11, index, ("add",), 24, split="test").target_caption for index in range(400)
    )
    assert any(pair in seen for pair in held_out)


def test_held_out_templates_stay_out_of_training():
    for task, kinds in wording.KINDS.items():
        for kind, full in kinds.items():
            kept = wording.templates(task, kind)
            assert 0 < len(kept) < len(full) and wording.templates(task, kind, "test") == full
    kept = wording.templates("remove", "remove")
    unseen = wording.KINDS["remove"]["remove"][len(kept) :]
    wordings = "|".join(template.replace("{obj}", ".+") for template in unseen)
    pattern = re.compile(f"(.* )?({wordings})( please)?")
    for example in examples("remove", 300, size=24):
        assert not pattern.fullmatch(example.instruction), example.instruction
    assert any(pattern.fullmatch(example.instruction) for example in examples("remove", 60, "test", 24))


def test_the_split_of_wordings_asks_only_in_unseen_ways():
    for task, kinds in wording.KINDS.items():
        for kind in kinds:
            seen, unseen = (set(wording.templates(task, kind, split)) for split in ("train", "wordings"))
            assert unseen and not seen & unseen and seen | unseen == set(kinds[kind])
    for example in examples("add", 60, "wordings", size=24):
        assert (example.after.objects[-1].colour, example.after.objects[-1].shape) not in scene.HELD_OUT_PAIRS
        known = wording.templates("add", example.kind)
        first = {template.split()[0] for template in known}
        assert example.instruction and example.kind in ("placed", "anywhere") and first


@pytest.mark.parametrize("task", ["local", "add", "background", "depth"])
def test_the_split_of_pairs_is_about_unseen_pairs(task):
    for example in examples(task, 15, "pairs", size=24):
        shown = [(o.colour, o.shape) for one in (example.before, example.after) for o in one.objects]
        assert scene.HELD_OUT_PAIRS & set(shown)


@pytest.mark.parametrize("task", ["depth", "segmentation", "pose", "normal", "sketch"])
def test_translations_go_both_ways(task):
    made = examples(task, 30)
    assert {example.kind for example in made} == {"map", "back"}
    for example in made:
        there = edits._MAPS[task](example.before, SMALL)
        shown = example.source if example.kind == "back" else example.target
        assert np.array_equal(shown, edits.as_bytes(there))
        if example.kind == "back":  # the words name every object, and there are no two of a shape
            assert np.array_equal(example.target, edits.as_bytes(render.render(example.after, SMALL)))
            said = wording.words_of(example.instruction)
            for obj in example.after.objects:
                names = [name.split()[-1] for name in wording.NAMES[obj.shape]]
                assert any(name in said for name in names), example.instruction
            assert len({obj.shape for obj in example.after.objects}) == len(example.after.objects)


def test_text_is_written_erased_replaced_and_recoloured():
    made = examples("text", 120, size=24)
    assert {example.kind for example in made} == set(wording.KINDS["text"])
    for example in made:
        old, new = example.before.text, example.after.text
        assert (old is None) == example.kind.startswith("write") and (new is None) == (
            example.kind == "erase"
        )
        if example.kind == "repaint":
            assert (old.word, old.place) == (new.word, new.place) and old.colour != new.colour
        if example.kind in ("write_coloured", "reword_coloured", "repaint"):
            assert set(wording.NAMES.get(new.colour, (new.colour,))) & set(
                wording.words_of(example.instruction)
            )


@pytest.mark.parametrize("pose", scene.POSES)
@pytest.mark.parametrize("flip", [False, True])
def test_skeletons_lie_on_their_figure(pose, flip):
    figure = scene.Obj("robot", "blue", "plain", 60, 116, 76, flip, pose=pose)
    one = scene.Scene("room", (figure,))
    skeleton = maps.pose(one).max(-1) > 0.5
    body = maps.masks(one)[0] > 0.5
    assert skeleton.sum() > 150 and (skeleton & body).sum() > 0.9 * skeleton.sum()
    assert len(figures.joints(pose)) == 14
    right = np.argwhere((edits.as_bytes(maps.pose(one)) == (255, 170, 0)).all(-1))[:, 1].mean()
    left = np.argwhere((edits.as_bytes(maps.pose(one)) == (170, 255, 0)).all(-1))[:, 1].mean()
    assert right < left  # the right arm is on the viewer's left, mirrored or not


def test_captions_are_short_and_tell_more_at_higher_levels():
    lengths = {level: [] for level in captions.LEVELS}
    known = set(wording.vocabulary())
    for number, one in enumerate(random_scenes(200)):
        for level in captions.LEVELS:
            said = captions.caption(one, np.random.default_rng(number), level)
            words = wording.words_of(said)
            assert set(words) <= known and len(words) <= captions.MAX_WORDS, said
            lengths[level].append(len(words))
    means = [np.mean(lengths[level]) for level in captions.LEVELS]
    assert means == sorted(means)
    assert captions.caption(one) == captions.caption(one)
    with pytest.raises(ValueError, match="level"):
        captions.caption(one, level="poem")


def test_instructions_fit_into_32_tokens():
    for task in edits.TASKS:
        for example in examples(task, 15, "test", size=16):
            assert 0 < len(wording.words_of(example.instruction)) <= edits.MAX_WORDS == 30


def test_pictures_for_the_text_to_image_base():
    made = [edits.make_picture(3, index, SMALL) for index in range(40)]
    again = edits.make_picture(3, 7, SMALL)
    assert np.array_equal(made[7][0], again[0]) and made[7][1:] == again[1:]
    known = set(wording.vocabulary())
    for picture, said, one in made:
        assert picture.shape == (SMALL, SMALL, 3) and picture.dtype == np.uint8
        assert set(wording.words_of(said)) <= known
        assert not {(obj.colour, obj.shape) for obj in one.objects} & scene.HELD_OUT_PAIRS
    assert any(one.style for _, _, one in made) and any(one.effect for _, _, one in made)
    item = data.Pictures(3, SMALL)[7]
    assert np.array_equal(item["picture"].numpy(), again[0]) and item["caption"] == again[1]


def test_tasks_are_drawn_by_weight():
    pairs = data.Pairs(4, 24, ("color", "remove"), weights={"color": 1, "remove": 3})
    drawn = [pairs[k]["task"] for k in range(200)]
    assert 0.65 < drawn.count("remove") / 200 < 0.85
    assert tuple(edits.TASK_WEIGHTS) == edits.TASKS and len(edits.TASKS) == 16


def test_what_cannot_be_made_is_said_clearly():
    with pytest.raises(ValueError, match="unknown task"):
        edits.make_example(0, 0, ("juggle",))
    with pytest.raises(ValueError, match="split"):
        edits.make_example(0, 0, split="validation")


def test_the_packs_pictures_are_what_their_list_describes():
    folder = Path(__file__).resolve().parent.parent / "pictures"
    entries = json.loads((folder / "demo.json").read_text())["edits"]
    assert len(entries) == 12
    for entry in entries:
        drawn = edits.as_bytes(render.render(make_pictures.scene_of(entry))).astype(int)
        kept = np.asarray(Image.open(folder / entry["picture"]).convert("RGB")).astype(int)
        assert np.abs(drawn - kept).max() <= 1, entry["picture"]
