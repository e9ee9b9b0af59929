"""What nobody foresaw while pairs are made: recorded, and the others go on; too much of it ends the run."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from test_build_pairs import PLAN, Killed, Strength, ToyJobs, kept_jobs, toy, toy_build, tree  # noqa: F401
from test_build_pairs_jobs import READY, pictures

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import durable
from emu_edit.core.pairs.faults import DiskFull
from emu_edit.core.pairs.filters.base import Finding, at_least
from emu_edit.core.pairs.filters.judge import judge_all
from emu_edit.core.pairs.filters.standard import standard_filters
from emu_edit.core.pairs.recipes import table
from emu_edit.core.pairs.records import Candidate, Dropped, Instruction
from emu_edit.training import build_pairs
from emu_edit.training.pairs.on_ray import Made
from emu_edit.training.pairs.rows import read_rows
from emu_edit.training.pairs.run import MOST_FAULTS


def rows_of(folder):
    return [row for path in sorted((folder / "records").glob("*.jsonl")) for row in read_rows(path)]


def number_of(candidate):
    """The number of the job of ToyJobs that a candidate is of."""
    return int(candidate.instruction.instruction.split()[-1])


class Faulty(Strength):
    """Breaks down, or gives no number, over the candidates of one job."""

    name = "faulty"

    def __init__(self, number, fault):
        self.number, self.fault = number, fault

    def look(self, candidates):
        findings = []
        for one in candidates:
            hit = number_of(one) == self.number
            if hit and isinstance(self.fault, Exception):
                raise self.fault
            value = self.fault if hit else 0.9
            findings.append(Finding((at_least(self.name, value, 0.5, "too faulty"),)))
        return findings


@pytest.mark.parametrize(
    "fault, told",
    [
        (EmuEditError("the depth model is broken; give another folder."), "the depth model is broken"),
        (RuntimeError("CUDA out of memory.\nTried to"), "RuntimeError: CUDA out of memory."),
        (ZeroDivisionError(), "ZeroDivisionError: no reason told"),
        (float("nan"), "score faulty: value is nan"),
        (float("inf"), "score faulty: value is inf"),
    ],
)
def test_a_filter_that_fails_drops_the_pair_with_its_reason(fault, told, tmp_path):
    toy_build(tmp_path / "whole")
    hit = int(kept_jobs(tmp_path / "whole")[2])
    filters = [Strength(), Faulty(hit, fault)]
    toy_build(tmp_path / "faulty", judge=lambda some: judge_all(some, filters))
    row = rows_of(tmp_path / "faulty")[hit]
    verdicts = [one["verdict"] for one in row["candidates"]]
    assert not any(one["key"] for one in row["candidates"])
    failing = [one for one in verdicts if one["dropped_by"] == "faulty"]
    assert failing and all(one["reason"].startswith("filter failed: ") for one in failing)
    assert all(told in one["reason"] and "\n" not in one["reason"] for one in failing)
    others = [key for key in kept_jobs(tmp_path / "whole") if int(key) != hit]
    assert kept_jobs(tmp_path / "faulty")[:-1] == others


def test_a_filter_without_its_model_drops_nothing_and_lettering_that_cannot_be_read_does():
    class Blind:
        def read(self, picture):
            raise EmuEditError("no scene could be made out.")

    words = Instruction("text", "write 'a' instead of 'b'", "b", "a", "b", "a")
    one = Candidate(torch.zeros(8, 8, 3), torch.ones(8, 8, 3), words)
    verdict = judge_all([one], standard_filters(names=("lettering", "depth", "clip")))[0]
    assert verdict.kept and {score.passed for score in verdict.scores} == {None}
    verdict = judge_all([one], standard_filters(reader=Blind(), names=("lettering",)))[0]
    assert not verdict.kept and "could not be read: no scene" in verdict.reason


@pytest.mark.parametrize("names", [("changed",), ("outside",), ("depth",), ("task",)])
def test_pictures_that_are_no_numbers_are_dropped_whatever_looks_at_them(names):
    broken = torch.rand(8, 8, 3)
    broken[2, 3, 1] = float("nan")
    words = Instruction("color", "make it darker", "a ball", "a dark ball")
    for pair in ((broken, torch.rand(8, 8, 3)), (torch.rand(8, 8, 3), broken)):
        good = Candidate(torch.zeros(8, 8, 3), torch.ones(8, 8, 3), words)
        verdicts = judge_all([Candidate(*pair, words), good], standard_filters(names=names))
        assert [one.kept for one in verdicts] == [False, True]
        assert verdicts[0].dropped_by == "finite" and "no finite numbers" in verdicts[0].reason


def faulty_recipe(monkeypatch, wrong):
    """The toy recipe, which first calls wrong(number of the job)."""
    sound = table.RECIPES[PLAN.tasks[0]].attempt

    def make(context, job, number):
        wrong(int(job.id))
        return sound(context, job, number)

    broken = dict.fromkeys(PLAN.tasks, table.Recipe(make, ()))
    monkeypatch.setattr(table, "RECIPES", {**table.RECIPES, **broken})


def faulty_filter(wrong):
    """The toy filter's judge, which first calls wrong(number of the job)."""

    class Broken(Strength):
        def look(self, candidates):
            wrong(number_of(candidates[0]))
            return super().look(candidates)

    return lambda some: judge_all(some, [Broken()])


