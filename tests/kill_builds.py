"""Builds pairs under SIGKILL: as often as asked, then to the end, and the same once undisturbed beside it.

    python tests/kill_builds.py FOLDER KILLS OPTION...

Leaves FOLDER/killed and FOLDER/whole. Every build is a real process, forked from this one so that only the
build is killed and not its imports; this one never computes, since a fork after torch has may hang. Each is
killed at a random moment after it has written at least one file more.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

if __name__ == "__main__":
    import conftest  # noqa: F401 (binds the package to this checkout)

from emu_edit.training.build_pairs import main


def forked(folder: Path, options: list[str]) -> int:
    """The process that builds into `folder`."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = main(["--out", str(folder), *options])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def newest(folder: Path) -> list[int]:
    """The last changes of the folders of a build, for telling whether anything was written."""
    places = (folder, folder / "work", folder / "shards", folder / "records")
    return [place.stat().st_mtime_ns for place in places if place.is_dir()]


def kill_one(folder: Path, options: list[str], chance: random.Random) -> None:
    """Start a build and kill it after one to four changes on the disk and up to 20 ms more."""
    before, more = newest(folder), chance.randint(1, 4)
    child = forked(folder, options)
    while more:
        time.sleep(0.001)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        if newest(folder) != before:
            before, more = newest(folder), more - 1
    time.sleep(0.02 * chance.random())
    os.kill(child, signal.SIGKILL)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        sys.exit("a build ended before it was killed; ask for more pairs")


def run(folder: Path, kills: int, options: list[str]) -> None:
    """All of it."""
    chance = random.Random(1)
    for _ in range(kills):
        kill_one(folder / "killed", options, chance)
    for name in ("killed", "whole"):
        if os.waitpid(forked(folder / name, options), 0)[1]:
            sys.exit(f"the build {name} failed")


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
