"""Files written whole or not at all, and known to be on the disk before anything counts on them.

A file is written to a temporary name of the writer's own beside the file's, flushed to the disk, renamed,
and its folder flushed. A process killed between any two of these leaves the old file or the new one, and
perhaps a `.part` that `clear_parts` takes away at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import EmuEditError

PART = ".part"
FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}

#: Called with a name and a path between the steps of every write; tests put a fault here.
at_step: Callable[[str, Path], None] = lambda step, path: None  # noqa: E731


def write_whole(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Put `data` (pieces are written as they come) into `path`, so that a kill leaves old or new.

    Raises EmuEditError in one sentence when the disk is full or cannot be written to; `path` is then as it
    was before.
    """
    # Runs that share a folder may write the same file at the same time: none may see another's half.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        at_step("begin", path)
        with open(part, "wb") as file:
            for piece in [data] if isinstance(data, bytes) else data:
                file.write(piece)
                at_step("writing", path)
            file.flush()
            os.fsync(file.fileno())
        at_step("written", path)
        os.replace(part, path)
        at_step("renamed", path)
        _flush_folder(path.parent)
    except OSError as problem:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise EmuEditError(_sentence(path, problem)) from problem


def remove(path: Path) -> None:
    """Delete a file that may be gone already."""
    at_step("remove", path)
    path.unlink(missing_ok=True)


def is_part(name: str, of: str) -> bool:
    """Whether this is the name of a temporary file of a file called `of`."""
    return name.startswith(f".{of}.") and name.endswith(PART)


def clear_parts(folder: Path, older: float = 0.0) -> int:
    """Delete the temporary files that killed processes left below `folder`; returns how many there were.

    older: seconds since a file was last written to; the default is for folders that one process writes to.
    """
    left = []
    for part in folder.rglob(f".*{PART}") if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # the one who writes it has just renamed it
            if older <= 0 or time.time() - part.stat().st_mtime > older:
                left.append(part)
    for part in left:
        part.unlink(missing_ok=True)
    return len(left)


def _flush_folder(folder: Path) -> None:
    """Make a rename last. Not every system lets a folder be opened; those that do not need no flush."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _sentence(path: Path, problem: OSError) -> str:
    if problem.errno in FULL:
        return (
            f"the disk is full: {path.name} could not be written to {path.parent} and what was there before "
            "is untouched; free some space and give the same command again."
        )
    return (
        f"{path} could not be written ({problem}); make the folder writable and give the same command again."
    )
