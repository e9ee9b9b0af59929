"""Sequential edit thresholding against an independent float64 reference, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from emu_edit.core.errors import EmuEditError
from emu_edit.core.filters import gaussian_kernel, gaussian_low_pass
from emu_edit.core.thresholding import sequential_threshold


def pictures(seed: int, batch: int = 1, height: int = 24, width: int = 32):
    """A random picture and an edit of it: a changed patch, a faint cast everywhere."""
    generator = torch.Generator().manual_seed(seed)
    previous = torch.rand(batch, height, width, 3, generator=generator)
    edited = previous + 0.02 * (torch.rand(batch, height, width, 3, generator=generator) - 0.5)
    edited[:, height // 4 : height // 2, width // 4 : width // 2] = torch.rand(3, generator=generator)
    return previous, edited.clamp(0, 1)


def reference(previous, edited, alpha: float, sigma: float):
    """The formula in float64 numpy and scipy; also the low-passed difference, to tell ties."""
    before, after = (x.numpy().astype(np.float64) for x in (previous, edited))
    d = np.abs(after - before).mean(axis=-1)
    dbar = np.stack([ndimage.gaussian_filter(plane, sigma, mode="reflect") for plane in d])
    keep = dbar < alpha
    return np.where(keep[..., None], before, after), (~keep).astype(np.float64), dbar


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0, 7.5, 40.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (24, 32), (2, 31, 17), (2, 3, 9, 40)])
def test_low_pass_equals_scipy(sigma, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    sigmas = [0.0] * (len(shape) - 2) + [sigma, sigma]
    expected = ndimage.gaussian_filter(x.numpy().astype(np.float64), sigmas, mode="reflect")
    got = gaussian_low_pass(x, sigma)
    assert got.shape == x.shape and got.dtype == x.dtype
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(gaussian_low_pass(x.double(), sigma).numpy(), expected, atol=1e-13, rtol=0)


def test_low_pass_of_sigma_zero_is_the_picture_and_the_kernel_sums_to_one():
    x = torch.rand(2, 5, 6)
    assert torch.equal(gaussian_low_pass(x, 0.0), x)
    assert abs(float(gaussian_kernel(3.0).sum()) - 1) < 1e-15
    assert gaussian_kernel(3.0).numel() == 25


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_low_pass_refuses_a_bad_sigma(sigma):
    with pytest.raises(EmuEditError, match="sigma"):
        gaussian_low_pass(torch.rand(4, 4), sigma)


def test_low_pass_refuses_what_is_no_plane():
    with pytest.raises(EmuEditError, match="planes"):
        gaussian_low_pass(torch.rand(4), 1.0)


@given(
    seed=st.integers(0, 10_000),
    alpha=st.sampled_from([0.0, 0.005, 0.03, 0.1, 0.4]),
    sigma=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    batch=st.integers(1, 3),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
)
def test_equals_the_float64_reference(seed, alpha, sigma, batch, height, width):
    previous, edited = pictures(seed, batch, height, width)
    kept, mask = sequential_threshold(previous, edited, alpha, sigma)
    expected, expected_mask, dbar = reference(previous, edited, alpha, sigma)
    clear = np.abs(dbar - alpha) > 1e-6 if alpha > 0 else np.ones_like(dbar, dtype=bool)  # float32 ties
    assert mask.dtype == torch.float32 and tuple(mask.shape) == (batch, height, width)
    np.testing.assert_array_equal(mask.numpy()[clear], expected_mask[clear])
    np.testing.assert_array_equal(kept.numpy().astype(np.float64)[clear], expected[clear])


@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1), sigma=st.floats(0, 8))
def test_every_pixel_is_exactly_one_of_the_two(seed, alpha, sigma):
    previous, edited = pictures(seed, 2)
    kept, mask = sequential_threshold(previous, edited, alpha, sigma)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    chosen = mask.bool()
    assert torch.equal(kept[chosen], edited[chosen])
    assert torch.equal(kept[~chosen], previous[~chosen])


@given(seed=st.integers(0, 10_000), low=st.floats(0, 0.5), high=st.floats(0, 0.5))
def test_a_higher_alpha_never_changes_more(seed, low, high):
    low, high = sorted((low, high))
    previous, edited = pictures(seed)
    few, many = (sequential_threshold(previous, edited, alpha)[1] for alpha in (high, low))
    assert bool((few <= many).all())


@given(seed=st.integers(0, 10_000), sigma=st.sampled_from([0.0, 2.0]))
def test_repeating_adds_nothing(seed, sigma):
    previous, edited = pictures(seed)
    kept, mask = sequential_threshold(previous, edited, sigma=sigma)
    again, mask_again = sequential_threshold(previous, kept, sigma=sigma)
    assert bool((mask_again <= mask).all())  # the low-pass sees less change, so the border may only shrink
    if sigma == 0:
        assert torch.equal(again, kept) and torch.equal(mask_again, mask)
    assert torch.equal(sequential_threshold(kept, kept)[0], kept)
    assert sequential_threshold(kept, kept)[1].sum() == 0


def test_limits_of_alpha():
    previous, edited = pictures(3)
    kept, mask = sequential_threshold(previous, edited, alpha=0.0)
    assert torch.equal(kept, edited) and bool((mask == 1).all())  # d >= 0 everywhere, so nothing is below 0
    for alpha in (1.5, 1e9, float("inf")):
        kept, mask = sequential_threshold(previous, edited, alpha=alpha)
        assert torch.equal(kept, previous) and mask.sum() == 0


def test_the_edit_survives_and_the_faint_cast_goes():
    previous = torch.full((1, 64, 64, 3), 0.5)
    edited = previous + 0.01
    edited[:, 20:40, 20:40] = torch.tensor([1.0, 0.0, 0.0])
    kept, mask = sequential_threshold(previous, edited)
    assert bool((mask[:, 20:40, 20:40] == 1).all())
    assert mask[:, :12].sum() == 0 and torch.equal(kept[:, :12], previous[:, :12])


def test_batches_of_one_against_many_equal_singles():
    previous, edited = pictures(5, batch=3)
    for before, after in ((previous[:1], edited), (previous, edited[:1]), (previous, edited)):
        kept, mask = sequential_threshold(before, after)
        assert kept.shape == (3, 24, 32, 3) and mask.shape == (3, 24, 32)
        for i in range(3):
            one = sequential_threshold(before[i % len(before)][None], after[i % len(after)][None])
            assert torch.equal(kept[i], one[0][0]) and torch.equal(mask[i], one[1][0])


def test_an_edit_of_another_size_is_brought_to_the_previous_ones():
    previous = torch.full((1, 40, 60, 3), 0.5)
    edited = torch.full((1, 20, 30, 3), 0.5)
    edited[:, 10:] = 1.0
    kept, mask = sequential_threshold(previous, edited)
    assert kept.shape == previous.shape
    assert mask[:, :14].sum() == 0 and bool((mask[:, 24:] == 1).all())


def test_half_precision_and_inputs_left_alone():
    previous, edited = (x.half() for x in pictures(6))
    copies = previous.clone(), edited.clone()
    kept, _ = sequential_threshold(previous, edited)
    assert kept.dtype == torch.float32
    assert torch.equal(previous, copies[0]) and torch.equal(edited, copies[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"previous": torch.full((1, 4, 4, 3), float("nan"))}, "previous picture.*NaN"),
        ({"edited": torch.full((1, 4, 4, 3), float("inf"))}, "edited picture.*NaN or infinite"),
        ({"edited": torch.rand(4, 4, 3)}, "4 axes"),
        ({"edited": torch.rand(1, 4, 4, 4)}, "3 colour channels"),
        ({"edited": torch.full((1, 4, 4, 3), 200.0)}, "must lie in 0..1"),
        ({"edited": torch.zeros(1, 4, 4, 3, dtype=torch.uint8)}, "divide 8-bit"),
        ({"previous": torch.rand(2, 4, 4, 3), "edited": torch.rand(3, 4, 4, 3)}, "2 previous pictures agai"),
        ({"alpha": -0.1}, "alpha must be 0 or more, got -0.1"),
        ({"alpha": float("nan")}, "alpha"),
        ({"sigma": -2.0}, "sigma must be 0 or more"),
        ({"sigma": float("nan")}, "sigma"),
    ],
)
def test_bad_input_is_told_in_one_sentence(change, words):
    arguments = {"previous": torch.rand(1, 4, 4, 3), "edited": torch.rand(1, 4, 4, 3), **change}
    with pytest.raises(EmuEditError, match=words) as told:
        sequential_threshold(**arguments)
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


@pytest.mark.parametrize("alpha", [0.0, 0.02, 0.03, 0.2])
@pytest.mark.parametrize("shape", [(1, 300, 210), (2, 129, 64), (1, 40, 333)])
def test_strips_equal_the_reference_on_pictures_of_several_strips(shape, alpha):
    batch, height, width = shape
    generator = torch.Generator().manual_seed(2)
    previous = torch.rand(batch, height, width, 3, generator=generator)
    edited = previous.clone()
    edited[:, height // 2 :, width // 3 : width // 2] += 0.1  # some strips and columns have nothing to decide
    edited[:, :, -3:] -= 0.05
    kept, mask = sequential_threshold(previous.transpose(1, 2).contiguous().transpose(1, 2), edited, alpha)
    expected, expected_mask, dbar = reference(previous, edited, alpha, 2.0)
    clear = np.abs(dbar - alpha) > 1e-6 if alpha > 0 else np.ones_like(dbar, dtype=bool)
    np.testing.assert_array_equal(mask.numpy()[clear], expected_mask[clear])
    np.testing.assert_array_equal(kept.numpy().astype(np.float64)[clear], expected[clear])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("value", "words"), [(float("nan"), "NaN"), (float("-inf"), "NaN or inf"), (1.3, "0..1"), (-0.3, "0..1")]
)
def test_strips_refuse_bad_values_wherever_they_lie(which, value, words):
    given = [torch.full((2, 70, 50, 3), 0.5) for _ in range(2)]
    given[which][1, 69, 49, 2] = value
    with pytest.raises(EmuEditError, match=("previous", "edited")[which] + ".*" + words):
        sequential_threshold(*given)


def test_strips_let_a_little_overshoot_through_bit_for_bit():
    previous, edited = pictures(7, height=70, width=50)
    previous[:, :3, :3], edited[:, 30:, 30:], edited[:, :5] = -0.2, 1.2, -0.0
    kept, mask = sequential_threshold(previous, edited)
    expected = torch.where(mask[..., None] > 0, edited, previous)
    assert 0 < mask.mean() < 1 and torch.equal(kept.view(torch.int32), expected.view(torch.int32))
