"""The procedural picture world: exact, repeatable, closed vocabulary, honest held-out split."""

import re

import numpy as np
import pytest

from emu_edit.training.small import edits, maps, render, scene, wording

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


@pytest.mark.parametrize("draw", [render.render, maps.depth, maps.normals, maps.segmentation, maps.sketch])
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
    assert known == sorted(set(known)) and 250 <= len(known) <= 450
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
        assert len(full) >= 15 and len(set(full)) == len(full)
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


def test_what_cannot_be_made_is_said_clearly():
    with pytest.raises(ValueError, match="pose"):
        edits.make_example(0, 0, ("pose",))
    with pytest.raises(ValueError, match="unknown task"):
        edits.make_example(0, 0, ("juggle",))
    with pytest.raises(ValueError, match="split"):
        edits.make_example(0, 0, split="validation")
