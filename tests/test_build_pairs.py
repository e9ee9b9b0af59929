"""The builder of pairs: killed anywhere, faulty anything, and still the pairs of an undisturbed run."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import durable, index, shards
from emu_edit.core.pairs.filters.base import Finding, at_least
from emu_edit.core.pairs.filters.judge import judge_all
from emu_edit.core.pairs.filters.standard import standard_filters
from emu_edit.core.pairs.recipes import table
from emu_edit.core.pairs.recipes.base import NoCandidate, RecipeContext, start
from emu_edit.core.pairs.records import Candidate, Dropped, Instruction, PairJob, Verdict
from emu_edit.training.pairs.plan import BuildPlan
from emu_edit.training.pairs.rows import read_rows
from emu_edit.training.pairs.run import build, one_process
from emu_edit.training.pairs.stages import Maker
from emu_edit.training.pairs.store import Store

PLAN = BuildPlan(count=11, seed=3, tasks=("color", "detect"), chunk_jobs=2, shard_jobs=6, patience=50)
ROOT = Path(__file__).resolve().parent.parent
OPTIONS = {"seed": 1, "size": 32, "tasks": "color,detect,segment", "chunk-jobs": 2, "shard-jobs": 8}
SMALL = ["--quiet", *(part for name, value in OPTIONS.items() for part in (f"--{name}", str(value)))]


class Killed(BaseException):
    """Stands for kill -9: nothing in the program answers it."""


class ToyJobs:
    """Job n: a colour change; every seventh comes to nothing for want of an instruction."""

    def __init__(self, plan=PLAN, total=None):
        self.plan, self.total, self.made = plan, total, 0

    def make(self, numbers):
        self.made += len(numbers)
        return [self.item(n) for n in numbers]

    def item(self, n):
        if n % 7 == 5:
            return Dropped("instruction", "the answer is no JSON", "color", f"{n:08d}", {"answer": "well,"})
        words = Instruction(
            self.plan.tasks[n % 2], f"make it bright {n}", f"a ball {n}", f"a bright ball {n}"
        )
        return PairJob(f"{n:08d}", 100 + n, words, f"{n}.png")


def toy_recipe(context, job, number):
    """Two candidates a job, tiny and of its seed alone; every fifth job has none."""
    if job.seed % 5 == 0:
        raise NoCandidate("its picture cannot be read: it is no picture")
    draw = start(job, number)
    draw.uniform("strength", 0, 1)
    chance = torch.Generator().manual_seed(draw.seed % 2**31)
    source, target = torch.rand(2, 8, 8, 3, generator=chance)
    return [Candidate(source, target, job.instruction, 0, draw.seed, "blank", {}, draw.parameters)]


class Strength:
    """A filter that drops the weak and ranks the strong first."""

    name = "clip_direction"  # what candidates are ranked by

    def look(self, candidates):
        return [
            Finding((at_least(self.name, one.parameters["strength"], 0.3, "too weak"),)) for one in candidates
        ]


def toy_judge(candidates):
    return judge_all(candidates, [Strength()])


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Toy recipes for the two tasks, and no waiting for the disk."""
    recipe = table.Recipe(toy_recipe, ())
    monkeypatch.setattr(table, "RECIPES", {**table.RECIPES, "color": recipe, "detect": recipe})
    monkeypatch.setattr(durable.os, "fsync", lambda handle: None)


def toy_build(folder, plan=PLAN, jobs=None, judge=toy_judge, tell=lambda line: None):
    jobs = jobs or ToyJobs(plan)
    maker = Maker(plan, RecipeContext(tries=2), judge)
    return build(
        folder, plan, jobs, lambda store, total: one_process(plan, jobs, maker, store, total), tell, 0
    )


