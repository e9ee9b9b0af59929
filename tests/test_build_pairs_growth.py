"""A build that goes further: every job is there, nobody is asked twice, and finished pairs stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from test_build_pairs import PLAN, Killed, Strength, ToyJobs, kept_jobs, toy, toy_build, toy_judge, tree  # noqa: F401
from test_build_pairs_faults import number_of, rows_of
from test_build_pairs_jobs import READY

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import durable, shards
from emu_edit.core.pairs.recipes.base import RecipeContext
from emu_edit.core.pairs.records import Dropped
from emu_edit.training.pairs.on_ray import Instructed
from emu_edit.training.pairs.plan import BuildPlan
from emu_edit.training.pairs.rows import FAULT
from emu_edit.training.pairs.stages import Maker, completed, items_from_lines, items_to_lines
from emu_edit.training.pairs.store import Store

ENDING = replace(PLAN, count=100, chunk_jobs=8, shard_jobs=16, max_jobs=20)  # ends within chunk 2, shard 1
LONGER = replace(ENDING, max_jobs=32)
RAN_OUT = "the jobs ran out: 32 gave"


class Fickle(ToyJobs):
    """A language model that never answers the same twice, or is away. `asked`: for which jobs it was."""

    def __init__(self, asked, total=None, away=False):
        super().__init__(PLAN, total)
        self.asked, self.away = asked, away

    def item(self, n):
        if self.away:
            raise EmuEditError("the server gave no answer.")
        self.asked.append(n)
        item = super().item(n)
        if isinstance(item, Dropped):
            return item
        words = f"make it bright {n}, says answer {len(self.asked)}"
        return replace(item, instruction=replace(item.instruction, instruction=words))


def pairs_of(folder):
    return [(pair.key, pair.record) for pair in shards.read_pairs(folder)]


def finished(folder):
    """The files that a finished build is; its plan may ask for more by now, and more may be made ahead."""
    return {
        name: data
        for name, data in tree(folder).items()
        if name != "build.json" and not name.startswith("work")
    }


def undisturbed(monkeypatch):
    monkeypatch.setattr(durable, "at_step", lambda step, path: None)


def at_every_step(monkeypatch, begun, plan, jobs_of):
    """A copy of a build gone on with, killed at its first step and gone on with again; then killed at the
    second, and so on, and last not at all. Yields the step, the folder, and the jobs of both starts.
    """
    kill, killed = 0, True
    while killed:
        folder, jobs, count = begun.with_name("gone on with"), jobs_of(), iter(range(10**6))
        shutil.copytree(begun, folder)

        def stop(step, path, count=count, kill=kill):
            if next(count) == kill:
                raise Killed

        monkeypatch.setattr(durable, "at_step", stop)
        try:
            toy_build(folder, plan, jobs)
            killed = False
        except Killed:
            undisturbed(monkeypatch)
            toy_build(folder, plan, jobs)
        yield kill, folder, jobs
        shutil.rmtree(folder)
        kill += 1


@pytest.mark.parametrize("name", ["work/00000002.tar", "shards/00000001.tar"])
def test_a_last_chunk_that_was_shorter_gets_the_jobs_that_came(name, tmp_path, monkeypatch):
    """Killed when the chunk's instructions are on the disk, or its part, for as many jobs as there were."""

    def stop(step, path):
        if (step, f"{path.parent.name}/{path.name}") == ("begin", name):
            raise Killed

    monkeypatch.setattr(durable, "at_step", stop)
    with pytest.raises(Killed):
        toy_build(tmp_path / "grown", ENDING)
    left = "00000002.jobs.jsonl" if "work" in name else "00000002.tar"
    assert [path.name for path in (tmp_path / "grown" / "work").iterdir()] == [left]
    undisturbed(monkeypatch)
    grown = ToyJobs()
    for folder, jobs in (("grown", grown), ("whole", ToyJobs())):
        with pytest.raises(EmuEditError, match=RAN_OUT):
            toy_build(tmp_path / folder, LONGER, jobs)
    assert [row["number"] for row in rows_of(tmp_path / "grown")] == list(range(32))
    assert tree(tmp_path / "grown") == tree(tmp_path / "whole")
    assert grown.made == 12


