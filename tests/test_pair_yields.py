"""How many of a build's pairs are right: counts of known pairs, kept and dropped."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import durable
from emu_edit.core.pairs.recipes import table
from emu_edit.core.pairs.recipes.base import RecipeContext, start
from emu_edit.core.pairs.records import Candidate, Verdict
from emu_edit.training import report
from emu_edit.training.pairs import yields
from emu_edit.training.pairs.models import jobs_of, world_of
from emu_edit.training.pairs.plan import BuildPlan
from emu_edit.training.pairs.run import build, one_process
from emu_edit.training.pairs.stages import Maker
from emu_edit.training.small.edits import make_example

PLAN = BuildPlan(
    count=6, seed=2, tasks=("remove", "segment", "color"), size=64, tries=2, chunk_jobs=3, shard_jobs=6
)


def picture(array):
    return torch.from_numpy(array).float() / 255


def toy_recipe(context, job, number):
    """The world's own pair on the first try, the picture left as it is on the second."""
    _, split, seed, index = job.picture.split(":")
    made = make_example(int(seed), int(index), (job.task,), PLAN.size, split=split)
    draw = start(job, number)
    target = made.source if number else made.target
    return [
        Candidate(
            picture(made.source), picture(target), job.instruction, 0, draw.seed, parameters=draw.parameters
        )
    ]


def toy_judge(tried):
    """Keeps the true pair and drops the unchanged one; of segment the other way round, wrongly."""
    kept = 1 if tried[0].task == "segment" else 0
    return [
        Verdict(one.task, True) if one.index == kept else Verdict(one.task, False, (), "weak", "toy")
        for one in tried
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    recipe = table.Recipe(toy_recipe, ())
    patch.setattr(table, "RECIPES", {**table.RECIPES, **dict.fromkeys(PLAN.tasks, recipe)})
    patch.setattr(durable.os, "fsync", lambda handle: None)
    patch.setattr(yields, "context_of", lambda plan, world: RecipeContext(masks=("blank",)))
    home = tmp_path_factory.mktemp("build")
    plan = replace(PLAN, masks=("blank",))
    jobs, maker = (
        jobs_of(plan, world_of(plan)),
        Maker(plan, RecipeContext(tries=2, masks=("blank",)), toy_judge),
    )
    build(home, plan, jobs, lambda store, total: one_process(plan, jobs, maker, store, total))
    yield home
    patch.undo()


def test_kept_pairs_are_judged_by_their_tasks(folder):
    found = yields.judged_yield(folder)
    remove, segment, color = (found["tasks"][task]["kept"] for task in PLAN.tasks)
    assert (remove["n"], remove["right"], remove["done"], remove["rest"]) == (2, 2, 2, 2)
    assert (segment["n"], segment["right"]) == (2, 0) and "done" not in segment
    assert (color["n"], color["not_judged"], color["share"]) == (0, 2, None)
    assert (found["all"]["kept"]["n"], found["all"]["kept"]["right"]) == (4, 2)
    assert set(found["all"]) == {"kept"}


def test_dropped_candidates_are_made_again_and_judged(folder):
    found = yields.judged_yield(folder, again=1)
    assert found["tasks"]["remove"]["dropped"] | {"interval": 0} == {
        "n": 1, "not_judged": 0, "right": 0, "share": 0.0, "interval": 0,
        "done": 0, "rest": 1, "before": 1, "after": 0,
    }  # fmt: skip
    assert found["tasks"]["segment"]["dropped"]["right"] == 1
    assert "dropped" not in found["tasks"]["color"]


def drawn_with(monkeypatch, folder, count, seed):
    """The seeds of the candidates that are made again, in order."""
    nothing = torch.zeros(8, 8, 3)
    one = SimpleNamespace(source=nothing, target=nothing)
    seeds = []
    monkeypatch.setattr(yields, "context_of", lambda plan, world: RecipeContext())
    monkeypatch.setattr(yields, "remake", lambda context, job, record: (seeds.append(record["seed"]), one)[1])
    list(yields._made_again(folder, PLAN, count, seed, lambda line: None))
    return seeds


def test_candidates_are_drawn_by_the_seed_and_few_are_held(tmp_path, monkeypatch):
    (tmp_path / "records").mkdir()
    words = {"task": "add", "instruction": "a", "input_caption": "b", "output_caption": "c"}
    job = {"id": "1", "seed": 1, "instruction": words}
    dropped = []
    for shard in range(4):
        lines = []
        for number in range(100):
            candidates = []
            for k in range(5):
                kept, seed = k % 2 == 1, 1000 * shard + 10 * number + k
                told = {"candidate": {"seed": seed, "metadata": "x" * 3000}, "verdict": {"kept": kept}}
                candidates.append(told | {"key": "00000001" if k == 0 else ""})
                if k in (2, 4):
                    dropped.append(seed)
            lines.append(json.dumps({"job": job, "dropped": None, "candidates": candidates}))
        (tmp_path / "records" / f"{shard:08d}.jsonl").write_text("\n".join(lines) + "\n")
    tracemalloc.start()
    found = drawn_with(monkeypatch, tmp_path, 3, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    places = np.random.default_rng(5).permutation(len(dropped))[:3]  # sorted by name, they are the first
    assert found[:3] == [dropped[place] for place in sorted(places)] and len(found) == 6
    assert peak < 2e6  # of 6 million characters


def test_the_report_tells_the_yield(folder, tmp_path, capsys):
    page, out = tmp_path / "page.html", tmp_path / "yield.json"
    assert report.main([str(folder), "--out", str(page), "--judge", "--json", str(out)]) == 0
    assert "| remove | kept | 2 | 2 |" in capsys.readouterr().out
    assert json.loads(out.read_text())["tasks"]["remove"]["kept"]["right"] == 2
    assert "<td>remove<td>kept<td>2<td>2<td>" in page.read_text(encoding="utf-8")


def test_what_cannot_be_judged_is_a_sentence(tmp_path, capsys):
    with pytest.raises(EmuEditError, match="cannot be read"):
        yields.judged_yield(tmp_path)
    plan = replace(PLAN, captions="captions.txt")
    (tmp_path / "build.json").write_text(json.dumps(plan.to_json()))
    assert report.main([str(tmp_path), "--judge"]) == 1
    assert "'captions.txt'" in capsys.readouterr().err
    plan = replace(PLAN, instructions="file:ready.jsonl")  # whose jobs name no scene
    (tmp_path / "build.json").write_text(json.dumps(plan.to_json()))
    assert report.main([str(tmp_path), "--judge"]) == 1
    assert "'file:ready.jsonl'" in capsys.readouterr().err
    assert report.main([str(tmp_path), "--judge", "--json", str(tmp_path / "no" / "x.json")]) == 1
    assert "--json" in capsys.readouterr().err
