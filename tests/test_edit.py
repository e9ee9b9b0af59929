"""The instruction edit: batches, seeds, sizes, masks, tasks, interruption, bad input."""

from __future__ import annotations

import gc
import re

import pytest
import torch
from toy_models import toy_backbone, toy_pictures

from emu_edit.core.edit import FALLBACKS, EditSettings, edit, starting_noise
from emu_edit.core.errors import EmuEditError
from emu_edit.core.tasks import TaskVector

QUICK = EditSettings(steps=2, seed=7)


@pytest.fixture(scope="module")
def backbone():
    return toy_backbone()


@pytest.fixture(scope="module")
def editor():
    """An editor whose tasks have an effect."""
    torch.manual_seed(0)
    made = toy_backbone(task_width=6, name="tasked")
    torch.nn.init.normal_(made.unet.class_embedding.weight)
    torch.nn.init.normal_(made.conditioner.to_context.weight)
    return made


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_the_result_has_the_inputs_size_and_range(backbone):
    pictures = toy_pictures(1, 50, 83)
    result = edit(backbone, pictures, "remove it", settings=QUICK)
    assert result.images.shape == pictures.shape and result.images.dtype == torch.float32
    assert result.working_size == (64, 64)
    assert float(result.images.min()) >= 0 and float(result.images.max()) <= 1
    assert result.latents.shape == (1, 4, 8, 8)
    wide = edit(backbone, pictures, "remove it", settings=EditSettings(steps=1, size=128))
    assert wide.working_size == (64, 128) and wide.images.shape == pictures.shape


def test_batches_equal_singles_and_each_item_has_its_seed(backbone):
    pictures, texts = toy_pictures(3), ["make the ball red", "remove it", "add a tree"]
    whole = edit(backbone, pictures, texts, settings=QUICK)
    assert whole.seeds == (7, 8, 9)
    for i in range(3):
        alone = edit(backbone, pictures[i : i + 1], texts[i], settings=EditSettings(steps=2, seed=7 + i))
        torch.testing.assert_close(whole.images[i : i + 1], alone.images, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole.latents[i : i + 1], alone.latents, rtol=1e-4, atol=1e-5)


def test_one_instruction_or_one_picture_serves_all(backbone):
    pictures, texts = toy_pictures(2), ["make it red", "remove it"]
    one_text = edit(backbone, pictures, "make it red", settings=QUICK)
    same_texts = edit(backbone, pictures, ["make it red"] * 2, settings=QUICK)
    torch.testing.assert_close(one_text.images, same_texts.images)
    one_picture = edit(backbone, pictures[:1], texts, settings=QUICK)
    same_pictures = edit(backbone, pictures[:1].repeat(2, 1, 1, 1), texts, settings=QUICK)
    torch.testing.assert_close(one_picture.images, same_pictures.images)


def test_runs_repeat_and_seeds_differ(backbone):
    pictures = toy_pictures()
    first, again = (edit(backbone, pictures, "remove it", settings=QUICK) for _ in range(2))
    assert torch.equal(first.images, again.images)
    other = edit(backbone, pictures, "remove it", settings=EditSettings(steps=2, seed=8))
    assert not torch.equal(first.latents, other.latents)
    huge = edit(backbone, pictures.repeat(2, 1, 1, 1), "x", settings=EditSettings(steps=1, seed=2**64 - 1))
    assert huge.seeds == (2**64 - 1, 0)
    assert torch.equal(starting_noise((4, 8, 8), 3), starting_noise((4, 8, 8), 3))


def test_settings_left_open_are_the_editors_own(backbone):
    assert EditSettings(seed=3).filled(backbone) == EditSettings(
        steps=4, text_guidance=3.0, image_guidance=1.5, size=64, seed=3
    )
    bare = toy_backbone(defaults={})
    assert EditSettings(steps=9).filled(bare) == EditSettings(**(FALLBACKS | {"steps": 9}))


def test_progress_is_told_at_every_step(backbone):
    seen = []
    edit(backbone, toy_pictures(), "remove it", settings=EditSettings(steps=5), on_step=seen.append)
    assert [(info.index, info.total) for info in seen] == [(i, 5) for i in range(5)]
    look = backbone.decode_latents(seen[0].x0)
    assert look.shape == (1, 64, 64, 3) and bool(torch.isfinite(look).all())


