"""Sizes for editors and the way back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emu_edit.core.errors import EmuEditError
from emu_edit.core.size_guard import MODES, guard_size, restore_size


@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    multiple=st.sampled_from([1, 8, 16]),
    mode=st.sampled_from(MODES),
    size=st.sampled_from([0, 0, 48, 120]),
)
def test_sides_fit_and_the_way_back_has_the_right_size(height, width, multiple, mode, size):
    picture = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(1))
    if mode == "crop" and size and min(height, width) * size / max(height, width) < multiple:
        return
    guarded, record = guard_size(picture, multiple, mode, size)
    assert guarded.shape[1] % multiple == 0 and guarded.shape[2] % multiple == 0
    assert (guarded.shape[1], guarded.shape[2]) == record.guarded and record.describe()
    back = restore_size(guarded, record)
    assert back.shape == picture.shape
    if size == 0 and mode != "stretch":
        assert torch.equal(back, picture)  # no pixel was resampled


def test_padding_repeats_the_border_and_editors_may_return_another_size():
    picture = torch.rand(2, 30, 50, 3)
    guarded, record = guard_size(picture, 16, "pad")
    assert guarded.shape == (2, 32, 64, 3)
    assert torch.equal(guarded[:, 1:31, 7:57], picture) and torch.equal(guarded[:, 5, 0], picture[:, 4, 0])
    larger = torch.nn.functional.interpolate(guarded.movedim(-1, 1), scale_factor=2).movedim(1, -1)
    back = restore_size(larger, record)
    assert back.shape == picture.shape and float((back - picture).abs().mean()) < 0.1


def test_what_was_cropped_off_comes_back():
    picture = torch.rand(1, 35, 40, 3)
    guarded, record = guard_size(picture, 16, "crop")
    back = restore_size(torch.zeros_like(guarded), record)
    assert torch.equal(back[:, 0], picture[:, 0]) and float(back[:, 10, 10].sum()) == 0
    scaled, record = guard_size(torch.rand(1, 70, 90, 3), 16, "crop", 64)
    assert restore_size(scaled, record).shape == (1, 70, 90, 3)


def test_one_original_serves_a_batch_of_edits():
    picture = torch.rand(1, 20, 20, 3)
    guarded, record = guard_size(picture, 8, "crop")
    assert restore_size(guarded.repeat(3, 1, 1, 1), record).shape == (3, 20, 20, 3)
    with pytest.raises(EmuEditError, match="give as many"):
        restore_size(guarded.repeat(3, 1, 1, 1), guard_size(picture.repeat(2, 1, 1, 1), 8, "crop")[1])


@pytest.mark.parametrize(
    "arguments", [(0, "pad", 0), (16, "bend", 0), (16, "pad", -1), (64, "crop", 0), (16, "crop", 8)]
)
def test_slips_are_sentences(arguments):
    with pytest.raises(EmuEditError, match="^size guard: "):
        guard_size(torch.rand(1, 20, 40, 3), *arguments)
