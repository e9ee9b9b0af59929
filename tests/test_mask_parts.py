"""Parts of masks as tensor operations: equal to scipy's, and without a look at the data from the host.

There is no graphics card here. What would run on one runs on the host, under a guard that refuses whatever
would make a card wait: reading a value, copying to the host, and shapes that depend on the data.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch.utils._python_dispatch import TorchDispatchMode

from emu_edit.core.masks import components, parts
from emu_edit.core.sequential.change import ChangeSettings, change_mask

BARRED = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "equal", "is_nonzero")


class Guard(TorchDispatchMode):
    """Fails on every operation that a graphics card has to be waited for."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation.overloadpacket.__name__
        assert not any(name.startswith(barred) for barred in BARRED), f"{name} waits for the device"
        if name in ("index", "index_put_"):
            indices = [i for i in arguments[1] if i is not None]
            assert all(i.dtype != torch.bool for i in indices), "an index of bools waits for the device"
        return operation(*arguments, **(options or {}))


@contextmanager
def as_on_a_card(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("goes through the host")

    with monkeypatch.context() as patched, Guard():
        patched.setattr(components, "_on_host", lambda mask: False)
        for name in ("numpy", "cpu", "tolist", "item", "__array__"):
            patched.setattr(torch.Tensor, name, refuse)
        yield


def test_the_guard_refuses(monkeypatch):
    for look in (lambda x: x.cpu(), lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: x.nonzero()):
        with pytest.raises(AssertionError), as_on_a_card(monkeypatch):
            look(torch.ones(3))


@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_numbers_are_scipys(seed, corners, height, width, share):
    white = np.random.default_rng(seed).random((2, height, width)) < share
    expected = [ndimage.label(plane, np.ones((3, 3)) if corners else None)[0] for plane in white]
    assert np.array_equal(parts.number(torch.from_numpy(white), corners).numpy(), np.stack(expected))


def spiral(side):
    """One part as long as a part can be, and one for the black between its turns."""
    plane = np.zeros((side, side), bool)
    top, left, bottom, right = 0, 0, side - 1, side - 1
    y = x = 0
    while top <= bottom and left <= right:
        plane[y, x : right + 1] = True
        plane[top : bottom + 1, right] = True
        plane[bottom, left : right + 1] = True
        plane[top + 2 : bottom + 1, left] = True
        plane[top + 2, left : left + 2] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
        y, x = top, left - 1
    return plane


@pytest.mark.parametrize("corners", [False, True])
def test_long_and_many_parts(corners):
    comb = np.zeros((65, 130), bool)
    comb[:, ::2] = True
    comb[-1] = True
    board = (np.indices((65, 130)).sum(0) % 2).astype(bool)
    turns = np.zeros((65, 130), bool)
    turns[:, :65] = spiral(65)
    planes = np.stack([comb, comb[::-1], board, turns, ~turns, np.ones_like(comb), np.zeros_like(comb)])
    expected = [ndimage.label(plane, np.ones((3, 3)) if corners else None)[0] for plane in planes]
    assert np.array_equal(parts.number(torch.from_numpy(planes), corners).numpy(), np.stack(expected))


@pytest.mark.parametrize("area", [1, 2.5, 9, float("inf")])
@pytest.mark.parametrize("kind", ["bool", "soft"])
def test_specks_and_holes_as_on_the_host_and_without_it(monkeypatch, area, kind):
    values = ndimage.gaussian_filter(np.random.default_rng(4).random((3, 50, 61)), (0, 1.2, 1.2))
    soft = torch.from_numpy(((values - 0.5) * 8).clip(0, 1).astype(np.float32))
    mask = soft > 0.5 if kind == "bool" else soft
    expected = [components.drop_specks(mask, area), components.fill_holes(mask, area)]
    numbered = components.label(mask, 8), components.label(mask, 4)
    with as_on_a_card(monkeypatch):
        found = [components.drop_specks(mask, area), components.fill_holes(mask, area)]
        again = components.label(mask, 8), components.label(mask, 4)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert all(torch.equal(*pair) for pair in zip(again, numbered, strict=True))
    assert not torch.equal(expected[0], mask) or area == 1


@pytest.mark.parametrize("mode", ["paper", "hysteresis", "feathered"])
def test_a_change_mask_stays_on_its_device(monkeypatch, mode):
    generator = torch.Generator().manual_seed(3)
    before = torch.rand(2, 60, 70, 3, generator=generator)
    after = before + 0.02 * torch.rand(2, 60, 70, 3, generator=generator)
    after[0, 10:30, 20:40] = 0.5
    after[1, 40:43, 5:60] = 1.0
    settings = ChangeSettings(mode=mode, specks=4, holes=20)
    expected = change_mask(before, after, settings)
    assert bool(expected.any()) and not bool(expected.all())
    # Growing bits is chosen on the host only; a card's masks of bools take the same way.
    with as_on_a_card(monkeypatch):
        found = change_mask(before, after, settings)
    assert torch.equal(found, expected)