def tree(folder):
    """Every file below a folder but the lock, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def kept_jobs(folder):
    return [pair.key for pair in shards.read_pairs(folder)]


def test_a_build_keeps_what_was_asked_for_in_order(tmp_path):
    lines = []
    manifest = toy_build(tmp_path, tell=lines.append)
    keys = kept_jobs(tmp_path)
    assert manifest["pairs"] == len(keys) == 11 and keys == sorted(set(keys))
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert found == manifest and sum(shard["pairs"] for shard in found["shards"]) == 11
    assert len(found["shards"]) > 2
    names = {int(key) // PLAN.shard_jobs: shard for key in keys for shard in [int(key) // 6]}
    for shard in names:
        in_shard = [pair.key for pair in shards.read_shard(tmp_path / "shards" / f"{shard:08d}.tar")]
        assert in_shard == [key for key in keys if int(key) // PLAN.shard_jobs == shard]
    assert [row["key"] for row in index.read_index(tmp_path)] == keys
    assert "clip_direction -" in lines[-1] and "11 of 11" in lines[-1]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["records", "shards"]


def test_the_best_candidate_is_kept_and_all_are_told(tmp_path):
    toy_build(tmp_path)
    rows = [row for path in sorted((tmp_path / "records").glob("*.jsonl")) for row in read_rows(path)]
    assert [row["number"] for row in rows] == list(range(len(rows)))
    stages = {row["dropped"]["stage"] for row in rows if row["dropped"]}
    assert stages == {"instruction", "recipe"}
    reasons = set()
    for row in rows:
        ranks = [one["verdict"]["rank"] for one in row["candidates"]]
        for one in row["candidates"]:
            assert bool(one["key"]) == (one["verdict"]["kept"] and one["verdict"]["rank"] == max(ranks))
            reasons.add(one["verdict"]["reason"])
    assert "too weak" in reasons


def test_killed_at_every_single_step_it_ends_as_if_it_never_was(tmp_path, monkeypatch):
    plan, steps = replace(PLAN, count=4, shard_jobs=4), []
    monkeypatch.setattr(durable, "at_step", lambda step, path: steps.append((step, path.name)))
    toy_build(tmp_path / "whole", plan)
    whole, total = tree(tmp_path / "whole"), len(steps)
    assert total > 60 and "00000001.tar" in whole["manifest.json"].decode()
    for kill in range(total):
        count = iter(range(10**6))

        def stop(step, path, count=count, kill=kill):
            if next(count) == kill:
                raise Killed

        folder = tmp_path / "killed"
        monkeypatch.setattr(durable, "at_step", stop)
        with pytest.raises(Killed):
            toy_build(folder, plan)
        monkeypatch.setattr(durable, "at_step", lambda step, path: None)
        toy_build(folder, plan)
        assert tree(folder) == whole, f"killed at {steps[kill]}"
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()


def test_killed_again_and_again_it_still_ends(tmp_path, monkeypatch):
    toy_build(tmp_path / "whole")
    chance = random.Random(5)

    def stop(step, path):
        if chance.random() < 0.04:
            raise Killed

    kills = 0
    monkeypatch.setattr(durable, "at_step", stop)
    while True:
        try:
            toy_build(tmp_path / "killed")
            break
        except Killed:
            kills += 1
    assert kills > 3
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_parts_may_come_in_any_order_and_twice(tmp_path):
    toy_build(tmp_path / "whole")

    def shuffled(store, total):
        straight = one_process(PLAN, ToyJobs(), Maker(PLAN, RecipeContext(tries=2), toy_judge), store, total)

        def results(chunks):
            waiting = []
            for chunk in chunks:
                waiting.append(chunk)
                if len(waiting) == 4:
                    yield from straight([waiting[2], waiting[0], waiting[3], waiting[1], waiting[0]])
                    waiting = []
            yield from straight(waiting)

        return results

    build(tmp_path / "any", PLAN, ToyJobs(), shuffled)
    assert tree(tmp_path / "any") == tree(tmp_path / "whole")


def test_a_build_can_be_made_longer_and_equals_one_made_so_at_once(tmp_path):
    toy_build(tmp_path / "long", replace(PLAN, count=20))
    folder = tmp_path / "grown"
    for count in (4, 11, 20):
        assert toy_build(folder, replace(PLAN, count=count))["pairs"] == count
    assert tree(folder) == tree(tmp_path / "long")
    with pytest.raises(EmuEditError, match="more than 11 pairs"):
        toy_build(folder)
    assert tree(folder) == tree(tmp_path / "long")


def test_a_finished_build_does_nothing_again(tmp_path):
    toy_build(tmp_path)
    before, jobs = tree(tmp_path), ToyJobs()
    toy_build(tmp_path, jobs=jobs)
    assert tree(tmp_path) == before and jobs.made == 0


def test_another_build_is_not_mixed_in(tmp_path):
    toy_build(tmp_path / "a")
    with pytest.raises(EmuEditError, match="holds a build with seed 3, not 4"):
        toy_build(tmp_path / "a", replace(PLAN, seed=4))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    (tmp_path / "b" / ".thesis.txt.part").write_text("also mine")
    with pytest.raises(EmuEditError, match="not empty"):
        toy_build(tmp_path / "b")
    assert set(tree(tmp_path / "b")) == {"thesis.txt", ".thesis.txt.part"}


def test_a_damaged_summary_is_named_and_can_be_made_again(tmp_path):
    toy_build(tmp_path)
    whole, path = tree(tmp_path), tmp_path / "records" / "00000001.json"
    path.write_text('{"pairs": ')
    with pytest.raises(EmuEditError, match=r"00000001\.json cannot be read .* delete it"):
        toy_build(tmp_path)
    for later in sorted((tmp_path / "records").glob("*.json"))[1:]:
        later.unlink()
    toy_build(tmp_path)
    assert tree(tmp_path) == whole


def test_a_full_disk_stops_with_a_sentence_and_nothing_is_lost(tmp_path, monkeypatch):
    toy_build(tmp_path / "whole")
    folder, free = tmp_path / "full", [6]

    def fill(step, path):
        if step == "writing":
            free[0] -= 1
            if free[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "at_step", fill)
    for _ in range(40):
        free[0] = 6
        try:
            toy_build(folder)
            break
        except EmuEditError as slip:
            assert "the disk is full" in str(slip)
            assert not list(folder.rglob("*.part"))
    monkeypatch.undo()
    monkeypatch.setattr(
        table, "RECIPES", {**table.RECIPES, **dict.fromkeys(PLAN.tasks, table.Recipe(toy_recipe, ()))}
    )
    toy_build(folder)
    assert tree(folder) == tree(tmp_path / "whole")


def test_when_the_jobs_run_out_what_there_is_is_whole(tmp_path):
    with pytest.raises(EmuEditError, match="the jobs ran out: 9 gave"):
        toy_build(tmp_path, jobs=ToyJobs(total=9))
    pairs = json.loads((tmp_path / "manifest.json").read_text())["pairs"]
    assert 0 < pairs < 11 and len(kept_jobs(tmp_path)) == pairs
    assert toy_build(tmp_path)["pairs"] == 11  # more captions came
    toy_build(tmp_path / "whole")
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith("whole")} == tree(tmp_path / "whole")


def test_a_build_that_yields_nothing_gives_up_with_a_sentence(tmp_path):
    with pytest.raises(EmuEditError, match=r"last \d+ jobs gave no pair, most often by '\w+ strength'"):
        toy_build(
            tmp_path,
            replace(PLAN, patience=20),
            judge=lambda some: [Verdict(c.task, False, reason="no", dropped_by="strength") for c in some],
        )


def test_a_filter_that_lacks_its_model_costs_no_pair(tmp_path):
    filters = [Strength(), *standard_filters(names=("depth",))]
    toy_build(tmp_path / "without", judge=lambda some: judge_all(some, filters))
    told = b"".join(data for name, data in tree(tmp_path / "without").items() if name.endswith(".jsonl"))
    assert b"not run: no depth estimator was given" in told
    toy_build(tmp_path / "whole")
    assert kept_jobs(tmp_path / "without") == kept_jobs(tmp_path / "whole")


def test_a_damaged_part_is_named(tmp_path):
    store = Store(tmp_path, PLAN, 100)
    store.put(0, b"not a tar")
    with pytest.raises(EmuEditError, match="00000000.tar is damaged"):
        store.advance(5)


def test_several_pairs_of_a_job_have_keys_of_their_own(tmp_path):
    plan = replace(PLAN, keep=2)
    toy_build(tmp_path, plan)
    keys = [int(key) for key in kept_jobs(tmp_path)]
    assert len(keys) == 11 == len(set(keys)) and keys == sorted(keys)
    assert any(a // 2 == b // 2 for a, b in zip(keys, keys[1:], strict=False))


def test_the_index_is_the_same_with_and_without_pyarrow(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    toy_build(tmp_path)
    rows = index.read_index(tmp_path)
    monkeypatch.setattr(index, "AT_ONCE", 3)
    assert index.write_index(tmp_path, rows).name == "index.parquet"
    assert index.read_index(tmp_path) == rows
    monkeypatch.setattr(index, "_pyarrow", lambda: None)
    assert index.write_index(tmp_path, rows).name == "index.jsonl"
    assert index.read_index(tmp_path) == rows and not (tmp_path / "index.parquet").exists()


def test_an_index_of_lines_holds_texts_with_line_ends_of_unicode(tmp_path):
    rows = [{"key": f"0000000{k}", "instruction": f"a{end}b"} for k, end in enumerate("\u2028\u2029\x85")]
    index.write_index(tmp_path, rows, parquet=False)
    assert [row["instruction"] for row in index.read_index(tmp_path)] == [row["instruction"] for row in rows]


def command(folder, *more):
    return [
        sys.executable,
        "-c",
        "import sys, importlib.util as u; s = u.spec_from_file_location('emu_edit', sys.argv[1], "
        "submodule_search_locations=[sys.argv[1][:-12]]); m = u.module_from_spec(s); "
        "sys.modules['emu_edit'] = m; s.loader.exec_module(m); "
        "from emu_edit.training.build_pairs import main; sys.exit(main(sys.argv[2:]))",
        str(ROOT / "__init__.py"),
        *("--out", str(folder), *SMALL, *more),
    ]


def real_kills(folder, kills, count):
    """Build under so many SIGKILLs, and undisturbed; both must come to the same."""
    script = str(Path(__file__).with_name("kill_builds.py"))
    subprocess.run(
        [sys.executable, script, str(folder), str(kills), "--count", str(count), *SMALL], check=True
    )
    whole = tree(folder / "whole")
    assert tree(folder / "killed") == whole and len(whole) > 6


def test_three_real_kills(tmp_path):
    real_kills(tmp_path, 3, 40)


@pytest.mark.skipif("EMU_EDIT_SLOW" not in os.environ, reason="takes minutes; set EMU_EDIT_SLOW=1")
def test_fifty_real_kills(tmp_path):
    real_kills(tmp_path, 50, 400)
