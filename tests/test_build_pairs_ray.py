"""The build on Ray Data gives the pairs of one process, also when a worker is killed. Needs ray, minutes."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from test_build_pairs import command, tree
from test_build_pairs_jobs import pictures

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(
    "EMU_EDIT_SLOW" not in os.environ, reason="takes minutes; set EMU_EDIT_SLOW=1"
)
COUNT = ("--count", "60")


def workers(run: int) -> list[int]:
    """The processes of the actors that hold the models, among those that process `run` started."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listed.splitlines()[1:]]
    ours, before = {run}, 0
    while len(ours) > before:
        before = len(ours)
        ours |= {int(pid) for pid, parent, *_ in lines if int(parent) in ours}
    return [int(pid) for pid, _, *name in lines if int(pid) in ours and "ray::MapWorker" in "".join(name)]


def test_two_workers_give_the_pairs_of_one_process(tmp_path):
    subprocess.run(command(tmp_path / "one", *COUNT), check=True)
    subprocess.run(command(tmp_path / "ray", *COUNT, "--ray", "--workers", "2"), check=True)
    assert tree(tmp_path / "ray") == tree(tmp_path / "one")


def test_a_worker_killed_in_mid_run_costs_no_pair(tmp_path):
    subprocess.run(command(tmp_path / "one", *COUNT), check=True)
    run = subprocess.Popen(command(tmp_path / "ray", *COUNT, "--ray", "--workers", "2"))
    while run.poll() is None and not list((tmp_path / "ray").glob("work/*.tar")):
        time.sleep(0.05)
    killed = workers(run.pid)[:1] if run.poll() is None else []
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert run.wait() == 0 and killed
    assert tree(tmp_path / "ray") == tree(tmp_path / "one")


def test_pictures_that_come_later_are_numbered_alike(tmp_path):
    folder = pictures(tmp_path / "in")
    options = ["--count", "50", "--pictures", str(folder), "--tasks", "color,sketch", "--filters", "changed"]
    builds = {"one": [], "ray": ["--ray", "--workers", "2"]}

    def build():
        for name, more in builds.items():
            run = subprocess.run(command(tmp_path / name, *options, *more), stderr=subprocess.PIPE, text=True)
            assert run.returncode == 1 and "the jobs ran out" in run.stderr
        assert tree(tmp_path / "ray") == tree(tmp_path / "one")

    build()
    for name in ("2", "9"):  # 2.png goes; 1a.png lies between those that are there, by name
        (folder / f"{name}.png").unlink()
    (folder / "1a.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "1a.txt").write_text("a green ball\n")
    build()
    assert (tmp_path / "ray" / "pictures.jsonl").read_text().split() == [
        *('"0.png"', '"1.png"', '"2.png"', '"9.png"', '"1a.png"')
    ]
