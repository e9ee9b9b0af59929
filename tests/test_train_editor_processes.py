"""The same training on two processes as on one, each with half of every batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emu_edit.training.editor import random_base

ROOT = Path(__file__).resolve().parent.parent
START = "import sys; from emu_edit.training.train_editor import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_train_what_one_does(tmp_path):
    assert random_base.main([str(tmp_path / "base"), "--shape", "tiny"]) in (0, None)
    (tmp_path / "start.py").write_text(START)
    (tmp_path / "emu_edit").symlink_to(ROOT, target_is_directory=True)
    ended = {}
    for processes in (1, 2):
        chosen = {
            "base": str(tmp_path / "base"),
            "data": ["world:64"],
            "size": 64,
            "steps": 4,
            "warm_up": 1,
            "rate": 1e-3,
            "log_every": 1,
            "workers": 1,
            "cpu": True,
            "batch": 4 // processes,
            "run": str(tmp_path / f"run{processes}"),
        }
        (tmp_path / "config.json").write_text(json.dumps(chosen))
        launch = (
            ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        )
        command = [
            sys.executable,
            *launch,
            str(tmp_path / "start.py"),
            "--config",
            str(tmp_path / "config.json"),
        ]
        threads = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(tmp_path)}
        made = subprocess.run(
            command, env=os.environ | threads, capture_output=True, text=True, timeout=300, cwd=tmp_path
        )
        assert made.returncode == 0, made.stderr[-2000:]
        rows = [
            json.loads(line) for line in (tmp_path / f"run{processes}" / "log.jsonl").read_text().splitlines()
        ]
        losses = [row["loss"] for row in rows if "loss" in row]
        assert [row["pairs"] for row in rows if "loss" in row] == [4, 8, 12, 16]
        newest = sorted((tmp_path / f"run{processes}" / "checkpoints").iterdir())[-1]
        ended[processes] = losses, load_file(next(newest.glob("trainee*.safetensors")))
    assert ended[2][0] == pytest.approx(ended[1][0], rel=1e-4)
    for name, tensor in ended[1][1].items():
        # the mean, since Adam turns rounding of a gradient near zero into a whole step
        assert (tensor.float() - ended[2][1][name].float()).abs().mean() < 1e-5, name
