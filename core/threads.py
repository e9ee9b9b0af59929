"""Independent pieces of work on the host, shared among threads that each compute alone.

Torch shares every single operation among its threads, and at the end of each one they wait for the slowest.
Small pieces that each run on one thread from their first operation to their last need no waiting, stay in one
core's cache, and lose little when another program takes a core away.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import torch
from torch import Tensor

_PIECE, _TOGETHER = 1 << 15, 16  # numbers looked at in one operation; operations in one piece of work
_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_all(
    jobs: Sequence[Callable[[], object]],
    device: torch.device | None = None,
    shared: bool = True,
    most: int | None = None,
) -> None:
    """Run jobs that do not depend on each other; on the host in as many threads as torch would use.

    device: where their tensors are. Elsewhere than on the host the jobs are only queued there, by one thread.
    shared: False keeps them in the caller's thread, as is best for jobs of less than a millisecond together.
    most: use no more threads than that; with 1, one whose operations torch does not share either.
    The first exception is raised when all jobs that had begun are done; the rest are dropped then.
    """
    workers = min(len(jobs), torch.get_num_threads(), most or len(jobs))
    elsewhere = device is not None and device.type != "cpu"
    alone = workers < 2 and (most is None or torch.get_num_threads() < 2)
    if alone or not jobs or not shared or elsewhere or getattr(_here, "worker", False):
        for job in jobs:
            job()
        return
    pool, left, taking = _pool(torch.get_num_threads()), iter(jobs), threading.Lock()
    inference = torch.is_inference_mode_enabled()  # each thread has its own, and results belong to one

    def drain() -> None:
        nonlocal left
        with torch.inference_mode(inference), torch.no_grad():
            while True:
                with taking:
                    job = next(left, None)
                if job is None:
                    return
                try:
                    job()
                except BaseException:
                    with taking:
                        left = iter(())
                    raise

    begun = [pool.submit(drain) for _ in range(workers)]
    wait(begun)
    for done in begun:
        done.result()


def extremes(values: Tensor) -> tuple[float, float]:
    """The least and the largest of some numbers; both are NaN if one of them is."""
    if values.device.type != "cpu" or not values.is_contiguous() or values.numel() <= _PIECE:
        low, high = values.aminmax()
        return float(low), float(high)
    flat = values.detach().view(-1)
    pieces = flat.split(_PIECE)
    found = torch.empty(len(pieces), 2, dtype=flat.dtype)

    def look(first: int) -> None:
        for index in range(first, min(first + _TOGETHER, len(pieces))):
            torch.aminmax(pieces[index], out=(found[index, 0], found[index, 1]))

    run_all([partial(look, first) for first in range(0, len(pieces), _TOGETHER)])
    return float(found[:, 0].amin()), float(found[:, 1].amax())


_here = threading.local()


def _pool(workers: int) -> ThreadPoolExecutor:
    """The pool of so many threads, started once in each process."""
    key = os.getpid(), workers
    with _lock:
        if key not in _pools:
            pool = ThreadPoolExecutor(workers, "emu-edit")
            together = threading.Barrier(workers)
            for started in [pool.submit(_start, together) for _ in range(workers)]:
                started.result()
            torch.set_num_threads(workers)  # what _start says is also the default for later threads
            _pools[key] = pool
        return _pools[key]


def _start(together: threading.Barrier) -> None:
    _here.worker = True
    together.wait()  # so that every thread takes one of these calls
    torch.set_num_threads(1)
    torch.get_num_threads()  # from here on the setting is this thread's own
    together.wait()
