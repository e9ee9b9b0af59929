"""Averages of scores: what counts, what does not, intervals, tables."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from emu_edit.core.score_table import (
    aggregate,
    edit_table,
    flat,
    identity,
    number,
    plain,
    summarise,
    task_table,
)


def bare(table: str) -> str:
    """Without the padding."""
    return re.sub(" +", " ", table)


def test_undefined_and_unbounded_rows_are_counted_not_averaged():
    found = summarise([0.2, None, 0.4, math.nan, math.inf])
    assert found.mean == pytest.approx(0.3)
    assert (found.count, found.undefined, found.unbounded) == (2, 2, 1)
    nothing = summarise([None, None])
    assert nothing.mean is None and nothing.undefined == 2
    assert summarise([0.5]).low is None


def test_interval_covers_and_repeats():
    """About 19 of 20 samples of a known law have the true mean inside their interval."""
    draws = np.random.default_rng(0)
    inside = 0
    for seed in range(50):
        found = summarise(draws.normal(0.1, 0.2, 60).tolist(), resamples=200, seed=seed)
        assert found.low < found.mean < found.high
        inside += found.low <= 0.1 <= found.high
    assert 43 <= inside <= 50
    values = [0.1, 0.5, 0.2, 0.9]
    assert summarise(values) == summarise(values) != summarise(values, seed=1)
    # The standard error of a mean, for a sample large enough to know it.
    many = draws.normal(0, 1, 900).tolist()
    found = summarise(many)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(many) / 30, rel=0.15)


def test_flat_rows_and_their_baseline():
    regions = {"whole": {"l1": 0.1, "psnr": 20.0}, "outside": {"l1": 0.0, "psnr": math.inf}}
    row = flat(regions, {"clip_out": 0.3, "clip_out_unedited": 0.2, "clip_dir": None})
    assert list(row)[:4] == ["l1", "psnr", "l1_outside", "psnr_outside"]
    assert identity(row) == {
        "l1": 0.0,
        "psnr": math.inf,
        "l1_outside": 0.0,
        "psnr_outside": math.inf,
        "clip_out": 0.2,
        "clip_dir": None,
    }
    assert identity({"l1_inside": None}) == {"l1_inside": None}


def test_tasks_and_exclusions():
    rows = [{"l1": 0.1, "clip_dir": 0.2}, {"l1": 0.3, "clip_dir": None}, {"l1": 0.9, "clip_dir": 0.9}]
    found = aggregate(rows, ["add", "remove", "add"], ["", "", "identical captions"])
    assert list(found) == ["all", "add", "remove"]
    assert found["all"].rows == 2 and found["all"].excluded == {"identical captions": 1}
    assert found["all"].scores["l1"].mean == pytest.approx(0.2)
    assert found["remove"].scores["clip_dir"].mean is None
    assert found["remove"].scores["clip_dir"].undefined == 1
    table = bare(task_table(found))
    assert "| add | 1 (+1 left out) | 0.1000 | 0.2000 |" in table
    assert "| remove | 1 | 0.3000 | undefined |" in table
    assert table.splitlines()[-1] == "| no edit | 2 | 0 | undefined |"


def test_edit_table():
    row = flat(
        {
            "whole": {"l1": 0.04123, "psnr": 21.456, "ssim": 0.9},
            "inside": {"l1": 0.2, "psnr": 10.0, "ssim": 0.5},
            "outside": {"l1": 0.0, "psnr": math.inf, "ssim": 1.0},
        },
        {"clip_im": 0.8, "dino": 0.7},
    )
    assert edit_table([row]).splitlines() == [
        "| score      | whole  | inside | outside | no edit |",
        "| ---------- | ------ | ------ | ------- | ------- |",
        "| L1 ↓       | 0.0412 | 0.2000 | 0       | 0       |",
        "| PSNR, dB ↑ | 21.46  | 10.00  | ∞       | ∞       |",
        "| SSIM ↑     | 0.9000 | 0.5000 | 1.0000  | 1.0000  |",
        "| CLIPim ↑   | 0.8000 |        |         | 1.0000  |",
        "| DINO ↑     | 0.7000 |        |         | 1.0000  |",
    ]
    two = edit_table([{"l1": 0.1}, {"l1": 0.3}])
    assert "0.2000 [0.1000, 0.3000]" in two and "inside" not in two


def test_numbers_are_told_honestly():
    assert number("l1", 1e-6) == "<0.0001" and number("clip_dir", -1e-6) == ">-0.0001"
    assert number("l1", 0.0) == "0" and number("psnr", 31.005) == "31.00"
    assert number("clip_dir", None) == "undefined"


def test_json_has_no_infinities():
    found = aggregate([{"psnr": math.inf, "l1": 0.0}, {"psnr": 30.0, "l1": 0.1}])
    text = json.dumps(plain({"found": found, "row": {"psnr": math.inf}}), allow_nan=False)
    told = json.loads(text)
    assert told["row"]["psnr"] == "infinite"
    assert told["found"]["all"]["scores"]["psnr"]["unbounded"] == 1
