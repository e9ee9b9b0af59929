"""The lock of a folder: held once, told, and gone with its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from emu_edit.core import locks
from emu_edit.core.errors import EmuEditError

ROOT = Path(__file__).resolve().parent.parent
#: Takes the lock, has a child of its own that outlives it, says so, and waits.
HOLDER = """
import os, sys, time, importlib.util as u
init = sys.argv[1] + "/__init__.py"
spec = u.spec_from_file_location("emu_edit", init, submodule_search_locations=[sys.argv[1]])
sys.modules["emu_edit"] = u.module_from_spec(spec)
from pathlib import Path
from emu_edit.core.locks import only_one
with only_one(Path(sys.argv[2]), "holder"):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


def refused(folder, by):
    told = f"build: process {by} is writing to"
    with pytest.raises(EmuEditError, match=told), locks.only_one(folder, "build"):
        pass


def test_a_folder_is_held_once(tmp_path):
    with locks.only_one(tmp_path, "build"):
        refused(tmp_path, os.getpid())
        with locks.only_one(tmp_path / "other", "build"):
            pass
    with locks.only_one(tmp_path, "build"):
        pass
    with pytest.raises(KeyError), locks.only_one(tmp_path, "build"):
        raise KeyError
    with locks.only_one(tmp_path, "build"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_holder_frees_it_though_its_child_lives(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(ROOT), str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        refused(tmp_path, holder.pid)
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives
        with locks.only_one(tmp_path, "build"):
            assert (tmp_path / locks.NAME).read_text() == str(os.getpid())
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


def test_a_file_that_was_left_holds_nobody_up(tmp_path):
    (tmp_path / locks.NAME).write_text("1")  # a process that runs everywhere, but never locked it
    with locks.only_one(tmp_path, "build"):
        pass


def windows(monkeypatch, locking):
    """fcntl away, and msvcrt with this function."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    module = types.ModuleType("msvcrt")
    module.LK_NBLCK, module.locking = 2, locking
    monkeypatch.setitem(sys.modules, "msvcrt", module)


def test_on_windows_one_far_byte_is_locked(tmp_path, monkeypatch):
    seen = []

    def locking(handle, mode, count):
        seen.append((os.lseek(handle, 0, os.SEEK_CUR), mode, count))

    windows(monkeypatch, locking)
    with locks.only_one(tmp_path, "build"):
        assert (tmp_path / locks.NAME).read_bytes() == str(os.getpid()).encode()
    assert seen == [(locks.FAR, 2, 1)]

    def taken(handle, mode, count):
        raise PermissionError(13, "Permission denied")

    windows(monkeypatch, taken)
    refused(tmp_path, os.getpid())


def test_where_the_system_has_no_locks_nobody_is_held_up(tmp_path, monkeypatch):
    def none(handle, mode, count):
        raise OSError(95, "Operation not supported")

    windows(monkeypatch, none)
    with locks.only_one(tmp_path, "build"):
        pass


def test_what_writes_into_a_folder_holds_it(tmp_path, capsys):
    from emu_edit.training import build_pairs
    from emu_edit.training.small import train

    build = ["--out", str(tmp_path), "--count", "1", "--tasks", "color", "--size", "32", "--quiet"]
    with locks.only_one(tmp_path, "test"):
        assert train.main(["--run", str(tmp_path), "--samples", "1"]) == 1
        assert f"training: process {os.getpid()} is writing to" in capsys.readouterr().err
        assert build_pairs.main(build) == 1
        assert f"build: process {os.getpid()} is writing to" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [locks.NAME]
    assert build_pairs.main(build) == 0


def test_a_place_that_is_no_folder_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(EmuEditError, match="build: .* cannot be written to"),
            locks.only_one(place, "build"),
        ):
            pass


def test_a_file_of_somebody_elses_keeps_its_text(tmp_path):
    (tmp_path / ".lock").write_text("important")
    with locks.only_one(tmp_path, "build"):
        pass
    assert (tmp_path / ".lock").read_text() == "important"
