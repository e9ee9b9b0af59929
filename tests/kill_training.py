"""Kill a training run again and again at random moments, and see that it ends as an undisturbed one does.

    python tests/kill_training.py FOLDER [--kills 20] [--steps 40] [--seed 0]

Every attempt is a process of its own (forked, so that only training is killed and not imports) that gets
SIGKILL after a random time. After each kill every checkpoint on disk is opened. The run goes on until it has
taken all its steps; then its weights, averages, moments and log are compared bit for bit with those of a run
that was left alone. Runs follow each other until the asked number of kills is reached. Prints a JSON report.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

if __name__ == "__main__":
    import conftest  # noqa: F401 (binds the package to this checkout)

import torch
from safetensors.torch import load_file
from training_data import tiny_config, write_base, write_shards

from emu_edit.training.editor import loop, run  # noqa: F401 (imported before forking)
from emu_edit.training.train_editor import run_training


def in_child(action, seconds: float | None = None) -> tuple[bool, float]:
    """Run `action` in a forked process, killed after `seconds`; (did it end by itself, seconds taken)."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
                raise SystemExit(f"a training process ended by itself with status {status}")
            return True, time.monotonic() - began
        if seconds is not None and time.monotonic() - began >= seconds:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return not os.WIFSIGNALED(status), time.monotonic() - began
        time.sleep(0.002)


def check_whole(folder: Path) -> int:
    """Open every checkpoint of a run; returns the newest step."""
    steps = [0]
    for place in (folder / "checkpoints").glob("step-*"):
        state = json.loads((place / "state.json").read_text())
        for name, size in state["files"].items():
            assert (place / name).stat().st_size == size, place / name
            assert load_file(place / name)
        steps.append(state["step"])
    return max(steps)


def final_state(folder: Path, steps: int) -> tuple[dict[str, torch.Tensor], list[dict]]:
    place = folder / "checkpoints" / f"step-{steps:08d}"
    tensors = {f"{f.name}:{k}": v for f in place.glob("*.safetensors") for k, v in load_file(f).items()}
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return tensors, [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def same(found: tuple, expected: tuple) -> bool:
    tensors, log = expected
    return (
        found[0].keys() == tensors.keys()
        and all(torch.equal(found[0][name], tensor) for name, tensor in tensors.items())
        and found[1] == log
    )


def kill_and_compare(folder: Path, kills: int, steps: int, seed: int) -> dict:
    """See the module. `folder` is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    in_child(lambda: (write_base(folder / "base"), write_shards(folder / "pairs")))

    def config(name: str):
        paths = (folder / "base", folder / "pairs", folder / name)
        return tiny_config(*paths, cache=str(folder / f"{name}-cache"), steps=steps, save_every=1)

    _, alone = in_child(lambda: run_training(config("alone")))
    expected = final_state(folder / "alone", steps)
    rng = random.Random(seed)
    report: dict = {
        "kills": 0,
        "runs": 0,
        "resumed_at": [],
        "identical": [],
        "seconds_alone": round(alone, 1),
    }
    while report["kills"] < kills:
        name = f"run{report['runs']}"
        while True:
            most = alone * rng.uniform(0.05, 1.2)
            wait = most if report["kills"] < kills else None
            ended, _ = in_child(lambda name=name: run_training(config(name)), wait)
            step = check_whole(folder / name)
            if ended:
                break
            report["kills"] += 1
            report["resumed_at"].append(step)
        report["runs"] += 1
        report["identical"].append(same(final_state(folder / name, steps), expected))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = kill_and_compare(options.folder, options.kills, options.steps, options.seed)
    print(json.dumps(report))
    return 0 if all(report["identical"]) else 1


if __name__ == "__main__":
    sys.exit(main())
