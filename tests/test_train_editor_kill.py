"""Real SIGKILLs during training: a few always, twenty with EMU_EDIT_SLOW=1."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_training.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_end_like_the_one_left_alone(tmp_path):
    kills, steps = (20, 40) if os.environ.get("EMU_EDIT_SLOW") else (3, 8)
    command = [
        sys.executable,
        str(SCRIPT),
        str(tmp_path / "work"),
        "--kills",
        str(kills),
        "--steps",
        str(steps),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] >= kills and all(report["identical"])
