"""One writer for a folder: a lock that the system itself gives back when its holder ends, however that ends.

The lock is the system's own (fcntl's record locks, msvcrt's on Windows) on the file `.lock`, which stays. So
no lock is ever stale, and a process forked from the holder (a loader of data, say) does not keep it alive.
The file holds its writer's process id, for people.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import EmuEditError

NAME = ".lock"
FAR = 2**30
"""The byte that is locked: Windows lets nobody read a locked one, and the id before it is to be read."""

#: Locks of this process: the system's are a process's own and would not keep two of its threads apart.
_held: dict[tuple[int, str], object] = {}


@contextlib.contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` (made if need be) for this block alone.

    Raises EmuEditError, which begins with `what`, when it is held already, here or in another process. A file
    system that has no locks holds nobody up.
    """
    mark = (os.getpid(), str(folder.resolve()))
    token = object()
    # Before the file is opened: to close it again would give back the lock that this process has on it.
    if _held.setdefault(mark, token) is not token:
        raise EmuEditError(_taken(what, folder, str(mark[0])))
    try:
        with _opened(folder, what) as file:
            try:
                given = _lock()(file)
            except OSError:
                given = True  # no locks here: nothing can be checked
            if not given:
                file.seek(0)
                raise EmuEditError(_taken(what, folder, file.read(20).decode("ascii", "replace").strip()))
            file.seek(0)
            if file.read(20).strip().isdigit() or not os.fstat(file.fileno()).st_size:  # else it is not ours
                file.truncate(0)
                file.write(str(mark[0]).encode())
                file.flush()
            yield
    finally:
        _held.pop(mark, None)


def _opened(folder: Path, what: str) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open(folder / NAME, "a+b")
    except OSError as problem:
        raise EmuEditError(
            f"{what}: {folder} cannot be written to ({problem.strerror}); give another folder."
        ) from problem


def _taken(what: str, folder: Path, pid: str) -> str:
    return f"{what}: process {pid or 'unknown'} is writing to {folder}; wait for it, or give another folder."


def _lock() -> Callable[[Any], bool]:
    """What takes the lock of an open file without waiting, and says whether it got it."""
    try:
        import fcntl
    except ImportError:
        return _lock_windows

    def lock(file: Any) -> bool:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, FAR)
        except (BlockingIOError, PermissionError):
            return False
        return True

    return lock


def _lock_windows(file: Any) -> bool:
    import msvcrt

    file.seek(FAR)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except PermissionError:
        return False
    return True