class FaultyJobs(ToyJobs):
    """The toy jobs, which first call wrong(number of the job)."""

    def __init__(self, wrong, plan=PLAN):
        super().__init__(plan)
        self.wrong = wrong

    def item(self, n):
        self.wrong(n)
        return super().item(n)


def test_an_exception_in_one_job_is_recorded_and_the_others_go_on(tmp_path, monkeypatch):
    toy_build(tmp_path / "whole")
    hit = int(kept_jobs(tmp_path / "whole")[4])

    def wrong(number):
        if number == hit:
            raise AssertionError("a mask of no pixels\nsecond line")

    faulty_recipe(monkeypatch, wrong)
    toy_build(tmp_path / "faulty")
    row = rows_of(tmp_path / "faulty")[hit]
    assert row["dropped"]["stage"] == "fault" and row["job"]["id"] == f"{hit:08d}"
    assert row["dropped"]["reason"] == "AssertionError: a mask of no pixels"
    expected = [key for key in kept_jobs(tmp_path / "whole") if int(key) != hit]
    assert kept_jobs(tmp_path / "faulty")[:-1] == expected


def test_an_exception_while_instructions_are_written_costs_that_job_alone(tmp_path):
    def wrong(number):
        if number == 3:
            raise LookupError("no such letter")

    toy_build(tmp_path, jobs=FaultyJobs(wrong))
    dropped = [row["dropped"] for row in rows_of(tmp_path)]
    assert dropped[3]["stage"] == "fault" and dropped[3]["reason"] == "LookupError: no such letter"
    assert dropped[2] is None and len(kept_jobs(tmp_path)) == PLAN.count


@pytest.mark.parametrize("shard", [200, 6])
@pytest.mark.parametrize("where", ["recipe", "filter"])
def test_too_many_failures_in_turn_end_the_run_and_are_tried_again(where, shard, tmp_path, monkeypatch):
    plan = replace(PLAN, shard_jobs=shard, count=30)
    jobs, straight = ToyJobs(plan), ToyJobs(plan)
    toy_build(tmp_path / "whole", plan, straight)
    broken = [True]

    def wrong(number):
        if broken[0] and number > 9:
            raise RuntimeError("the card is gone")

    if where == "recipe":
        faulty_recipe(monkeypatch, wrong)
    judge = faulty_filter(wrong if where == "filter" else lambda number: None)
    told = r"last \d+ jobs failed, .*the card is gone.* tries them again"
    with pytest.raises(EmuEditError, match=told) as slip:
        toy_build(tmp_path / "broken", plan, jobs, judge)
    count = int(str(slip.value).split("the last ")[1].split()[0])
    assert MOST_FAULTS <= count < MOST_FAULTS + PLAN.chunk_jobs
    broken[0] = False
    toy_build(tmp_path / "broken", plan, jobs, judge)
    assert tree(tmp_path / "broken") == tree(tmp_path / "whole")
    assert jobs.made == straight.made  # nobody is asked for an instruction twice


class Bordering(ToyJobs):
    """Every job of the first shard is one, the first of the second come to nothing before they begin."""

    def item(self, n):
        if MOST_FAULTS <= n < MOST_FAULTS + 4:
            return Dropped("instruction", "the answer is no JSON", "color", f"{n:08d}")
        return super().item(7 * n if n < MOST_FAULTS else n)


def test_failures_up_to_the_end_of_a_shard_do_not_end_every_later_run(tmp_path, monkeypatch):
    plan = replace(PLAN, shard_jobs=MOST_FAULTS, count=5)
    broken = [True]

    def wrong(number):
        if broken[0]:
            raise RuntimeError("the card is gone")

    faulty_recipe(monkeypatch, wrong)
    with pytest.raises(EmuEditError, match=f"the last {MOST_FAULTS} jobs failed"):
        toy_build(tmp_path / "broken", plan, Bordering(plan))
    assert not (tmp_path / "broken" / "shards").exists()
    broken[0] = False
    for name in ("broken", "whole"):
        assert toy_build(tmp_path / name, plan, Bordering(plan))["pairs"] == 5
    assert tree(tmp_path / "broken") == tree(tmp_path / "whole")