def test_a_shorter_part_that_was_made_ahead_is_made_longer(tmp_path):
    """As Ray may leave it, which hands chunks back in any order."""
    items = ToyJobs().make(range(16, 20))
    part = Maker(ENDING, RecipeContext(tries=2), toy_judge).part(2, items)
    Store(tmp_path / "grown", ENDING, 20).put(2, part)
    for folder in ("grown", "whole"):
        with pytest.raises(EmuEditError, match=RAN_OUT):
            toy_build(tmp_path / folder, LONGER)
    assert tree(tmp_path / "grown") == tree(tmp_path / "whole")


def test_a_task_of_ray_takes_up_what_is_written_down(tmp_path):
    ready = tmp_path / "ready.jsonl"
    ready.write_text("".join(json.dumps(READY | {"input_caption": f"line {k}"}) + "\n" for k in range(5)))
    plan = BuildPlan(count=1, tasks=("color",), instructions=f"file:{ready}", chunk_jobs=3, shard_jobs=3)

    def instructed(known, chunk=0):
        row = Instructed(json.dumps(plan.to_json()), 5, ())({"chunk": chunk, "known": known})
        assert row["slip"] == ""
        return [item.instruction.input_caption for item in items_from_lines(row["items"])]

    assert instructed(b"") == ["line 0", "line 1", "line 2"]
    assert instructed(b"", 1) == ["line 3", "line 4"]
    assert instructed(items_to_lines(ToyJobs().make([8, 9]))) == ["a ball 8", "a ball 9", "line 2"]


def test_what_failed_as_nobody_foresaw_is_made_again_and_nothing_else():
    jobs, asked = ToyJobs(), []
    known = [Dropped(FAULT, "no such letter", item="4"), *jobs.make([5, 6])]
    assert isinstance(known[1], Dropped)  # of another stage: that was the answer

    def make(numbers):
        asked.append(list(numbers))
        return jobs.make(numbers)

    assert completed(known, make, range(4, 9)) == jobs.make(range(4, 9))
    assert asked == [[4, 7, 8]]
    assert completed(jobs.make(range(4)), make, range(2)) == jobs.make(range(4))  # more than there are now
    assert len(asked) == 1


@pytest.mark.parametrize("count", [11, 9])
def test_more_jobs_alone_change_nothing_once_the_count_is_reached(count, tmp_path):
    plan = replace(PLAN, count=count)
    toy_build(tmp_path, plan, Fickle([], 40))
    before, asked = finished(tmp_path), []
    for jobs in (Fickle(asked, 80), Fickle(asked, 41), Fickle(asked)):
        toy_build(tmp_path, plan, jobs)
        toy_build(tmp_path, replace(plan, max_jobs=90), jobs)
        assert finished(tmp_path) == before
    assert asked == []


def test_more_pairs_alone_change_nothing_once_the_jobs_ran_out(tmp_path):
    asked, found = [], []
    for count in (50, 60):
        with pytest.raises(EmuEditError, match=f"the jobs ran out: 9 gave . of {count} pairs"):
            toy_build(tmp_path, replace(PLAN, count=count), Fickle(asked, 9))
        found.append(finished(tmp_path))
    assert found[0] == found[1]
    assert asked == [*range(9)]


def test_a_larger_count_with_fewer_jobs_takes_no_pair_away(tmp_path):
    toy_build(tmp_path)
    before = finished(tmp_path)
    with pytest.raises(EmuEditError, match="the jobs ran out: .* gave 11 of 20 pairs"):
        toy_build(tmp_path, replace(PLAN, count=20, max_jobs=4))
    assert finished(tmp_path) == before


