"""The recipe of colour: the change is the one that the words ask for, and does what they say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from emu_edit.core.pairs.recipes.base import Draw, NoCandidate
from emu_edit.core.pairs.recipes.color import adjust, lens, operation_of, turned
from emu_edit.training.small.wording import LOOKS


def a_picture():
    return torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_the_colour_change_is_the_one_that_the_words_ask_for(look):
    expected = {
        "brighter": ("brightness", 1),
        "darker": ("brightness", -1),
        "black and white": ("grey", 0),
        "colorful": ("saturation", 1),
        "muted": ("saturation", -1),
        "sepia": ("sepia", 0),
        "blurry": ("blur", 0),
        "inverted": ("invert", 0),
        "warmer": ("warmth", 1),
        "colder": ("warmth", -1),
        "high contrast": ("contrast", 1),
        "low contrast": ("contrast", -1),
    }[look]
    said = [f"make the picture {how}" for how in LOOKS[look]["how"]]
    said += [f"{do} the picture" for do in LOOKS[look]["do"]]
    for words in said:
        found = operation_of(words)
        assert found == expected or (found[0] == "defocus" and look == "blurry"), words


def test_colour_changes_do_what_they_say():
    picture = a_picture()

    def made(operation, sign=0):
        draw = Draw(1, {})
        return adjust(picture, operation, sign, draw), draw.parameters

    def spread(image):
        return float(image.std(dim=(0, 1)).mean())

    def colourful(image):
        return float((image.amax(-1) - image.amin(-1)).mean())

    assert made("brightness", 1)[0].mean() > picture.mean() > made("brightness", -1)[0].mean()
    assert spread(made("contrast", 1)[0]) > spread(picture) > spread(made("contrast", -1)[0])
    assert colourful(made("saturation", 1)[0]) > colourful(picture) > colourful(made("saturation", -1)[0])
    assert colourful(made("grey")[0]) < 1e-6
    warm, cold = made("warmth", 1)[0].mean((0, 1)), made("warmth", -1)[0].mean((0, 1))
    assert warm[0] - warm[2] > cold[0] - cold[2]
    assert torch.equal(made("invert")[0], 1 - picture)
    rough = (picture[1:] - picture[:-1]).abs().mean()
    for operation in ("blur", "defocus"):
        soft = adjust(
            torch.nn.functional.interpolate(picture.movedim(-1, 0)[None], 128)[0].movedim(0, -1),
            operation,
            0,
            Draw(1, {}),
        )
        assert (soft[1:] - soft[:-1]).abs().mean() < 0.7 * rough
    sharp = made("sharpen")[0]
    assert (sharp[1:] - sharp[:-1]).abs().mean() > rough
    assert "strength" in made("blur")[1]
    with pytest.raises(NoCandidate, match="no colour change"):
        operation_of("add a cat")


def test_a_turn_of_hue_keeps_grey_and_comes_round():
    picture = a_picture()
    grey = picture.mean(-1, keepdim=True).expand_as(picture)
    assert torch.allclose(turned(grey, 0.37), grey, atol=1e-5)
    assert torch.allclose(turned(picture, 1.0), picture, atol=1e-5)
    assert not torch.allclose(turned(picture, 0.5), picture, atol=0.05)


def test_a_lens_spreads_a_point_over_a_disc():
    point = torch.zeros(1, 21, 21)
    point[0, 10, 10] = 1
    spread = lens(point, 4.0)[0]
    rows, columns = np.nonzero(spread.numpy() > 1e-6)
    inside = [(y, x) for y, x in itertools.product(range(21), repeat=2) if math.hypot(y - 10, x - 10) <= 4.0]
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == sorted(inside)
    assert float(spread.sum()) == pytest.approx(1.0, abs=1e-5)


# The procedural world: pairs whose truth is known.
