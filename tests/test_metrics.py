"""L1, PSNR and SSIM against plain numpy in float64; masks as weights; the heat map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emu_edit.core.errors import EmuEditError
from emu_edit.core.heat_map import colours, heat_map
from emu_edit.core.metrics import difference_maps, pair, pixel_scores


def pictures(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed))


def reference_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Wang's formula from its definition: an 11x11 window summed at each place that holds it whole."""
    axis = np.arange(11) - 5.0
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    height, width = x.shape
    found = np.empty((height - 10, width - 10))
    for i in range(height - 10):
        for j in range(width - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a = (window * (a - mean_a) ** 2).sum()
            var_b = (window * (b - mean_b) ** 2).sum()
            cov = (window * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 0.01**2, 0.03**2
            found[i, j] = (
                (2 * mean_a * mean_b + c1)
                * (2 * cov + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return found


def test_scores_equal_the_reference():
    before, after = pictures(1, 1, 24, 31), pictures(2, 1, 24, 31)
    after = 0.7 * before + 0.3 * after
    mask = torch.rand(1, 24, 31, generator=torch.Generator().manual_seed(3))
    scores, maps = pixel_scores(before, after, mask)
    x, y, m = (t[0].double().numpy() for t in (before, after, mask))
    similarity = np.mean([reference_ssim(x[..., c], y[..., c]) for c in range(3)], axis=0)
    np.testing.assert_allclose(maps.similarity[0, 5:-5, 5:-5].numpy(), similarity, atol=1e-12)
    for region, weights in (("whole", np.ones_like(m)), ("inside", m), ("outside", 1 - m)):
        l1 = np.average(np.abs(y - x).mean(-1), weights=weights)
        mse = np.average(((y - x) ** 2).mean(-1), weights=weights)
        expected = {
            "l1": l1,
            "psnr": -10 * math.log10(mse),
            "ssim": np.average(similarity, weights=weights[5:-5, 5:-5]),
        }
        # 1 - mask is taken in float32, hence 1e-7.
        assert scores[0][region] == pytest.approx(expected, rel=1e-7)


def test_faint_differences_lose_no_digits():
    """A faint change on a bright ground: squares summed in float32 would drown it."""
    before = torch.full((1, 48, 48, 3), 0.97)
    after = before.clone()
    after[0, ::7, ::5] += 1e-4
    found = pixel_scores(before, after)[0][0]["whole"]
    x, y = before[0].double().numpy(), after[0].double().numpy()
    assert found["psnr"] == pytest.approx(-10 * math.log10(((y - x) ** 2).mean()), rel=1e-9)
    lost = 1 - reference_ssim(x[..., 0], y[..., 0]).mean()
    assert lost > 1e-7 and 1 - found["ssim"] == pytest.approx(lost, rel=1e-5)


def test_equal_pictures_are_the_baseline():
    picture = pictures(4, 2, 20, 20)
    for entry in pixel_scores(picture, picture.clone(), torch.full((1, 20, 20), 0.5))[0]:
        for region in ("whole", "inside", "outside"):
            assert entry[region] == {"l1": 0.0, "psnr": math.inf, "ssim": pytest.approx(1.0, abs=1e-12)}


def test_a_change_inside_the_mask_is_none_outside():
    before = pictures(5, 1, 40, 40)
    after = before.clone()
    after[:, 15:25, 15:25] = 0
    mask = torch.zeros(1, 40, 40)
    mask[:, 15:25, 15:25] = 1
    entry = pixel_scores(before, after, mask)[0][0]
    assert entry["outside"]["l1"] == 0 and entry["outside"]["psnr"] == math.inf
    assert entry["inside"]["l1"] > 0.3
    # SSIM looks through a window, so it sees the change from five pixels away.
    assert entry["inside"]["ssim"] < entry["outside"]["ssim"] < 1


def test_tiles_leave_no_seams(monkeypatch):
    before, after = pictures(12, 2, 70, 530), pictures(13, 2, 70, 530)
    whole = difference_maps(before, after)
    monkeypatch.setattr("emu_edit.core.metrics.TILE", (7, 101))
    small = difference_maps(before, after)
    assert torch.equal(whole.absolute, small.absolute) and torch.equal(whole.squared, small.squared)
    assert torch.allclose(whole.similarity, small.similarity, rtol=0, atol=1e-13)


def test_an_empty_region_is_undefined():
    before, after = pictures(6, 1, 20, 20), pictures(7, 1, 20, 20)
    none = pixel_scores(before, after, torch.zeros(1, 20, 20))[0][0]
    assert none["inside"] == {"l1": None, "psnr": None, "ssim": None}
    assert none["outside"] == none["whole"]
    every = pixel_scores(before, after, torch.ones(1, 20, 20))[0][0]
    assert every["outside"] == none["inside"] and every["inside"] == every["whole"]


def test_batches_equal_singles():
    before, after = pictures(8, 3, 18, 22), pictures(9, 3, 18, 22)
    masks = torch.rand(3, 18, 22, generator=torch.Generator().manual_seed(1))
    together = pixel_scores(before, after, masks)[0]
    for i in range(3):
        alone = pixel_scores(before[i : i + 1], after[i : i + 1], masks[i : i + 1])[0][0]
        for region, scores in together[i].items():
            assert scores == pytest.approx(alone[region], rel=1e-12)
    one = pixel_scores(before[:1], after)[0]
    assert [e["whole"] for e in one][2] == pixel_scores(before[:1], after[2:])[0][0]["whole"]


@given(st.integers(1, 14), st.integers(1, 14))
def test_any_size_is_scored(height, width):
    before, after = pictures(10, 1, height, width), pictures(11, 1, height, width)
    whole = pixel_scores(before, after)[0][0]["whole"]
    assert all(value is not None and math.isfinite(value) for value in whole.values())
    assert -1 <= whole["ssim"] < 1


def test_another_size_is_brought_to_the_first():
    before = torch.full((1, 32, 32, 3), 0.5)
    entry = pixel_scores(before, torch.full((1, 64, 48, 3), 0.5))[0][0]["whole"]
    assert entry["l1"] == pytest.approx(0, abs=1e-6) and entry["ssim"] == pytest.approx(1, abs=1e-6)


def test_overshoot_counts_as_saved():
    before, after = torch.ones(1, 16, 16, 3), torch.full((1, 16, 16, 3), 1.2)
    assert pixel_scores(before, after)[0][0]["whole"]["l1"] == 0


@pytest.mark.parametrize(
    "before, after, mask, words",
    [
        (torch.rand(2, 8, 8, 3), torch.rand(3, 8, 8, 3), None, "2 pictures before against 3 after"),
        (torch.rand(1, 8, 8, 3) * float("nan"), torch.rand(1, 8, 8, 3), None, "the picture before"),
        (torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 4), None, "the picture after"),
        (torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 3), torch.rand(1, 8, 20), "the mask"),
    ],
)
def test_slips_are_one_sentence(before, after, mask, words):
    with pytest.raises(EmuEditError, match=words) as slip:
        pixel_scores(before, after, mask)
    assert "\n" not in str(slip.value)


def test_heat_map_is_grey_where_nothing_changed_and_bright_where_much_did():
    before, after = pair(torch.full((1, 64, 64, 3), 0.8), torch.full((1, 64, 64, 3), 0.8))
    after = after.clone()
    after[:, :, 40:] = 0.2
    maps = difference_maps(before, after)
    picture = heat_map(before, maps.absolute, 0.5)
    assert picture.shape == (1, 64, 64, 3) and picture.dtype == torch.float32
    quiet, loud = picture[0, 10, 10], picture[0, 10, 50]
    assert torch.allclose(quiet, quiet[:1].expand(3)) and quiet[0] == pytest.approx(0.8 * 0.35, abs=1e-5)
    assert torch.allclose(loud, colours(torch.tensor(1.0)), atol=1e-6)
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:30, 20:30] = 1
    edged = heat_map(before, maps.absolute, 0.5, mask)
    assert edged[0, 19, 25].tolist() == [1, 1, 1] and torch.equal(edged[0, 25, 25], picture[0, 25, 25])
    with pytest.raises(EmuEditError, match="full scale"):
        heat_map(before, maps.absolute, 0.0)


def test_colours_run_from_dark_to_pale():
    light = colours(torch.linspace(0, 1, 50)) @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert bool((light.diff() > 0).all())
