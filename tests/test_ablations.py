"""The ablations' machinery: intervals, resumable cells, charts, and all of it once at tiny sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from emu_edit.core.errors import EmuEditError
from emu_edit.training.ablations import lab
from emu_edit.training.ablations.__main__ import with_values
from emu_edit.training.ablations.cells import Cells
from emu_edit.training.ablations.chart import chart
from emu_edit.training.ablations.lab import QUICK, Sizes
from emu_edit.training.ablations.statistics import Interval, mean_of, mean_over, share_of
from emu_edit.training.ablations.turns import plan_chain
from emu_edit.training.small.render import render
from emu_edit.training.small.unseen import UNSEEN, make_unseen


def test_intervals_hold_the_mean_and_shrink_with_the_number():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(25):
        found = mean_of(rng.normal(3, 1, 40).tolist(), seed)
        inside += found.low <= 3 <= found.high
    assert 19 <= inside <= 25
    wide, narrow = mean_of([0, 1] * 10), mean_of([0, 1] * 1000)
    assert wide.mean == narrow.mean == 0.5
    assert narrow.high - narrow.low < 0.2 * (wide.high - wide.low)
    assert mean_of([2, 2, 2]) == Interval(2, 2, 2)


def test_groups_count_alike_and_pairs_stay_together():
    assert mean_over({"a": [0] * 30, "b": [1]}).mean == 0.5
    whole = [1.0, 2.0, 3.0, 10.0]
    half = share_of([0.5 * w for w in whole], whole)
    assert half == Interval(0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="1 values against 2"):
        share_of([1.0], [1.0, 2.0])


def test_cells_are_measured_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"x": [1.5]}

    cells = Cells(tmp_path)
    assert cells.get("a", {"n": 1}, make) == cells.get("a", {"n": 1}, make) == {"x": [1.5]}
    assert len(made) == 1
    cells.get("a", {"n": 2}, make)
    assert len(made) == 2 and len(list(tmp_path.iterdir())) == 2
    reader = Cells(tmp_path, measure=False)
    assert reader.get("a", {"n": 3}, make) is None and reader.get("a", {"n": 2}, make) == {"x": [1.5]}


def test_an_interrupted_cell_leaves_nothing(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cells(tmp_path).get("a", {}, stop)
    assert not list(tmp_path.iterdir())


def test_charts_show_every_series(tmp_path):
    row = [Interval(0.2, 0.1, 0.3), Interval(float("nan"), 0, 0)]
    chart(tmp_path / "c.png", "title", ["x", "y"], {"one": row, "two": row[::-1]}, lines=True, unit="n")
    picture = np.asarray(Image.open(tmp_path / "c.png"))
    for colour in ((40, 90, 180), (196, 60, 50)):
        assert (picture == colour).all(-1).sum() > 100


def test_sizes_are_set_by_name():
    sizes = with_values(Sizes(), ["scenes=5", "counts=1,3", "tasks=add,remove"])
    assert (sizes.scenes, sizes.counts, sizes.tasks) == (5, (1, 3), ("add", "remove"))
    for bad in ("scenes=many", "fly=1", "scenes", "learning=3", "seeds=", "tasks=fly", "probe=fly"):
        with pytest.raises(EmuEditError, match="--set"):
            with_values(Sizes(), [bad])


def test_chains_recolour_one_thing_a_turn():
    scenes, words = plan_chain(np.random.default_rng(1), 4)
    assert len(scenes) == 5 and len(words) == 4
    for before, after, text in zip(scenes, scenes[1:], words, strict=False):
        changed = [b for a, b in zip(before.objects, after.objects, strict=True) if a != b]
        assert len(changed) == 1 and text == f"make the {changed[0].shape} {changed[0].colour}"
        assert np.abs(render(before, 64) - render(after, 64)).max() > 0.1


@pytest.mark.parametrize("task", UNSEEN)
def test_unseen_tasks_are_pure_functions_that_change_what_the_mask_says(task):
    first, again, other = (make_unseen(task, 3, index, 64) for index in (5, 5, 6))
    assert np.array_equal(first.source, again.source) and np.array_equal(first.target, again.target)
    assert first.instruction == again.instruction
    assert not np.array_equal(first.target, other.target)
    moved = np.abs(first.target.astype(int) - first.source).max(-1) > 2
    assert moved.any() and not (moved & (first.mask == 0)).any()
    assert first.source.shape == (64, 64, 3) and first.source.dtype == np.uint8
    with pytest.raises(ValueError, match="unknown unseen task"):
        make_unseen("fly", 0, 0)


def test_training_from_scratch_moves_the_weights():
    editor = lab.new_editor(64, 0, 4)
    before = [p.detach().clone() for p in editor.unet.parameters()]
    lab.train(editor, lab.world_stream(QUICK.tasks, 2, 64, 0), 2, 1e-3, 0)
    assert any(not torch.equal(a, b) for a, b in zip(before, editor.unet.parameters(), strict=True))
    assert not editor.unet.training


def test_a_blank_page_is_no_answer_to_a_task_of_thin_lines():
    case = make_unseen("contours", 3, 1, 64)
    lines, source = case.target / 255.0, case.source / 255.0
    assert lab.left_of_drawn(case, np.zeros_like(lines)) == pytest.approx(1)
    assert lab.left_of_drawn(case, lines) == 0
    assert lab.left_of_drawn(case, lines / 2) == pytest.approx(0.5)
    assert lab.left_of_drawn(case, source) > 3
    # Where the wanted picture is full, the input as it is leaves everything to do.
    whole = make_unseen("super-resolution", 3, 1, 64)
    assert lab.left_of_drawn(whole, whole.source / 255.0) == pytest.approx(1)