@pytest.mark.parametrize("ended", ["by count", "by jobs"])
def test_killed_at_every_step_of_going_further_finished_pairs_stay(ended, tmp_path, monkeypatch):
    first, plan = [], replace(PLAN, count=6, shard_jobs=4)
    if ended == "by jobs":
        with pytest.raises(EmuEditError, match="the jobs ran out: 7 gave"):
            toy_build(tmp_path / "first", plan, Fickle(first, 7))
    else:
        toy_build(tmp_path / "first", replace(plan, count=4), Fickle(first))
        assert len(rows_of(tmp_path / "first")) < len(first)  # asked for a job that was not needed yet
    before = pairs_of(tmp_path / "first")
    assert first == list(range(len(first))) and 0 < len(before) < 6
    assert len(first) % plan.shard_jobs  # it ended within a shard
    kill = 0
    for kill, folder, jobs in at_every_step(monkeypatch, tmp_path / "first", plan, lambda: Fickle([])):
        after = pairs_of(folder)
        assert after[: len(before)] == before and len(after) == 6, f"killed at step {kill}"
        assert min(jobs.asked) == len(first), f"killed at step {kill}"
    assert kill > 20 and jobs.asked == list(range(len(first), len(first) + len(jobs.asked)))


def but_for(weak, look=Strength.look):
    """The toy filter, for which the candidates of these jobs are all too weak."""

    def strict(self, candidates):
        made = [
            replace(one, parameters={"strength": 0.0}) if number_of(one) in weak else one
            for one in candidates
        ]
        return look(self, made)

    return strict


@pytest.mark.parametrize("shard", range(6))
def test_a_count_lowered_to_what_is_there_ends_the_build_as_one_to_that_count(shard, tmp_path, monkeypatch):
    """Killed once a shard is whole, and again at every step of ending there."""
    plan = replace(PLAN, count=20, shard_jobs=4)
    monkeypatch.setattr(Strength, "look", but_for(range(9, 17)))  # two of the shards are empty

    def stop(step, path):
        if (step, path.name) == ("renamed", f"{shard:08d}.json"):
            raise Killed

    monkeypatch.setattr(durable, "at_step", stop)
    with pytest.raises(Killed):
        toy_build(tmp_path / "first", plan)
    undisturbed(monkeypatch)
    less = replace(plan, count=len(pairs_of(tmp_path / "first")))
    toy_build(tmp_path / "whole", less)
    for kill, folder, jobs in at_every_step(monkeypatch, tmp_path / "first", less, ToyJobs):
        assert tree(folder) == tree(tmp_path / "whole"), f"killed at step {kill}"
        assert jobs.made == 0
    undisturbed(monkeypatch)
    toy_build(tmp_path / "first", less)
    for name in ("first", "longer"):
        toy_build(tmp_path / name, plan)
    assert tree(tmp_path / "first") == tree(tmp_path / "longer")


def test_a_server_that_is_away_leaves_a_finished_build_finished(tmp_path):
    plan = replace(PLAN, count=10)
    toy_build(tmp_path, plan, Fickle(first := []))
    assert len(first) % PLAN.shard_jobs  # its last shard goes on with what the server is asked for
    before, pairs = tree(tmp_path), pairs_of(tmp_path)
    with pytest.raises(EmuEditError, match="the server gave no answer"):
        toy_build(tmp_path, replace(PLAN, count=20), Fickle([], away=True))
    assert finished(tmp_path) == {name: data for name, data in before.items() if name != "build.json"}
    toy_build(tmp_path, plan, Fickle([], away=True))  # as many as before: that is what is there
    assert tree(tmp_path) == before
    toy_build(tmp_path, replace(PLAN, count=20), Fickle(asked := []))
    assert pairs_of(tmp_path)[:10] == pairs and len(kept_jobs(tmp_path)) == 20
    assert min(asked) == len(first)


def test_several_pairs_of_a_job_grow_as_if_made_at_once(tmp_path):
    plan = replace(PLAN, keep=2)
    toy_build(tmp_path / "whole", replace(plan, count=14))
    for count in range(3, 15):  # some end between two pairs of a job
        toy_build(tmp_path / "grown", replace(plan, count=count))
    assert tree(tmp_path / "grown") == tree(tmp_path / "whole")
