"""What the U-Net's inner features are taught to tell of a scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_recipe import TINY

from emu_edit.training.small import maps
from emu_edit.training.small.data import Pairs, Pictures
from emu_edit.training.small.edits import TASKS, make_example
from emu_edit.training.small.layout import (
    ANSWERS,
    CELL,
    LOCAL,
    PARTS,
    QUESTIONS,
    UNMAPPED,
    layout,
    surprise,
)
from emu_edit.training.small.models import build_editor
from emu_edit.training.small.objective import Trainee, batch_loss, seen_share, shown_error
from emu_edit.training.small.scene import Obj, Scene, Text

SCENE = Scene(
    "room",
    (Obj("car", "red", "plain", 30, 110, 40), Obj("star", "brown", "wooden", 96, 112, 40)),
    text=Text("zoo", "green"),
)


def by_question(maps_: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(QUESTIONS, np.split(maps_, np.cumsum(PARTS)[:-1]), strict=True))


@pytest.mark.parametrize("size", [64, 128])
def test_every_question_shares_out_the_whole_of_every_cell(size):
    for index in range(24):
        made = make_example(3, index, TASKS, size, split="train")
        for scene in (made.before, made.after):
            found = layout(scene, size)
            assert found.shape == (ANSWERS, size // CELL, size // CELL) and found.dtype == np.uint8
            for shares in by_question(found).values():
                # a share is rounded to 1/255; a cell holds five answers to a question at the very most
                assert np.abs(shares.astype(int).sum(0) - 255).max() <= 3


def test_answers_are_where_the_things_are():
    found = by_question(layout(SCENE, 128))
    cover = maps.masks(SCENE, 128).reshape(2, 16, 8, 16, 8).mean((2, 4)) * 255
    answers = QUESTIONS["shape"]
    for number, shape in enumerate(("car", "star")):
        assert np.abs(found["shape"][answers.index(shape)] - cover[number]).max() <= 1
    looks, patterns = QUESTIONS["look"], QUESTIONS["pattern"]
    assert np.abs(found["look"][looks.index("wooden")] - cover[1]).max() <= 1  # a material has no colour
    assert not found["look"][looks.index("brown")].any()
    assert np.abs(found["pattern"][patterns.index("plain")] - cover.sum(0)).max() <= 1
    assert (found["backdrop"][QUESTIONS["backdrop"].index("room")] == 255).all()
    written = found["word"][QUESTIONS["word"].index("zoo")]
    assert written.any() and not written[8:].any()  # it stands at the top
    assert (found["word's colour"][QUESTIONS["word's colour"].index("green")] == written).all()


def test_surprise_is_cross_entropy_with_a_thing_worth_as_much_as_the_nothing_around_it():
    labels = torch.from_numpy(layout(SCENE, 128))[None]
    logits = torch.randn(1, ANSWERS, 16, 16, generator=torch.Generator().manual_seed(0))
    expected, first = 0.0, 0
    for name, answers in QUESTIONS.items():
        said = logits[0, first : first + len(answers)].double().log_softmax(0)
        true = labels[0, first : first + len(answers)].double() / 255
        first += len(answers)
        if name in LOCAL:
            expected -= float((said[0] * true[0]).sum() / true[0].sum())
            expected -= float((said[1:] * true[1:]).sum() / true[1:].sum())
        else:
            expected -= float((said * true).sum(0).mean())
    assert float(surprise(logits, labels)) == pytest.approx(expected / len(QUESTIONS), rel=1e-5)


def test_who_knows_is_not_surprised_and_coarser_features_are_asked_coarser_questions():
    labels = torch.from_numpy(layout(SCENE, 128))[None]
    knows = (labels.float() / 255 + 1e-6).log()
    guess = torch.zeros_like(knows)
    assert float(surprise(knows, labels)) < 0.3 * float(surprise(guess, labels))
    coarse = torch.nn.functional.avg_pool2d(labels.float() / 255, 2).add(1e-6).log()
    assert coarse.shape[-1] == 8
    assert float(surprise(coarse, labels)) < 0.35 * float(surprise(0 * coarse, labels))


def test_a_picture_without_the_thing_asked_about_costs_a_finite_little():
    empty = torch.from_numpy(layout(Scene("moon", ()), 64))[None]
    assert torch.isfinite(surprise(torch.randn(1, ANSWERS, 8, 8), empty)).all()


def test_a_map_is_asked_only_for_what_it_shows():
    for task, kind, mapped in (("depth", "map", "after"), ("sketch", "back", "before")):
        index, made = next(
            (index, made)
            for index in range(50)
            if (made := make_example(5, index, (task,), 64, split="train")).kind == kind
        )
        row = Pairs(5, 64, (task,), layouts=True)[index]
        assert row["instruction"] == made.instruction
        for place in ("before", "after"):
            for question, shares in by_question(row[place].numpy()).items():
                assert shares.any() == (place != mapped or question not in UNMAPPED)
    row = Pairs(5, 64, ("add",), layouts=True)[0]
    assert all(
        shares.any() for place in ("before", "after") for shares in by_question(row[place].numpy()).values()
    )
    labels = torch.from_numpy(layout(SCENE, 64, bare=True))[None]
    logits = torch.randn(1, ANSWERS, 8, 8).requires_grad_()
    surprise(logits, labels).sum().backward()
    parts = dict(zip(QUESTIONS, logits.grad.split(PARTS, 1), strict=True))
    assert all(part.any() == (question not in UNMAPPED) for question, part in parts.items())


def test_scenes_come_only_where_they_are_asked_for():
    assert not {"before", "after"} & Pairs(5, 64)[0].keys()
    assert "after" not in Pictures(5, 60)[0]  # of any size
    assert Pictures(5, 64, layouts=True)[0]["after"].shape == (ANSWERS, 8, 8)


LEVELS = replace(
    TINY, patch=4, latent_channels=12, channels=(8, 12, 16), layers=(1, 1, 1), words_on=(False, True, True)
)


@pytest.fixture(scope="module", params=[TINY, LEVELS], ids=["two grids", "three"])
def setting(request):
    recipe = request.param
    pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    editor = build_editor(recipe, ["red", "ball"], pictures)
    torch.nn.init.normal_(editor.unet.conv_out.weight, std=0.05)
    pairs = Pairs(3, 64, layouts=True)
    rows = [pairs[index] for index in range(6)]
    batch = {
        name: torch.stack([row[name] for row in rows])
        if isinstance(rows[0][name], torch.Tensor)
        else [row[name] for row in rows]
        for name in rows[0]
    }
    return recipe, editor, batch


def test_the_features_that_tell_are_those_of_the_second_coarsest_grid_and_the_middle(setting):
    recipe, editor, batch = setting
    trainee = Trainee(editor, recipe)
    batch_loss(trainee, editor, batch, recipe, torch.Generator().manual_seed(0))
    *_, middling, coarsest = recipe.channels
    coarse = 64 // recipe.patch // 2 ** (len(recipe.channels) - 1)
    shapes = {name: tuple(kept.shape[1:]) for name, kept in trainee._features.items()}
    assert shapes["coarse"] == (coarsest, coarse, coarse)
    assert shapes["down"] == shapes["up"] == (middling, 2 * coarse, 2 * coarse)


def test_each_output_learns_its_own_scene_and_only_from_samples_that_know(setting):
    recipe, editor, batch = setting
    trainee = Trainee(editor, recipe)

    def gradients(recipe, batch):
        trainee.zero_grad()
        loss, seen = batch_loss(trainee, editor, batch, recipe, torch.Generator().manual_seed(0))
        loss.backward()
        outputs = (trainee.input_layout, trainee.middle_layout, trainee.answer_layout)
        return [output[-1].weight.grad for output in outputs], seen

    told, seen = gradients(replace(recipe, dropped=(0.0, 0.0, 0.0)), batch)
    assert all(gradient.any() for gradient in told) and seen["layout"] > 0
    none, seen = gradients(replace(recipe, dropped=(1.0, 0.0, 0.0)), batch)
    assert not any(gradient.any() for gradient in none) and seen["layout"] == 0
    blank = batch | {"before": torch.zeros_like(batch["before"])}
    first, *others = gradients(replace(recipe, dropped=(0.0, 0.0, 0.0)), blank)[0]
    assert not first.any() and all(gradient.any() for gradient in others)
    without = {name: value for name, value in batch.items() if name not in ("before", "after")}
    assert "layout" not in batch_loss(trainee, editor, without, recipe, torch.Generator().manual_seed(0))[1]


def test_outputs_begin_alike_whatever_chance_did_before(setting):
    recipe, editor, _ = setting
    torch.manual_seed(1)
    first = Trainee(editor, recipe).answer_layout[1].weight
    torch.manual_seed(2)
    drawn = torch.rand(1)
    second = Trainee(editor, recipe).answer_layout[1].weight
    assert torch.equal(first, second)
    torch.manual_seed(2)
    assert torch.equal(torch.rand(1), drawn)


def test_an_error_counts_as_it_shows_in_the_picture(setting):
    recipe, editor, _ = setting
    share = seen_share(editor.vae)
    side = 64 // recipe.patch
    generator = torch.Generator().manual_seed(3)
    x, one, other = torch.randn(3, 1, recipe.latent_channels, side, side, generator=generator)
    other = other * torch.linspace(3, 0.1, recipe.latent_channels)[:, None, None]
    ratios = []
    for error in (one, other):
        shown = (editor.vae.decode(x + error).sample - editor.vae.decode(x).sample).square().sum()
        ratios.append(float((shown / (error.square() * share).sum()).detach()))
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-4)
    # of latents as pictures have them, the error counts as much as it did without
    spread = editor.vae.synthesis.weight.square().sum((0, 2, 3)).detach()
    assert float((spread * share.flatten()).mean() / spread.mean()) == pytest.approx(1, rel=1e-5)


def test_a_shown_error_is_that_of_the_pictures_over_what_there_was_to_draw(setting):
    recipe, editor, _ = setting
    side, generator = 64 // recipe.patch, torch.Generator().manual_seed(4)
    image, x0, found = torch.randn(3, 2, recipe.latent_channels, side, side, generator=generator)
    image[0] = x0[0] + 0.2 * image[0]  # a small change of a full picture
    x0[1] = 0.3 * x0[1] + 5  # hardly anything on it: what there is to draw is less than what goes
    before, after, made = (editor.vae.decode(z).sample.detach() for z in (image, x0, found))
    even = editor.vae.decode(x0.mean((2, 3), keepdim=True).expand_as(x0)).sample.detach()
    change, drawn = ((after - other).abs().mean((1, 2, 3)) for other in (before, even))
    assert change[0] < drawn[0] and change[1] > drawn[1]
    wanted = (made - after).abs().mean((1, 2, 3)) / (torch.stack([change[0], drawn[1]]) + 0.01)
    got = shown_error(editor.vae, found - x0, x0, x0 - image, 0.01)
    assert torch.allclose(got, wanted, rtol=1e-4)
