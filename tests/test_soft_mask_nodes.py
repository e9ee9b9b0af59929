"""Soft Mask and Mask Preview without ComfyUI: what comes out, and what a user may do wrong."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from test_detector_nodes import NUMBERS, Boxes
from toy_models import toy_pictures

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks.soft_mask import MODES
from emu_edit.nodes import host, soft_mask
from emu_edit.nodes.detectors import NOW, TextToMask
from emu_edit.nodes.sequence import SequentialEditThreshold
from emu_edit.nodes.soft_mask import MaskPreview, SoftMask

SIZES = {"mode": "soft", "grow": 3.0, "blur": 2.0, "unit": "pixels"}
LOOK = {"opacity": 0.5, "tile": 384}


def square(count: int = 1, height: int = 40, width: int = 60) -> torch.Tensor:
    mask = torch.zeros(count, height, width)
    mask[:, 10:20, 15:30] = 1
    return mask


def soften(**wired) -> dict:
    """The node's outputs by name."""
    return dict(zip(SoftMask.RETURN_NAMES, SoftMask().soften(**{**SIZES, **wired}), strict=True))


def test_the_papers_masks():
    made = soften(mask=square())
    assert torch.equal(made["precise"], square()) and torch.equal(made["box"], square())
    assert torch.equal(made["mask"], made["soft"])
    assert bool((made["soft"] >= 0).all()) and float(made["soft"].max()) <= 1
    assert made["soft"].sum() > made["precise"].sum() * 1.5  # grown to all sides
    hard = soften(mask=square(), blur=0.0)["soft"]
    assert bool((hard >= square()).all()) and float(hard[0, 7, 20]) == 1 and float(hard[0, 6, 20]) == 0
    assert float(soften(mask=square(), blur=0.0)["background"][0, 13, 20]) == 0
    assert float(soften(mask=square(), blur=0.0)["background"][0, 12, 20]) == 1  # three pixels into it
    assert made["report"].startswith("60x40 pixels, grown by 3.0, blurred by 2.0")
    assert "1 mask, 6.2 % of the picture; 1 box, 6.2 %" in made["report"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_its_mask(mode):
    made = soften(mask=square(), mode=mode, soft_weight=0.0)
    named = made.get(mode, (made["precise"] + made["box"]) / 2)
    assert torch.equal(made["mask"], named) and made["mask"].shape == (1, 40, 60)


def test_percent_of_the_diagonal():
    made = soften(mask=square(1, 60, 80), grow=5.0, blur=1.0, unit="% of diagonal")
    assert "grown by 5.0, blurred by 1.0" in made["report"]  # the diagonal of 80x60 is 100
    assert torch.equal(made["soft"], soften(mask=square(1, 60, 80), grow=5.0, blur=1.0)["soft"])


def test_specks_and_holes_are_cleaned_first():
    ragged = square()
    ragged[0, 2, 2], ragged[0, 15, 20] = 1, 0
    made = soften(mask=ragged, specks=2.0, holes=2.0)
    assert torch.equal(made["precise"], square())
    assert torch.equal(soften(mask=ragged)["precise"], ragged)
    only = torch.zeros(1, 40, 60)
    only[0, 2, 2] = 1
    assert "only specks found, and dropped; its mask is empty" in soften(mask=only, specks=2.0)["report"]


def test_one_mask_for_many_pictures_and_many_for_one():
    pictures = torch.rand(3, 40, 60, 3)
    for mask in (square(), square(3)):
        made = soften(mask=mask, image=pictures)
        assert all(made[name].shape == (3, 40, 60) for name in ("mask", "soft", "box", "background"))
        assert torch.equal(made["precise"], square(3))
    two = torch.zeros(2, 40, 60)
    two[0, :5, :5], two[1, 30:, 50:] = 1, 1
    made = soften(mask=two, image=pictures[:1])
    assert torch.equal(made["precise"], two.amax(0, keepdim=True)) and "2 masks" in made["report"]
    assert made["box"].sum() == 25 + 100
    assert soften(mask=two)["mask"].shape == (2, 40, 60)


def test_boxes_alone_and_with_masks():
    boxes = [[{"x": 1, "y": 2, "width": 10, "height": 5, "score": 0.9, "label": "dog"}], []]
    made = soften(boxes=boxes, image=torch.rand(2, 40, 60, 3))
    assert made["precise"].sum(dim=(1, 2)).tolist() == [50.0, 0.0]
    assert "picture 1: no mask, so its boxes filled" in made["report"]
    assert "picture 2: nothing found; its mask is empty" in made["report"]
    masked = soften(mask=square(), boxes=boxes[0])
    assert torch.equal(masked["precise"], square()) and masked["box"].sum() == 50


def test_the_mask_of_each_box_of_two_pictures():
    each = torch.zeros(3, 20, 20)
    each[0, :4, :4], each[1, 10:, :4], each[2, :2, :2] = 1, 1, 1
    box = {"x": 0, "y": 0, "width": 20, "height": 20}
    made = soften(mask=each, boxes=[[box, box], [box]], image=torch.rand(2, 20, 20, 3))
    assert torch.equal(made["precise"], torch.stack([each[:2].amax(0), each[2]]))
    with pytest.raises(EmuEditError, match="^Soft Mask: 3 masks and 2 boxes came in"):
        soften(mask=each, boxes=[[box], [box]], image=torch.rand(2, 20, 20, 3))


def test_another_size_of_the_same_proportions_is_fitted():
    made = soften(mask=square(1, 80, 120), image=torch.rand(1, 40, 60, 3))
    assert made["mask"].shape == (1, 40, 60) and float(made["precise"][0, 7, 10]) == 1
    with pytest.raises(EmuEditError, match="^Soft Mask: .*other proportions"):
        soften(mask=square(), image=torch.rand(1, 40, 200, 3))


def test_none_found_keeps_every_picture_and_remarks(monkeypatch):
    said = []
    monkeypatch.setattr(host, "remark", lambda lines: said.append(list(lines)))
    masks = square(3)
    masks[1] = 0
    made = soften(mask=masks)
    assert made["mask"].shape[0] == 3 and not bool(made["mask"][1].any()) and bool(made["mask"][2].any())
    assert said == [["picture 2: nothing found; its mask is empty, and so is that of the background"]]
    assert not bool(made["background"][1].any()) and bool(made["background"][2].any())
    none = soften(mask=torch.zeros(0, 40, 60), boxes=[[], []], image=torch.rand(2, 40, 60, 3))
    assert none["mask"].shape == (2, 40, 60) and not bool(none["mask"].any())
    assert not bool(none["background"].any())  # not white: nothing may be repainted for a miss
    soften(mask=square())
    assert len(said[1]) == 2 and said[2] == []  # nothing to say takes the earlier remark away
    assert not bool(soften(mask=torch.zeros(1, 40, 60), mode="background")["mask"].any())


def test_a_phrase_that_finds_nothing_and_no_phrase_at_all():
    pictures = toy_pictures(2, 20, 30)
    mask, boxes, _, _ = TextToMask().find(Boxes(), pictures, "the red ball", NOW, **NUMBERS)
    made = soften(mask=mask, boxes=boxes, image=pictures)
    assert made["mask"].shape == (2, 20, 30) and bool(made["mask"][0].any())
    assert "picture 2: nothing found" in made["report"] and not bool(made["mask"][1].any())
    with pytest.raises(EmuEditError, match="^Text to Mask: text: "):
        TextToMask().find(Boxes(), pictures, "   ", NOW, **NUMBERS)


def test_the_blank_mask_of_load_image_is_nothing_drawn(monkeypatch):
    said = []
    monkeypatch.setattr(host, "remark", lambda lines: said.append(list(lines)))
    blank, pictures = torch.zeros(1, 64, 64), torch.rand(2, 48, 80, 3)
    made = soften(mask=blank, image=pictures)
    assert made["mask"].shape == (2, 48, 80) and not bool(made["mask"].any())
    assert "MaskEditor" in made["report"] and "MaskEditor" in said[0][0]
    boxed = soften(mask=blank, image=pictures, boxes=[{"x": 1, "y": 1, "width": 3, "height": 4}])
    assert boxed["precise"].sum() == 24 and "MaskEditor" not in boxed["report"]
    meant = soften(mask=blank, image=torch.rand(1, 64, 64, 3))
    assert "MaskEditor" not in meant["report"] and "nothing found" in meant["report"]
    assert "MaskEditor" in soften(mask=blank)["report"]  # without a picture it is most likely that


def test_an_all_black_pair_has_no_change_to_soften():
    black = torch.zeros(1, 40, 60, 3)
    _, change, _, _ = SequentialEditThreshold().keep(black, black, 0.03, 2.0)
    made = soften(mask=change, image=black)
    assert not bool(made["mask"].any()) and "nothing found" in made["report"]


@pytest.mark.parametrize("unit", ["pixels", "% of diagonal"])
def test_huge_radii_fill_the_picture(unit):
    made = soften(mask=square(), grow=16384.0, blur=16384.0, unit=unit)
    assert float(made["soft"].min()) > 0.999 and float(made["soft"].max()) <= 1
    empty = soften(mask=torch.zeros(1, 40, 60), grow=16384.0, blur=16384.0, unit=unit)
    assert not bool(empty["soft"].any())
    large = soften(mask=square(), specks=1024.0, holes=1024.0)
    assert "only specks found" in large["report"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_other_number_formats(dtype):
    made = soften(mask=square().to(dtype))
    assert made["mask"].dtype == torch.float32 and torch.equal(made["precise"], square())
    assert torch.equal(made["mask"], soften(mask=square())["mask"])


def test_views_that_are_not_contiguous():
    wide = torch.zeros(40, 120, 2)
    wide[10:20, 30:60] = 1
    view = wide[:, ::2].permute(2, 0, 1)
    assert not view.is_contiguous() and torch.equal(view, square(2))
    made, plain = soften(mask=view), soften(mask=square(2))
    for name in ("mask", "precise", "box", "background"):
        assert torch.equal(made[name], plain[name])
    before = view.clone()
    soften(mask=view, specks=50.0)
    assert torch.equal(view, before)  # ComfyUI keeps the input for other nodes


def test_a_picture_with_alpha_tells_its_size_too():
    assert soften(mask=square(), image=torch.rand(1, 40, 60, 4))["mask"].shape == (1, 40, 60)


@pytest.mark.parametrize(
    "wired, words",
    [
        ({}, "neither a mask nor boxes came in"),
        ({"boxes": [{"x": 0, "y": 0, "width": 1, "height": 1}]}, "boxes alone have no picture size"),
        ({"mask": square() * math.nan}, "NaN or infinite"),
        ({"mask": square() * 255}, "must lie in 0..1"),
        ({"mask": square().to(torch.uint8)}, "divide 8-bit values by 255"),
        ({"mask": torch.rand(1, 40, 60, 3)}, "give one channel"),
        ({"mask": square(), "image": torch.rand(40, 60)}, "wire an IMAGE"),
        ({"mask": square(2), "image": torch.rand(3, 40, 60, 3)}, "2 masks came in for 3 pictures"),
        ({"mask": square(), "boxes": "a box"}, "wire a BOUNDING_BOX"),
        ({"mask": square(), "boxes": [{"x": 1}]}, "is no box with the numbers"),
        ({"mask": square(), "grow": math.nan}, "grow must be 0 or more"),
        ({"mask": square(), "blur": math.inf}, "blur must be 0 or more"),
        ({"mask": square(), "specks": -1.0}, "specks must be 0 or more"),
        ({"mask": square(), "unit": "inches"}, "is no unit of length"),
        ({"mask": square(), "mode": "hard"}, "is no kind of mask"),
        ({"mask": square(), "instances": "some"}, "is no way to read masks"),
        (
            {"mask": square(), "mode": "fused", "precise_weight": 0.0, "soft_weight": 0.0, "box_weight": 0.0},
            "all weights are 0",
        ),
    ],
)
def test_slips_are_one_sentence_with_the_node(wired, words):
    with pytest.raises(EmuEditError) as slip:
        soften(**wired)
    sentence = str(slip.value)
    assert sentence.startswith("Soft Mask: ") and words in sentence and "\n" not in sentence
    assert sentence.lower().count("soft mask:") == 1 and slip.value.__suppress_context__


def test_the_preview_has_a_column_for_each_mask():
    picture = torch.rand(1, 40, 60, 3)
    given = MaskPreview().show(picture, **LOOK, precise=square(), soft=square() * 0.5)
    (sheet,) = given["result"]
    assert given["ui"]["images"] == []  # nothing is written outside ComfyUI
    assert sheet.shape[0] == 1 and 3 * 60 <= sheet.shape[2] < 3 * 60 + 20 and sheet.shape[1] > 2 * 40
    assert float(sheet.min()) >= 0 and float(sheet.max()) <= 1
    wider = MaskPreview().show(picture, **LOOK, precise=square(), soft=square(), box=square())["result"][0]
    assert wider.shape[2] == sheet.shape[2] // 3 * 4
    plain = MaskPreview().show(picture, 0.0, 384, precise=square())["result"][0]
    tinted = MaskPreview().show(picture, 1.0, 384, precise=square())["result"][0]
    assert not torch.equal(plain, tinted)


def test_the_preview_takes_batches_large_pictures_and_odd_masks(monkeypatch, tmp_path):
    temp = SimpleNamespace(get_temp_directory=lambda: str(tmp_path / "temp"))
    monkeypatch.setattr(host, "folder_paths", temp)
    given = MaskPreview().show(torch.rand(1, 90, 120, 3), 0.5, 64, mask=square(2, 90, 120))
    assert given["result"][0].shape[0] == 2 and given["result"][0].shape[2] < 2 * 64 + 20
    names = [entry["filename"] for entry in given["ui"]["images"]]
    assert len(set(names)) == 2 and all((tmp_path / "temp" / name).is_file() for name in names)
    blank = MaskPreview().show(torch.rand(1, 90, 120, 3), **LOOK, mask=torch.zeros(1, 64, 64))
    assert blank["result"][0].shape[0] == 1
    solid = torch.cat([torch.rand(1, 20, 30, 3), torch.ones(1, 20, 30, 1)], dim=-1)
    assert MaskPreview().show(solid, **LOOK, mask=torch.ones(20, 30))["result"][0].shape[-1] == 3


@pytest.mark.parametrize(
    "change, words",
    [
        ({"mask": None}, "nothing to show"),
        ({"image": torch.rand(1, 40, 60, 4)}, "input image: expected 3 colour channels"),
        ({"image": torch.full((1, 40, 60, 3), math.nan)}, "input image: "),
        ({"mask": square() * math.nan}, "mask: some of its values are NaN"),
        ({"mask": square(1, 40, 200)}, "other proportions"),
        ({"mask": square(3), "image": torch.rand(2, 40, 60, 3)}, "3 masks for 2 pictures"),
        ({"tile": 4}, "a tile must be 16 pixels"),
        ({"opacity": math.nan}, "opacity must lie in 0..1"),
    ],
)
def test_slips_of_the_preview_are_sentences(change, words):
    wired = {"image": torch.rand(1, 40, 60, 3), "mask": square(), **LOOK, **change}
    with pytest.raises(EmuEditError) as slip:
        MaskPreview().show(**wired)
    sentence = str(slip.value)
    assert sentence.startswith("Mask Preview") and words in sentence and "\n" not in sentence
    assert sentence.lower().count("mask preview") == 1


def test_the_columns_are_named_after_the_outputs():
    assert [name for name in soft_mask.SHOWN if name in SoftMask.RETURN_NAMES] == list(soft_mask.SHOWN)