def test_a_shard_is_written_once_the_failures_at_its_end_are_over(tmp_path, monkeypatch):
    """Killed anywhere meanwhile too, it ends as if it never was."""
    plan = replace(PLAN, shard_jobs=4, count=8)

    def wrong(number):
        if 3 <= number < 12:
            raise RuntimeError("the card is busy")

    faulty_recipe(monkeypatch, wrong)
    steps, shards_at = [], []

    def watch(step, path):
        steps.append(step)
        if step == "renamed" and path.parent.name == "work" and path.suffix == ".tar":
            shards_at.append(len(list((tmp_path / "whole" / "shards").glob("*.tar"))))

    monkeypatch.setattr(durable, "at_step", watch)
    toy_build(tmp_path / "whole", plan)
    assert shards_at[:6] == [0] * 6 and shards_at[7] >= 3  # of two chunks each
    for kill in range(0, len(steps), 3):
        count = iter(range(10**6))

        def stop(step, path, count=count, kill=kill):
            if next(count) == kill:
                raise Killed

        monkeypatch.setattr(durable, "at_step", stop)
        with pytest.raises(Killed):
            toy_build(tmp_path / f"killed{kill}", plan)
        monkeypatch.setattr(durable, "at_step", lambda step, path: None)
        toy_build(tmp_path / f"killed{kill}", plan)
        assert tree(tmp_path / f"killed{kill}") == tree(tmp_path / "whole"), kill


def test_a_worker_on_ray_hands_a_slip_back():
    def part(chunk, items):
        raise slip

    made = Made.__new__(Made)  # without its models
    made.maker = SimpleNamespace(part=part)
    for slip in (DiskFull("the disk is full."), EmuEditError("give another model.")):
        told = made({"chunk": 3, "items": b"", "slip": ""})
        assert told == {"chunk": 3, "part": b"", "slip": str(slip)}


def test_failures_that_are_not_in_turn_end_nothing(tmp_path, monkeypatch):
    def wrong(number):
        if number % 3:
            raise RuntimeError("sometimes")

    faulty_recipe(monkeypatch, wrong)
    toy_build(tmp_path)
    stages = [row["dropped"]["stage"] for row in rows_of(tmp_path) if row["dropped"]]
    assert stages.count("fault") > MOST_FAULTS


@pytest.mark.parametrize("where", ["recipe", "filter", "instructions"])
def test_a_disk_full_while_a_pair_is_made_ends_the_run_and_costs_nothing(where, tmp_path, monkeypatch):
    toy_build(tmp_path / "whole")
    full = [True]

    def wrong(number):
        if full[0] and number == 8:
            raise OSError(errno.ENOSPC, "No space left on device")

    def here(name):
        return wrong if where == name else lambda number: None

    faulty_recipe(monkeypatch, here("recipe"))
    judge, jobs = faulty_filter(here("filter")), FaultyJobs(here("instructions"))
    with pytest.raises(EmuEditError, match="the disk is full"):
        toy_build(tmp_path / "full", jobs=jobs, judge=judge)
    full[0] = False
    toy_build(tmp_path / "full", jobs=jobs, judge=judge)
    assert tree(tmp_path / "full") == tree(tmp_path / "whole")


def test_texts_and_names_that_cannot_be_written_cost_their_own_pair_at_most(tmp_path):
    folder = pictures(tmp_path / "in")
    broken = os.fsdecode(b"\xff.png")
    try:
        (folder / broken).write_bytes((folder / "0.png").read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    (folder / broken).with_suffix(".txt").write_text("a red ball\n")
    ready = tmp_path / "ready.jsonl"
    lines = [READY | {"picture": "0.png"}, READY | {"picture": "1.png", "input_caption": "half \ud83d of it"}]
    ready.write_text("\n".join(json.dumps(line) for line in lines))
    common = ["--count", "9", "--pictures", str(folder), "--filters", "changed", "--quiet", "--size", "32"]
    for name, more in {"names": ["--tasks", "sketch"], "texts": ["--instructions", str(ready)]}.items():
        assert build_pairs.main(["--out", str(tmp_path / name), *common, "--tasks", "color", *more]) == 1
    reasons = [row["dropped"]["reason"] for row in rows_of(tmp_path / "names") if row["dropped"]]
    assert sum("has a name that is no text" in reason for reason in reasons) == 1
    assert len(kept_jobs(tmp_path / "names")) == 3
    rows = rows_of(tmp_path / "texts")
    assert [row["job"]["instruction"]["input_caption"] for row in rows] == ["a", "half ? of it"]
    assert not any(row["dropped"] and row["dropped"]["stage"] == "fault" for row in rows)
