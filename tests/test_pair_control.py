"""The ablation of attention control: the same tries four ways, counted and shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from emu_edit.benchmarks import pair_control, pair_control_report
from emu_edit.core.pairs.recipes.base import NoCandidate, RecipeContext
from emu_edit.core.pairs.recipes.table import Recipe
from emu_edit.core.pairs.records import Candidate
from emu_edit.training.pairs.judge import Judged, Reader
from emu_edit.training.pairs.world import World
from emu_edit.training.small.edits import as_bytes, make_example
from emu_edit.training.small.render import render

SIZE = 64


def drawn(scene):
    return torch.from_numpy(as_bytes(render(scene, SIZE)).astype("float32") / 255)


def toy_recipe(context, job, number):
    """With control the true edit; without it another backdrop besides; unmasked, in another light too. Every
    third job's object is not found."""
    _, split, seed, index = job.picture.split(":")
    if int(index) % 3 == 2:
        raise NoCandidate("it was not found in the picture.")
    asked = make_example(int(seed), int(index), (job.task,), SIZE, split=split)
    wrong = asked.before if job.task == "add" else asked.after
    if not context.control:
        wrong = replace(wrong, background="moon" if wrong.background != "moon" else "city")
    if context.masks == ("blank",):
        wrong = replace(wrong, light=wrong.light * 0.97)
    scenes = (wrong, asked.after) if job.task == "add" else (asked.before, wrong)
    masks = {kind: torch.from_numpy(asked.mask) for kind in ("precise", "soft", "box")}
    return [Candidate(*map(drawn, scenes), job.instruction, 0, 1, context.masks[0], masks)]


@pytest.fixture(scope="module")
def tries():
    patch = pytest.MonkeyPatch()
    recipes = {task: Recipe(toy_recipe, ()) for task in pair_control.TASKS}
    patch.setattr(pair_control, "RECIPES", recipes)
    read = Reader()
    made = pair_control.jobs(World(SIZE, "train", read), 6, 1, ("remove", "add"), {"guidance": 3.0})
    found = [pair_control.tried(RecipeContext(), job, asked, "soft", read) for job, asked in made]
    patch.undo()
    return found


def test_the_ways_of_a_try_are_the_recipes_contexts_and_are_judged(tries):
    assert [bool(one.judged) for one in tries] == [True, True, True, True, False, False]
    assert all("not found" in one.reason for one in tries[4:])
    for one in tries[:4]:
        assert tuple(one.made) == tuple(pair_control.WAYS) and one.job.parameters == {"guidance": 3.0}
        kinds = [one.made[way].mask_kind for way in pair_control.WAYS]
        assert kinds == ["soft", "blank", "soft", "blank"]
        assert one.drawn and one.judged["control, mask"].right
        assert one.judged["neither"].done and not one.judged["neither"].rest
        moved = [one.moved_mask(way) for way in ("control, mask", "control", "neither")]
        assert moved[0] < 0.01 < moved[1] + 0.005 < moved[2]


def test_shares_stand_with_their_numbers_and_intervals(tries):
    report = pair_control_report.summary(tries, [], ("remove", "add"), tuple(pair_control.WAYS), ("remove",))
    row = report["tasks"]["remove"]
    assert (row["tries"], row["made"], row["drawn"]) == (3, 2, 2)
    assert row["ways"]["control, mask"]["drawn"]["right"]["share"] == 1.0
    assert row["ways"]["neither"]["all"]["right"] == {"share": 0.0, "n": 2, "interval": [0.0, 0.658]}
    assert row["ways"]["control"]["all"]["moved_mask"] > row["ways"]["control, mask"]["all"]["moved_mask"]
    assert report["all"]["tries"] == 3 and report["all_of"] == ["remove"]


def test_pairs_whose_first_picture_is_not_as_said_are_counted_apart(tries):
    wrong = {way: replace(found, before=False, after=False) for way, found in tries[0].judged.items()}
    some = [replace(tries[0], judged=wrong), tries[2]]
    cells = pair_control_report.summary(some, [], ("remove",), tuple(pair_control.WAYS), ("remove",))
    neither = cells["tasks"]["remove"]["ways"]["neither"]
    assert (neither["drawn"]["n"], neither["all"]["n"]) == (1, 2)


def test_tasks_without_control_or_mask_have_the_ways_that_differ():
    assert pair_control.ways_of("background") == ("mask", "neither")
    assert pair_control.ways_of("global") == ("control", "neither")
    assert len(pair_control.ways_of("add")) == 4
    asked = [one.kind for _, one in pair_control.jobs(World(SIZE), 30, 1, ("local",), {})]
    assert {"recolour", "swap", "exchange"} == set(asked)  # captions tell no sizes


def test_the_sheet_has_a_row_a_try(tries):
    sheet = pair_control_report.sheet(tries, tuple(pair_control.WAYS), 3)
    assert sheet.size == (6 * 100, 3 * (96 + 42))
    assert sheet.getpixel((10, 10)) != (255, 255, 255)
    assert pair_control_report.sheet(tries[4:], tuple(pair_control.WAYS), 3).height == 40


def test_the_command_judges_the_worlds_own_pairs(tmp_path, capsys):
    out = tmp_path / "report.json"
    arguments = ["--pairs", "3", "--size", "64", "--tasks", "local,remove,global", "--pictures", "exact"]
    assert pair_control.main([*arguments, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["tasks"]["remove"]["ceiling"]["exact"]["right"]["share"] == 1.0
    assert "| remove | exact | 1 | 1.00" in capsys.readouterr().out


def test_the_command_makes_pairs_with_a_model(tmp_path):
    out, sheet = tmp_path / "report.json", tmp_path / "sheet.png"
    arguments = ["--pairs", "1", "--tasks", "global", "--steps", "1", "--size", "64"]
    assert pair_control.main([*arguments, "--json", str(out), "--sheet", str(sheet)]) == 0
    report = json.loads(out.read_text())
    assert set(report["tasks"]["global"]["ways"]) == {"control", "neither"}
    assert set(report["tasks"]["global"]["ceiling"]) == {"exact", "decoded"}
    assert Image.open(sheet).height == 96 + 42


def test_slips_are_sentences_before_any_work(tmp_path, capsys):
    for arguments, words in (
        (["--tasks", "style"], "'style' is no task"),
        (["--tasks", ","], "give some of local"),
        (["--pairs", "0"], "--pairs is 0"),
        (["--json", str(tmp_path / "no" / "x.json")], "--json"),
    ):
        assert pair_control.main(arguments) == 1
        assert words in capsys.readouterr().err


def test_means_leave_out_what_is_unknown():
    known = Judged(True, True, True, True, None, 0.2)
    found = pair_control_report.cell([(known, None), (replace(known, moved=None, rest=False), 0.4)])
    assert found["moved_true"] == 0.2 and found["moved_mask"] == 0.4 and found["right"]["share"] == 0.5
    assert "placed" not in found and pair_control_report.mean([None]) is None