def test_outside_the_mask_every_bit_stays(backbone):
    pictures = toy_pictures(2, 50, 83)
    pictures[0, 0, 0] = -0.0
    pictures[0, 1, 1] = 1.03  # overshoot of some earlier resampling
    mask = torch.zeros(2, 50, 83)
    mask[0, 10:30, 10:40] = 1.0
    mask[1, 20:40, 20:40] = 0.5
    result = edit(backbone, pictures, "remove it", mask=mask, settings=QUICK)
    free = edit(backbone, pictures, "remove it", settings=QUICK)
    outside = mask == 0
    kept, given = result.images[outside].view(torch.int32), pictures[outside].view(torch.int32)
    assert torch.equal(kept, given)
    assert torch.equal(result.images[mask == 1], free.images[mask == 1])
    half = mask == 0.5
    torch.testing.assert_close(result.images[half], (free.images[half] + pictures[half]) / 2)
    assert not torch.equal(result.images, pictures)


def test_one_mask_serves_all_pictures(backbone):
    pictures, mask = toy_pictures(2), torch.zeros(1, 64, 64)
    mask[:, :32] = 1.0
    result = edit(backbone, pictures, "remove it", mask=mask, settings=QUICK)
    assert torch.equal(result.images[:, 32:], pictures[:, 32:])
    assert not torch.equal(result.images[:, :32], pictures[:, :32])


def test_interruption_leaves_nothing_behind(backbone):
    class Stop(Exception):
        pass

    pictures = toy_pictures()
    expected = edit(backbone, pictures, "remove it", settings=EditSettings(steps=4))
    modules = (backbone.unet, backbone.vae, backbone.text_encoder)
    before, rng = [state(module) for module in modules], torch.get_rng_state()

    def stop(info):
        if info.index == 2:
            raise Stop

    with pytest.raises(Stop):
        edit(backbone, pictures, "remove it", settings=EditSettings(steps=4), on_step=stop)
    assert torch.equal(rng, torch.get_rng_state())
    for module, old in zip(modules, before, strict=True):
        now = module.state_dict()
        assert now.keys() == old.keys() and all(torch.equal(now[name], old[name]) for name in old)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    again = edit(backbone, pictures, "remove it", settings=EditSettings(steps=4))
    assert torch.equal(expected.images, again.images)


def test_inputs_stay_and_results_are_ordinary_tensors(backbone):
    pictures = toy_pictures()
    copy = pictures.clone()
    result = edit(backbone, pictures, "remove it", settings=QUICK)
    assert torch.equal(pictures, copy)
    weight = torch.ones(1, requires_grad=True)
    (result.images * weight).sum().backward()  # an inference tensor would refuse
    result.images.mul_(0.5)
    # The models can still be trained after an edit.
    loss = backbone.predict(result.latents, 5, backbone.encode_text(["x"])).sum()
    loss.backward()
    assert all(p.grad is not None for p in backbone.unet.conv_in.parameters())
    backbone.unet.zero_grad(set_to_none=True)
    backbone.text_encoder.zero_grad(set_to_none=True)


def test_memory_does_not_grow(backbone):
    def tensors():
        gc.collect()
        return sum(torch.is_tensor(thing) for thing in gc.get_objects())

    edit(backbone, toy_pictures(), "remove it", settings=QUICK)
    before = tensors()
    for _ in range(3):
        edit(backbone, toy_pictures(), "remove it", settings=QUICK, on_step=lambda info: None)
    assert tensors() <= before


