"""The recipe of colour: the change is the one that the words ask for, and does what they say."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from emu_edit.core.pairs import instructions
from emu_edit.core.pairs.recipes.base import Draw, NoCandidate, RecipeContext
from emu_edit.core.pairs.recipes.color import adjust, lens, operation_of, turned
from emu_edit.core.pairs.recipes.table import candidates
from emu_edit.core.pairs.records import Instruction, PairJob
from emu_edit.training.small.wording import LOOKS

#: (operation, sign): everyday wordings of it.
SAID = {
    ("brightness", 1): """
        Brighten this dark photo; Increase the exposure of the dark image; Make the image less dark;
        Lighten it; Turn up the brightness; turn the brightness up a little; make this dark picture
        brighter; make this dark photo bright; it is too dark; it's way too dark, fix it; The picture is
        dark, please fix it; raise the exposure by one stop; more light please; add some light; turn the
        lights up; reduce the darkness; remove the darkness; brightness +20; brightness=+25; not bright
        enough; too little brightness, please correct; make it bright instead of dark; make it brighter,
        not darker; The exposure is too low; fix the underexposure; make it a lot less gloomy; bump the
        exposure; reduce the noise and make it bright; keep the contrast but raise the brightness; lift
        the exposure so that it's less dark; increase the brightness without changing the contrast; I want
        the whole photo to be lighter; make the dim room brighter; light it up; Make the shot brighter, it
        came out too dark; don't make it so dark; don’t make it so dim; a brighter version of this
        dark picture; Lightening the photo
    """,
    ("brightness", -1): """
        Turn down the brightness; tone the brightness down; take the exposure down a stop; darken the
        bright sky shot; make it darker; Make this bright photo darker; make it less bright; dim the
        lights; dim the picture; lower the exposure, it is too bright; way too bright; the brightness is
        too high; bring down the exposure; Make less light in the photo; dial the brightness back; cut the
        light; drop the exposure by half; make the photo dimmer; brightness -15; Reduce the overall amount
        of light; not so bright please; turn the light down; tone down the highlights; make it dark and
        moody; halve the brightness; Please lower it, the brightness; there is too much light
    """,
    ("contrast", 1): """
        It looks flat, so give it more contrast; boost the contrast; turn the contrast up; raise the
        contrast of this flat photo; make it less flat; contrast +10; stronger contrast; a high contrast
        version; too little contrast; the picture is too flat; the contrast is too low, raise it; increase
        the low contrast; make it higher in contrast; increase the contrast slightly; remove the scratches
        and give it some contrast; increase the contrast of the black and white photo
    """,
    ("contrast", -1): """
        Tone down the contrast; Soften the contrast; reduce the contrast; lower the contrast a bit; less
        contrast; turn the contrast down; bring the contrast down; weaken the contrast; reduce the harsh
        contrast; make it flatter; low contrast; the contrast is too strong; too much contrast; mute the
        contrast; cut contrast; make it less contrasty; contrast -15; the contrast should be lower; dial
        back the contrast; softer contrast; the contrast is ugly, lower it; low contrast with more grain;
        drop the contrast; take some contrast out
    """,
    ("saturation", 1): """
        make the colors pop more vividly; make it more vibrant; saturate the picture; turn up the
        saturation; oversaturate the picture; Crank up the saturation; boost the colors; Make the colours
        more intense; bring up the colors; raise the vibrance; more color; enhance the colours;
        make the dull colors vivid; make it
        less dull; less muted; make the faded photo more colorful; the colors are too pale; stronger
        colors; add colour; The photo is too washed out; intensify the colors; turn the colours up; make
        the colors richer; make the muted colours vivid; make the photo less desaturated; lift the
        saturation; why is it so pale? give it more punch; make the colors less muted
    """,
    ("saturation", -1): """
        Turn the saturation down; Make the colors less vibrant; make the colors less intense; desaturate
        it; reduce the saturation; lower the vibrance; tone down the colors; tone the colors down; mute
        the colours; less color; less vivid; make the bright colours less intense; too saturated; the
        colors are too vivid; tone down the vivid colours; soften the colors; turn the colors down; take
        the colors down a notch; make it faded; drop the saturation; saturation -15; set saturation to 0;
        weaken the colours; make it look washed out; bring the intensity of the colors down; cut the
        saturation in half; make it not so colorful; fix the oversaturation; the picture is too colourful;
        fade the colors
    """,
    ("warmth", 1): """
        make it warmer; warm up the picture; warm it up; Give it a warm tone; make the picture less cold;
        add warmth; increase the warmth; raise the color temperature; turn the warmth up; too cold; it is
        too cool, correct it; make the colors warmer; warm the tones; make this cold photo warmer; warm
        this picture up; the photo is too cold; apply a golden tint; reduce the coolness
    """,
    ("warmth", -1): """
        Make the picture less warm; make it cooler; cool down the photo; cool it down; turn down the
        warmth; reduce the warmth; the picture is too warm; tone down the warm colors; make the warm
        colours cold; lower the color temperature; take the warmth down; colder colors; give it a cold
        look; bluer please; make the warm photo colder; not so warm; less warmth; reduce the warm tones;
        make the light less warm
    """,
    ("sharpen", 0): """
        Remove the blur; make it less blurry; sharpen the image; make it sharper; increase the sharpness;
        sharpen the blurry photo; reduce the blur; fix the blur; deblur the picture; the photo is too
        blurry; not sharp enough; make it crisper; turn the sharpness up; bring it into focus; unblur it;
        less out of focus; get rid of the blur; less blur; Reduce the overall amount of blur; sharper,
        please; turn the blur down; apply an unsharp mask; make this blurry picture sharp; it is blurry,
        fix it; take out the motion blur; boost the sharpness; make it sharp instead of blurry; increase
        the sharpness of the blurry picture
    """,
    ("blur", 0): """
        Make it less sharp; Reduce the sharpness; blur the image; blur it; make it blurry; add a soft
        blur; turn down the sharpness; the picture is too sharp; too sharp, blur it; soften the picture;
        make it softer; less sharpness; increase the blur; more blur; blur the sharp edges; turn the sharp
        picture blurry; blur everything a little; apply a gaussian blur; not so sharp; tone down the
        sharpness; make it blurrier; less crisp; remove the sharpening; soften the sharp edges; make it
        soft; reduce the sharpness of the sharp picture
    """,
    ("defocus", 0): """
        put it out of focus; defocus the lens; add some bokeh; turn the image out of focus
    """,
    ("grey", 0): """
        make it black and white; remove the color; take all the colours out of it; drain the color from
        the photo; turn it to greyscale; reduce it to black and white; without colour; low contrast black
        and white
    """,
    ("sepia", 0): """
        make it sepia like an old print; a vintage look; sepia, slightly darker
    """,
    ("invert", 0): """
        invert the colors; turn it into a negative; make a photo negative
    """,
    ("hue", 0): """
        shift all hues towards violet; change the hue; tint it blue; shift the colors
    """,
}
REFUSED = """
    add a cat; adjust it slightly; put a slight vignette around the edges; remove the sepia tone; make it
    less black and white; undo the vintage filter; remove the yellow tint; remove the colour cast; fix
    this dark photo; correct the white balance; fix the colors; bring out the details in the dark shadows;
    keep the contrast; reduce the noise; correct the green tint
