"""Pieces of work shared among threads that each compute alone."""

import threading
import time
from functools import partial

import pytest
import torch

from emu_edit.core.threads import extremes, run_all


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_job_runs_once_whatever_the_caller_is_in():
    found = torch.zeros(50)
    jobs = [partial(found[index : index + 1].add_, index) for index in range(50)]
    run_all(jobs)
    assert torch.equal(found, torch.arange(50.0))
    with torch.inference_mode():
        made: list[bool] = []
        run_all([lambda: made.append(torch.ones(1).is_inference())] * 4)
    assert made == [True] * 4


def test_jobs_may_share_out_work_of_their_own():
    done: list[int] = []
    run_all([lambda: run_all([partial(done.append, 1)] * 3)] * 4)
    assert len(done) == 12


def test_an_exception_comes_when_nothing_runs_any_more_and_the_rest_is_dropped():
    """Else a caller that goes on would find its tensors written to behind its back."""
    began, ended, dropped, failed = (threading.Event() for _ in range(4))

    def slow():
        began.set()
        assert failed.wait(10)
        time.sleep(0.3)  # for the exception to arrive
        ended.set()

    def wrong():
        assert began.wait(10)
        failed.set()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        run_all([wrong, slow, dropped.set])
    assert ended.is_set() and not dropped.is_set()


def test_extremes_are_those_of_one_pass():
    values = torch.randn(3, 70_001, generator=torch.Generator().manual_seed(0))
    assert extremes(values) == (float(values.min()), float(values.max()))
    values[1, 40_000] = float("nan")
    assert all(end != end for end in extremes(values))


def test_one_thread_at_most_is_one_that_computes_alone():
    seen = []
    jobs = [lambda: seen.append((threading.get_ident(), torch.get_num_threads()))] * 5
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run_all(jobs, most=1)
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 5 and len(set(seen)) == 1
    assert seen[0][0] != threading.get_ident() and seen[0][1] == 1
    run_all([], most=1)