def test_a_task_may_be_given_in_every_form(editor):
    pictures = toy_pictures(2)
    vector = editor.task_vector("remove").detach()
    forms = ["remove", vector, vector.expand(2, 6), TaskVector("mine", vector, base=editor.task_base)]
    forms.append(TaskVector("anywhere", vector, base=""))
    first, *others = (edit(editor, pictures, "remove it", task=form, settings=QUICK).images for form in forms)
    for other in others:
        assert torch.equal(first, other)
    none = edit(editor, pictures, "remove it", settings=QUICK).images
    assert not torch.equal(first, none)
    assert torch.equal(none, edit(editor, pictures, "remove it", task="none", settings=QUICK).images)
    mixed = torch.stack([vector, torch.zeros(6)])
    rows = edit(editor, pictures, "remove it", task=mixed, settings=QUICK).images
    torch.testing.assert_close(rows[0], first[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows[1], none[1], rtol=1e-4, atol=1e-5)


BAD = {
    "empty": (dict(instructions="  "), r"the instruction: it is '  '; say what to change"),
    "one empty": (dict(instructions=["a", ""]), r"instruction 2 of 2: it is ''"),
    "none": (dict(instructions=[]), r"instructions: there are none; give at least one"),
    "count": (dict(instructions=["a"] * 3), r"3 for 2 pictures; give one, or one for each picture"),
    "nan": (dict(images=torch.full((2, 64, 64, 3), torch.nan)), r"24576 of its values are NaN"),
    "range": (dict(images=torch.full((2, 64, 64, 3), 255.0)), r"from 255 to 255 but must lie in 0..1"),
    "axes": (dict(images=torch.zeros(64, 64, 3)), r"got shape \[64, 64, 3\]"),
    "mask batch": (dict(mask=torch.ones(3, 64, 64)), r"holds 3 masks for 2 pictures; give one mask"),
    "mask shape": (dict(mask=torch.ones(2, 64, 128)), r"128x64 pixels have other proportions"),
    "mask nan": (dict(mask=torch.full((64, 64), torch.nan)), r"mask.*NaN"),
    "task name": (dict(task="fly"), r"task 'fly': this editor knows none, local.*pick one"),
    "task width": (dict(task=torch.zeros(5)), r"shape \[5\].*'tasked' takes \[6\]"),
    "task file width": (dict(task=TaskVector("mine", torch.zeros(7), "")), r"'mine'.*7.*'tasked'.*6"),
    "task rows": (dict(task=torch.zeros(3, 6)), r"shape \[3, 6\].*\[2, 6\] for this batch"),
    "task nan": (dict(task=torch.full((6,), torch.nan)), r"task: it holds NaN"),
    "task base": (dict(task=TaskVector("mine", torch.zeros(6), "0123")), r"'mine'.*made for the editor 0123"),
    "steps": (dict(settings=EditSettings(steps=0)), r"0 steps asked for; choose between 1 and 1000"),
    "guidance": (dict(settings=EditSettings(steps=1, text_guidance=-1)), r"text guidance: the scale is -1"),
    "sampler": (dict(settings=EditSettings(steps=1, sampler="best")), r"sampler 'best'.*choose one of ddim"),
    "size": (dict(settings=EditSettings(steps=1, size=0)), r"size must be 1 pixel or more, got 0"),
}


@pytest.mark.parametrize(("wrong", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_told_in_a_sentence(editor, wrong, said):
    inputs = dict(images=toy_pictures(2), instructions="remove it", settings=EditSettings(steps=1)) | wrong
    with pytest.raises(EmuEditError) as caught:
        edit(editor, **inputs)
    sentence = str(caught.value)
    assert re.search(said, sentence), sentence
    assert "\n" not in sentence and sentence.endswith(".") and ";" in sentence


def test_editors_that_cannot_are_told_apart(backbone):
    with pytest.raises(EmuEditError, match="'toy' has no tasks"):
        edit(backbone, toy_pictures(), "remove it", task="remove", settings=QUICK)
    for task in (torch.zeros(6), TaskVector("mine", torch.zeros(6), "")):
        with pytest.raises(EmuEditError, match="'toy' has no task"):
            edit(backbone, toy_pictures(), "remove it", task=task, settings=QUICK)
    with pytest.raises(EmuEditError, match="cannot see a picture; load an InstructPix2Pix"):
        edit(toy_backbone(in_channels=4), toy_pictures(), "remove it", settings=QUICK)


@pytest.mark.parametrize("part", ["unet.conv_out", "vae.decoder.conv_out"])
def test_a_broken_model_says_so(part):
    made = toy_backbone()
    module, path = part.split(".", 1)
    torch.nn.init.constant_(getattr(made, module).get_submodule(path).bias, torch.nan)
    with pytest.raises(EmuEditError, match="'toy': its result in torch.float32 holds NaN"):
        edit(made, toy_pictures(), "remove it", settings=QUICK)
