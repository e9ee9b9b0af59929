"""Which masks and boxes belong to which picture, and the parts of a mask."""

from __future__ import annotations

import math

import pytest
import torch

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks.components import drop_specks, fill_holes, label, part_boxes
from emu_edit.core.masks.targets import collect, fill_boxes, read_boxes

BOX = {"x": 2, "y": 1, "width": 4, "height": 3}


def planes(*sizes: int, side: int = 12) -> torch.Tensor:
    """One mask for each size: a square of that many pixels a side in the corner."""
    masks = torch.zeros(len(sizes), side, side)
    for mask, size in zip(masks, sizes, strict=True):
        mask[:size, :size] = 1
    return masks


def test_a_bounding_box_has_three_forms():
    one = (2.0, 1.0, 6.0, 4.0)
    assert read_boxes(BOX) == [[one]] and read_boxes([BOX, BOX]) == [[one, one]]
    assert read_boxes([[BOX], [], [BOX, BOX]]) == [[one], [], [one, one]]
    assert read_boxes([]) == [[]] and read_boxes([[]]) == [[]]
    assert read_boxes({**BOX, "x": "2", "label": "dog", "score": 0.5}) == [[one]]


@pytest.mark.parametrize(
    "boxes",
    [
        7,
        "box",
        [7],
        [{}],
        [None],
        [{**BOX, "x": None}],
        [{**BOX, "width": -1}],
        [{**BOX, "y": math.nan}],
        [{**BOX, "height": math.inf}],
        [[BOX], BOX],
    ],
)
def test_what_is_no_box_is_a_sentence(boxes):
    with pytest.raises(EmuEditError, match="^boxes: .*BOUNDING_BOX|^boxes: .* is no box") as slip:
        read_boxes(boxes)
    assert "\n" not in str(slip.value)


def test_boxes_fill_every_pixel_that_they_touch_and_none_outside():
    boxes = [[(0.5, 1.2, 2.1, 3.0)], [(-5.0, -5.0, 2.0, 1.0), (9.0, 9.0, 99.0, 99.0)], [], [(30, 30, 40, 40)]]
    filled = fill_boxes(boxes, 10, 12)
    assert filled.shape == (4, 10, 12) and filled.dtype == torch.float32
    assert filled.sum(dim=(1, 2)).tolist() == [3 * 2, 2 + 3, 0, 0]
    assert float(filled[0, 1, 0]) == 1 and float(filled[0, 0, 0]) == 0
    assert fill_boxes([[(3, 3, 3, 3)]], 10, 12).sum() == 0  # no width, no pixel


@pytest.mark.parametrize(
    ("count", "boxes", "batch", "instances", "groups"),
    [
        (3, None, None, "auto", [1, 1, 1]),
        (3, None, 1, "auto", [3]),
        (1, None, 3, "auto", [1, 1, 1]),
        (3, [[BOX, BOX], [BOX]], None, "auto", [2, 1]),
        (3, [[BOX, BOX], [], [BOX]], 3, "one mask per box", [2, 0, 1]),
        (2, [[BOX], [BOX]], 2, "one mask per box", [1, 1]),
        (3, [BOX, BOX, BOX], None, "one mask per box", [3]),
        (3, None, 2, "all masks together", [3, 3]),
        (3, None, None, "all masks together", [3]),
        (2, [BOX], None, "auto", [1, 1]),
        (2, None, 2, "one mask per picture", [1, 1]),
        (0, [[], []], None, "auto", [0, 0]),
        (0, None, 2, "auto", [0, 0]),
    ],
)
def test_masks_go_to_their_pictures(count, boxes, batch, instances, groups):
    found = collect(
        torch.ones(count, 12, 12) if count else torch.zeros(0, 12, 12), boxes, batch, None, instances
    )
    assert list(found.counts) == groups and found.masks.shape == (len(groups), 12, 12)
    assert len(found.boxes) == len(groups)
    assert [bool(mask.any()) for mask in found.masks] == [n > 0 for n in groups]


def test_the_union_is_of_each_pictures_own_masks():
    found = collect(planes(2, 5, 3), [[BOX, BOX], [BOX]], 2)
    assert torch.equal(found.masks, planes(5, 3))
    assert torch.equal(collect(planes(2, 5, 3), None, 1).masks, planes(5))


