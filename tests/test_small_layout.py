"""What the U-Net's inner features are taught to tell of a scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emu_edit.training.small import maps
from emu_edit.training.small.edits import TASKS, make_example
from emu_edit.training.small.layout import ANSWERS, CELL, LOCAL, PARTS, QUESTIONS, layout, surprise
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
