"""The sequential benchmarks run and say what the issue asks of them, on small pictures and few turns."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from emu_edit.benchmarks import change_mask, sequential, thresholding


def test_rot_experiment(capsys, tmp_path):
    plot = tmp_path / "rot.png"
    arguments = ["--json", "--turns", "3", "--size", "192", "--seed", "1", "--plot", str(plot)]
    assert sequential.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["turn"] for row in report["turns"]] == [1, 2, 3]
    for row in report["turns"]:
        assert row["outside_error_with"] == 0.0 < row["outside_error_without"]
        assert row["registration_px"] < 0.1 and row["edit_iou"] > 0.75
    assert Image.open(plot).width > 600


def test_rot_experiment_with_the_bundled_editor(capsys):
    arguments = ["--json", "--turns", "1", "--seeds", "3", "4", "--size", "64", "--editor", "bundled"]
    assert sequential.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["seeds"] == [3, 4] and len(report["runs"]) == 2
    for row in (run["turns"][0] for run in report["runs"]):
        assert row["outside_mask_error_with"] == 0.0 and row["registration_px"] is None
        assert row["instruction"] and row["outside_error_without"] > 0


def test_thresholding_benchmark(capsys):
    threads = torch.get_num_threads()
    assert thresholding.main(["--json", "--quick", "--threads", "1"]) == 0
    torch.set_num_threads(threads)
    report = json.loads(capsys.readouterr().out)
    assert set(report["ratios"]) == {"256x256 batch 1, faint drift", "256x256 batch 2, strong drift"}
    assert all(record["differ"] <= 4 for record in report["results"].values())


def test_change_mask_benchmark():
    pytest.importorskip("cv2")
    report = change_mask.run(2, 128)
    assert report["edits"] == 2 and report["best_baseline"].startswith("SIFT")
    assert report["results"]["hysteresis"]["precision"] > 0.8
