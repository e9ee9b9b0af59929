"""Growing, blurring, cleaning and building masks, against scipy and against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks import painted
from emu_edit.core.masks.blur import gaussian_blur
from emu_edit.core.masks.components import drop_specks, fill_holes, label
from emu_edit.core.masks.morphology import dilate, disc, erode, opencv_ellipse
from emu_edit.core.masks.overlay import mask_sheet
from emu_edit.core.masks.soft_mask import SoftMaskSettings, background_mask, fuse, make_masks
from emu_edit.core.masks.targets import collect


def footprint(radius):
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return x * x + y * y <= radius * radius


def random_masks(seed, *shape, share=0.05):
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < share)


@given(
    st.integers(0, 10**6), st.integers(1, 70), st.integers(1, 90), st.floats(0, 12), st.floats(0, 1)
)  # fmt: skip
def test_growing_black_and_white_is_exact(seed, height, width, radius, share):
    mask = random_masks(seed, 2, height, width, share=share)
    for form in (mask, mask.float()):
        grown, shrunk = dilate(form, radius), erode(form, radius)
        assert grown.dtype == form.dtype and grown.shape == form.shape
        for found, one, back in zip(grown, mask.numpy(), shrunk, strict=True):
            near = ndimage.binary_dilation(one, footprint(radius))
            assert np.array_equal(found.bool().numpy(), near)
            far = ndimage.binary_erosion(one, footprint(radius), border_value=1)
            assert np.array_equal(back.bool().numpy(), far)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30), st.floats(0, 6))
def test_growing_grey_is_the_largest_within_the_disc(seed, height, width, radius):
    grey = torch.from_numpy(np.random.default_rng(seed).random((height, width)).astype(np.float32))
    expected = ndimage.grey_dilation(grey.numpy(), footprint=footprint(radius), mode="constant", cval=-1)
    assert np.array_equal(dilate(grey, radius).numpy(), expected)


def test_a_disc_wider_than_the_picture_fills_it():
    mask = torch.zeros(1, 20, 30)
    mask[0, 0, 0] = 1
    assert bool(dilate(mask, 500).all()) and not bool(erode(mask, 500).any())
    assert not bool(dilate(torch.zeros(1, 5, 5), 500).any())


def test_other_shapes_can_be_grown_by():
    # cv2.getStructuringElement(MORPH_ELLIPSE, (5, 5)): three full rows between two that have only a middle.
    mask = torch.zeros(1, 9, 9)
    mask[0, 4, 4] = 1
    grown = dilate(mask, 2, opencv_ellipse(2))[0, 2:7, 2:7]
    assert grown.tolist() == [
        [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]
    ]  # fmt: skip
    assert disc(2) == (2, 1, 0)


@pytest.mark.parametrize("sigma", [1, 4, 16, 64])
@pytest.mark.parametrize("shape", [(97, 130), (300, 257)])
def test_blur_is_scipys(sigma, shape):
    picture = random_masks(3, *shape, share=0.3).double().numpy()
    expected = ndimage.gaussian_filter(picture, sigma, mode="reflect", truncate=4)
    found = gaussian_blur(torch.from_numpy(picture).float(), sigma)
    assert np.abs(found.numpy() - expected).max() < 1 / 512


def test_blur_keeps_what_is_flat_and_what_is_not_blurred():
    flat = torch.full((2, 40, 33), 0.75)
    for sigma in (0.3, 5, 40, 4000):
        assert (gaussian_blur(flat, sigma) - 0.75).abs().max() < 1e-5
    picture = torch.rand(1, 8, 9)
    assert torch.equal(gaussian_blur(picture, 0), picture)


@given(st.integers(0, 10**6), st.sampled_from([4, 8]), st.integers(0, 12))
def test_specks_and_holes_by_area(seed, connectivity, area):
    mask = random_masks(seed, 2, 24, 31, share=0.45)
    corners = np.ones((3, 3)) if connectivity == 8 else None
    for one, numbered in zip(mask.numpy(), label(mask, connectivity).numpy(), strict=True):
        expected, count = ndimage.label(one, corners)
        assert numbered.max() == count
        assert len(np.unique(numbered + 1000 * expected)) == count + 1  # the same parts, however numbered
    kept, filled = drop_specks(mask, area), fill_holes(mask, area)
    assert bool((kept <= mask).all()) and bool((filled >= mask).all())
    for before, after in zip(mask.numpy(), kept.numpy(), strict=True):
        parts, count = ndimage.label(before, np.ones((3, 3)))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        assert np.array_equal(after, before & (sizes[parts] >= area))


def test_the_three_masks_of_the_paper():
    precise = torch.zeros(1, 60, 80)
    precise[0, 20:30, 20:40] = 1
    box = [[{"x": 18, "y": 18, "width": 24, "height": 14}]]
    made = make_masks(collect(precise, box, batch=1), SoftMaskSettings(grow=4, blur=2, unit="pixels"))
    assert torch.equal(made.precise, precise)
    assert made.box.sum() == 24 * 14
    expected = ndimage.gaussian_filter(
        ndimage.binary_dilation(precise[0].numpy() > 0, footprint(4)).astype(float), 2, mode="reflect"
    )
    assert np.abs(made.soft[0].numpy() - expected).max() < 1 / 512
    fused = fuse([made.precise, made.soft, made.box], [1, 0, 1])
    assert fused.max() == 1 and float(fused[0, 18, 18]) == pytest.approx(0.5)
    reaching = background_mask(precise, 3, 0)
    assert bool(((1 - precise) <= reaching).all()) and float(reaching[0, 25, 30]) == 0.0


def test_nothing_found_is_an_empty_mask_and_a_sentence():
    empty = torch.zeros(3, 10, 12)
    empty[1, 2:5, 2:5] = 1
    made = make_masks(collect(empty, batch=3))
    assert made.soft.shape == (3, 10, 12) and not bool(made.soft[0].any()) and bool(made.soft[1].any())
    assert made.report
    none = make_masks(collect(None, [[], []], batch=2, size=(8, 8)))
    assert none.precise.shape == (2, 8, 8) and not bool(none.box.any())


def test_no_background_where_nothing_was_found():
    some = torch.zeros(2, 10, 12)
    some[1, 2:5, 2:5] = 1
    made = make_masks(collect(some, batch=2), SoftMaskSettings(grow=1, blur=0, unit="pixels"))
    background = made.pick("background")
    assert not bool(background[0].any())  # or a missed detection has everything repainted
    assert torch.equal(background[1:], background_mask(some[1:], 1, 0)) and background[1].sum() == 120 - 1
    assert made.report[1].endswith("nothing found; its mask is empty, and so is that of the background")


def test_what_is_painted_apart_are_things_of_their_own():
    mask = torch.zeros(40, 60)
    mask[10:20, 5:15], mask[10:20, 40:50], mask[20, 40:50] = 0.9, 0.8, 0.3
    mask[2, 25] = 0.4  # faint paint, nearer to the left one
    mask[38, 58] = 1.0  # a crumb, nearer to the right one
    found = painted.found_in(mask, "ball", 0.5)
    assert found.labels == ("ball", "ball") and found.boxes[0].tolist() == [5.0, 10.0, 15.0, 20.0]
    assert found.scores.tolist() == pytest.approx([0.9, (0.8 * 100 + 1) / 101])
    assert found.masks is not None and torch.equal(found.masks.sum(dim=0), mask)
    assert found.masks[0, 2, 25] > 0 and found.masks[1, 38, 58] == 1 and found.masks[1, 20, 45] > 0
    assert painted.found_in(mask, "ball", 0.85).boxes.tolist() == [[5.0, 10.0, 15.0, 20.0]]
    assert painted.found_in(torch.zeros(40, 60), "ball", 0.0).count == 0


def test_a_striped_thing_is_one():
    mask = torch.zeros(100, 100)
    mask[20:60, 20:40], mask[28:30], mask[40:42] = 1, 0, 0  # gaps of 2 px, bridged up to 2 % of the diagonal
    found = painted.found_in(mask, "ball", 0.5)
    assert found.boxes.tolist() == [[20.0, 20.0, 40.0, 60.0]]
    assert found.masks is not None and torch.equal(found.masks[0], mask)
    mask[28:36] = 0
    assert painted.found_in(mask, "ball", 0.5).count == 2


def test_preview_sheet_is_a_picture():
    sheet = mask_sheet(
        torch.rand(2, 40, 50, 3), {"precise": torch.rand(1, 40, 50), "soft": torch.rand(2, 40, 50)}
    )
    assert sheet.shape[0] == 2 and sheet.shape[3] == 3 and 0 <= float(sheet.min()) <= float(sheet.max()) <= 1


@pytest.mark.parametrize("radius", [-1, float("nan"), float("inf")])
def test_bad_radii_are_sentences(radius):
    with pytest.raises(EmuEditError, match="radius must be 0 or more pixels"):
        dilate(torch.zeros(1, 4, 4), radius)


def test_bad_boxes_and_areas_are_sentences():
    with pytest.raises(EmuEditError, match="is no box"):
        collect(None, [{"x": 1, "y": 2}], batch=1, size=(4, 4))
    with pytest.raises(EmuEditError, match="area of specks must be 0 or more"):
        drop_specks(torch.zeros(1, 4, 4), -2)