"""
LOOK_ASKS = {
    "brighter": ("brightness", 1),
    "darker": ("brightness", -1),
    "black and white": ("grey", 0),
    "colorful": ("saturation", 1),
    "muted": ("saturation", -1),
    "sepia": ("sepia", 0),
    "blurry": ("blur", 0),
    "sharp": ("sharpen", 0),
    "inverted": ("invert", 0),
    "warm-toned": ("warmth", 1),
    "cold-toned": ("warmth", -1),
    "high contrast": ("contrast", 1),
    "low contrast": ("contrast", -1),
}
LOOK_NAMES = {"warmer": "warm-toned", "colder": "cold-toned"}  # the world's names


def wordings(text):
    """The wordings of a table, parted by semicolons."""
    return [" ".join(one.split()) for one in text.split(";")]


def a_picture():
    return torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_the_colour_change_is_the_one_that_the_words_ask_for(look):
    expected = LOOK_ASKS[LOOK_NAMES.get(look, look)]
    said = [f"make the picture {how}" for how in LOOKS[look]["how"]]
    said += [f"{do} the picture" for do in LOOKS[look]["do"]]
    for words in said:
        found = operation_of(words)
        assert found == expected or (found[0] == "defocus" and look == "blurry"), words


@pytest.mark.parametrize(("words", "expected"), [(w, e) for e, text in SAID.items() for w in wordings(text)])
def test_everyday_wordings_get_the_change_and_the_way_they_ask_for(words, expected):
    assert operation_of(words) == expected
    assert operation_of(words.upper()) == expected


def test_every_operation_that_has_two_ways_is_asked_for_both_ways():
    both = {operation for operation, _ in SAID if {(operation, 1), (operation, -1)} <= SAID.keys()}
    assert both == {"brightness", "contrast", "saturation", "warmth"}
    assert all(len(wordings(text)) >= 15 for (_, sign), text in SAID.items() if sign)


def test_a_recorded_change_is_made_again_whatever_its_words_are_read_as():
    context = RecipeContext(picture=lambda job: a_picture())
    words = Instruction("color", "adjust it slightly", "a cat", "a brighter cat")  # names no change
    record = {"operation": "brightness", "sign": 1, "strength": 2.0}
    again = candidates(context, PairJob("job", 1, words, parameters=record))[0]
    assert torch.allclose(again.target, 1 - (1 - again.source) ** 2)
    with pytest.raises(NoCandidate, match="no colour change"):
        candidates(context, PairJob("job", 1, words))


@pytest.mark.parametrize("words", wordings(REFUSED))
def test_what_names_no_change_or_undoes_a_look_is_refused(words):
    with pytest.raises(NoCandidate, match="no colour change"):
        operation_of(words)


def shipped(name):
    return json.loads((Path(instructions.__file__).parent / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("words", ["everyday", "world"])
def test_the_wordings_of_the_rule_based_writer(words):
    vocabulary, templates = shipped(words), shipped("grammar")["color"]["photometric"]
    for look, forms in vocabulary["looks"].items():
        expected = LOOK_ASKS[LOOK_NAMES.get(look, look)]
        for template, how, do in itertools.product(templates, forms["how"], forms["do"]):
            said = template.format(pic="the photo", how=how, do=do)
            found = operation_of(said)
            assert found == expected or (found[0] == "defocus" and look == "blurry"), said


def test_the_examples_of_the_agents():
    """In the order of exemplars.json, each under every verb of agents.json."""
    expected = [
        ("grey", 0),
        ("contrast", 1),
        ("saturation", -1),
        ("blur", 0),
        ("brightness", 1),
        ("sharpen", 0),
        ("warmth", 1),
        ("hue", 0),
        ("brightness", -1),
        ("sepia", 0),
    ]
    verbs = shipped("agents")["tasks"]["color"]["verbs"]
    for (said, *_), one in zip(shipped("exemplars")["color"], expected, strict=True):
        for number in range(max(map(len, verbs.values()))):
            order = said.format(**{kind: forms[number % len(forms)] for kind, forms in verbs.items()})
            assert operation_of(order) == one, order


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
