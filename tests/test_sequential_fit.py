"""The keep step where the editor's frame is not the picture's: cuts, rings, full masks and broken chains."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from emu_edit.benchmarks.editor import draw, first_scene
from emu_edit.core.images import resize_images
from emu_edit.core.sequential.change import ChangeSettings
from emu_edit.core.sequential.fit import choose_fit
from emu_edit.core.sequential.geometry import sample, similarity
from emu_edit.core.sequential.history import begin
from emu_edit.core.sequential.keep import KeepSettings, keep_edit
from emu_edit.core.size_guard import guard_size
from emu_edit.nodes.sequence import ALIGN, SequentialEditThreshold

RED = torch.tensor([0.9, 0.05, 0.1])


def scene(height: int, width: int, seed: int = 3) -> torch.Tensor:
    """A drawn picture with some texture everywhere, as photographs have."""
    rng = np.random.default_rng(seed)
    picture = draw(first_scene(rng), max(height, width))[:, :height, :width]
    grain = torch.from_numpy(rng.random((1, 3, -(-height // 4), -(-width // 4)), np.float32))
    grain = torch.nn.functional.interpolate(grain, (height, width), mode="bicubic").movedim(1, -1)
    return (picture * 0.8 + 0.2 * grain).clamp(0, 1).contiguous()


def with_square(picture: torch.Tensor, top: int, left: int, side: int) -> torch.Tensor:
    edited = picture.clone()
    edited[:, top : top + side, left : left + side] = RED
    return edited


def drifted(picture: torch.Tensor) -> torch.Tensor:
    """Two pixels to the side and three percent brighter."""
    height, width = picture.shape[1:3]
    map_ = similarity(*(torch.tensor([v]) for v in (2.0, 0.0, 1.0, 0.0)), height, width)
    return (sample(picture, map_, height, width) * 1.03).clamp(0, 1)


@pytest.mark.parametrize("align", [False, True])
def test_a_centre_crop_of_nearly_the_same_proportions_is_found(align):
    before = scene(240, 320)
    edited = with_square(before, 100, 200, 50)
    # 4:3 to 1184:880, as editors with a list of sizes do it: cut to the proportions, then scaled.
    rows = round(320 * 880 / 1184)
    top = (240 - rows) // 2
    output = resize_images(edited[:, top : top + rows], 440, 592)
    settings = KeepSettings(
        register=align, colour="none", change=ChangeSettings("hysteresis", sigma=1.0, specks=16)
    )
    result = keep_edit(before, output, settings=settings)
    assert result.report["size"]["fit"] == "crop"
    assert 0.03 < result.report["pictures"][0]["changed"] < 0.045


@pytest.mark.parametrize("fit", ["auto", "crop"])
@pytest.mark.parametrize("size", [(225, 300, 220, 296), (240, 240, 224, 224)])
def test_a_pure_cut_is_not_zoomed(fit, size):
    height, width, new_height, new_width = size
    before = scene(height, width)
    edited = with_square(before, 100, 150, 40)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    output = edited[:, top : top + new_height, left : left + new_width].contiguous()
    settings = KeepSettings(fit=fit, register=False, colour="none", change=ChangeSettings(sigma=1.0))
    result = keep_edit(before, output, settings=settings)
    assert result.report["size"]["fit"] == "crop"
    whole = keep_edit(before, edited, settings=settings)
    assert 1500 <= int(whole.mask.sum()) < 2300
    assert int((result.mask != whole.mask).sum()) <= 20


def test_a_stretch_stays_a_stretch():
    assert choose_fit("auto", (375, 500), (750, 1000)) == ("stretch",)
    assert choose_fit("auto", (333, 500), (682, 1024)) == ("stretch",)  # rounded to a pixel
    before = scene(225, 300)
    output = resize_images(with_square(before, 100, 200, 40), 220, 296)
    settings = KeepSettings(register=False, colour="none", change=ChangeSettings("hysteresis", sigma=1.0))
    result = keep_edit(before, output, settings=settings)
    assert result.report["size"]["fit"] == "stretch"
    assert 1500 <= int((result.mask > 0).sum()) < 2100


@pytest.mark.parametrize("mode", ["paper", "hysteresis"])
def test_nothing_changes_where_the_editor_saw_nothing(mode):
    before = scene(200, 400)
    output = before[:, :, 100:300].clone()
    output[:, 60:120, :40] = RED  # at the cut
    settings = KeepSettings(
        fit="crop", register=False, colour="none", change=ChangeSettings(mode, sigma=1.0, holes=64)
    )
    result = keep_edit(before, output, settings=settings)
    assert torch.equal(result.kept[:, :, :94], before[:, :, :94])
    assert torch.equal(result.kept[:, :, 306:], before[:, :, 306:])
    assert bool((result.mask[:, 60:120, 100:138] > 0).all())


def test_a_white_mask_is_as_good_as_none():
    before = scene(240, 240)
    output = drifted(with_square(before, 80, 90, 40))
    settings = KeepSettings(change=ChangeSettings("hysteresis", sigma=1.0))
    free = keep_edit(before, output, settings=settings).report["pictures"][0]
    mask = torch.ones(2, 240, 240)
    mask[1, :, :120] = 0  # the second picture still has half to measure on
    masked = keep_edit(before, output.repeat(2, 1, 1, 1), mask, settings)
    white, half = masked.report["pictures"]
    assert white["registration"]["moved"] and white["colour"]["moved"]
    assert white["changed"] == pytest.approx(free["changed"], abs=0.005) and free["changed"] < 0.1
    assert half["registration"]["moved"] and torch.equal(masked.kept[1, :, :120], before[0, :, :120])


@pytest.mark.parametrize("scaled", [0, 240])
def test_what_size_guard_cut_off_stays_the_original(scaled):
    before = scene(250, 270)
    guarded, record = guard_size(before, 32, "crop", scaled)
    height, width = guarded.shape[1:3]
    output = drifted(with_square(guarded, 80, 90, 40))
    kept, change, report, history = SequentialEditThreshold().keep(
        before, output, 0.03, 1.0, size=record, mode="hysteresis", align=ALIGN[1], colour="gain"
    )
    down, right = 250 / record.scaled[0], 270 / record.scaled[1]
    top, left = int(record.top * down), int(record.left * right)
    bottom, end = int((record.top + height) * down) + 1, int((record.left + width) * right) + 1
    ring = torch.ones(250, 270, dtype=torch.bool)
    ring[top:bottom, left:end] = False
    assert int(ring.sum()) > 2000
    assert torch.equal(kept[0][ring], before[0][ring]) and not bool(change[0][ring].any())
    assert "moved back" in report and 0.015 < float((change > 0).float().mean()) < 0.06
    assert history.changed.shape == (1, 250, 270)


def test_a_style_edit_made_without_the_node_is_not_thrown_away():
    first = scene(160, 160)
    node = SequentialEditThreshold()
    one, _, _, history = node.keep(first, with_square(first, 20, 20, 30), 0.03, 1.0)
    style = (1 - one).contiguous()  # turn 2: the whole picture, without the node
    output = with_square(style, 100, 100, 30)
    kept, _, report, history = node.keep(style, output, 0.03, 1.0, history=history)
    assert torch.equal(kept[0, 60:90], style[0, 60:90]) and torch.equal(
        kept[0, 25:45, 25:45], style[0, 25:45, 25:45]
    )
    assert "history begins anew" in report and torch.equal(history.first, style)
    # The new history is one: a JPEG's errors in the next turn go back to the styled picture.
    noise = 0.01 * torch.rand(kept.shape, generator=torch.Generator().manual_seed(0))
    again, _, report, history = node.keep((kept + noise).clamp(0, 1), kept, 0.03, 1.0, history=history)
    assert torch.equal(again[0, :90], style[0, :90]) and "anew" not in report
    assert json.loads(json.dumps(history.to_json()))["turns"][1]["pictures"][0]["history"]


def test_a_raw_turn_in_between_is_no_style_edit():
    first = torch.cat([scene(160, 160), scene(160, 160, seed=4)])
    raw = torch.cat([drifted(picture[None]) for picture in first])
    raw[1] = 1 - first[1]
    settings = KeepSettings(register=False, colour="none")
    result = keep_edit(raw, raw, settings=settings, history=begin(first))
    assert torch.equal(result.kept[0], first[0]) and torch.equal(result.kept[1], raw[1])
    assert [("history" in entry) for entry in result.report["pictures"]] == [False, True]