@pytest.mark.parametrize(
    ("count", "boxes", "batch", "instances"),
    [
        (2, None, 3, "auto"),
        (3, None, 2, "one mask per picture"),
        (2, [[BOX, BOX]], 2, "one mask per box"),
        (3, [[BOX], [BOX]], 2, "auto"),
        (1, [[BOX], [BOX], [BOX]], 2, "auto"),
    ],
)
def test_masks_that_belong_nowhere_are_refused(count, boxes, batch, instances):
    with pytest.raises(EmuEditError, match="^soft mask: .* pictures"):
        collect(planes(*[3] * count), boxes, batch, None, instances)


def test_boxes_stand_in_for_masks_in_which_nothing_is_marked():
    found = collect(planes(0, 4), [[BOX], [BOX]])
    assert found.counts == (0, 1) and found.masks.sum(dim=(1, 2)).tolist() == [12.0, 16.0]
    blank = collect(torch.zeros(1, 12, 12))
    assert blank.counts == (1,) and not bool(blank.masks.any())


def test_one_channel_more_is_no_matter():
    for form in (planes(3)[:, None], planes(3)[..., None], planes(3)[0]):
        assert torch.equal(collect(form).masks, planes(3))
    for bad in (torch.rand(2, 3, 12, 12), torch.rand(12), torch.rand(1, 0, 12), "mask"):
        with pytest.raises(EmuEditError, match="^mask: .*give one channel"):
            collect(bad)


def test_boxes_around_parts():
    mask = torch.zeros(8, 9)
    mask[0, 0], mask[2:4, 3:8], mask[7, 8] = 0.6, 1, 0.4
    assert part_boxes(mask) == [(0, 0, 1, 1), (3, 2, 8, 4)]
    mask[4, 2] = 1  # hangs on by its corner
    assert part_boxes(mask) == [(0, 0, 1, 1), (2, 2, 8, 5)]
    assert part_boxes(torch.zeros(4, 4)) == [] and part_boxes(torch.ones(4, 5)) == [(0, 0, 5, 4)]


def test_a_specks_soft_fringe_goes_with_it_and_a_holes_comes_back():
    mask = torch.zeros(1, 9, 9)
    mask[0, 1:4, 1:4] = torch.tensor([[0.2, 0.4, 0.2], [0.4, 1.0, 0.4], [0.2, 0.4, 0.2]])
    mask[0, 7, 7] = 0.3  # nowhere white: less than any speck
    assert not bool(drop_specks(mask, 2).any()) and not bool(drop_specks(mask, 1)[0, 6:].any())
    assert torch.equal(drop_specks(mask, 1)[0, :6], mask[0, :6]) and torch.equal(drop_specks(mask, 0), mask)
    assert torch.equal(fill_holes(1 - mask, 1), torch.ones(1, 9, 9))
    assert torch.equal(fill_holes(1 - mask, 0), 1 - mask)


def test_holes_at_the_edge_are_none_and_corners_do_not_close_white_off():
    ring = torch.ones(1, 7, 7)
    ring[0, 3, 3], ring[0, 0, 5] = 0, 0
    filled = fill_holes(ring, math.inf)
    assert float(filled[0, 3, 3]) == 1 and float(filled[0, 0, 5]) == 0
    ring[0, 1, 4], ring[0, 2, 3] = 0, 0  # by their corners: to each other, and to the edge
    assert fill_holes(ring, 1)[0, 1, 4] == 1  # black hangs together along sides only


def test_labels_are_numbered_anew_in_each_picture():
    masks = torch.stack([torch.eye(3), torch.zeros(3, 3), torch.ones(3, 3)])
    assert label(masks, 8).amax(dim=(1, 2)).tolist() == [1, 0, 1]
    assert label(masks, 4).amax(dim=(1, 2)).tolist() == [3, 0, 1]
    assert label(torch.zeros(0, 3, 3)).shape == (0, 3, 3)
    with pytest.raises(EmuEditError, match="connectivity must be 4 or 8"):
        label(masks, 6)


def test_masks_are_left_as_they_were():
    mask = planes(1, 4)
    before = mask.clone()
    for changed in (drop_specks(mask, 5), fill_holes(1 - mask, 5), drop_specks(mask, 0)):
        changed.fill_(7)
    assert torch.equal(mask, before)
    drop_specks(mask.half(), 5)
    assert drop_specks(mask.half(), 5).dtype == torch.float16 and drop_specks(mask > 0, 5).dtype == torch.bool
