"""Where a build's jobs come from, and what becomes of bad lines, bad pictures and bad answers."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_build_pairs import tree

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import shards
from emu_edit.core.pairs.filters import models as filter_models
from emu_edit.core.pairs.instructions.backend import Answer, Trouble
from emu_edit.core.pairs.instructions.write import Writer, WriteSettings
from emu_edit.core.pairs.recipes.base import RecipeContext
from emu_edit.core.pairs.records import Dropped, PairJob
from emu_edit.training import build_pairs
from emu_edit.training.pairs import models
from emu_edit.training.pairs import on_ray as on_ray_module
from emu_edit.training.pairs.filtering import judge_of
from emu_edit.training.pairs.jobs import CaptionJobs, InstructionJobs
from emu_edit.training.pairs.plan import BuildPlan
from emu_edit.training.pairs.rows import part_bytes, read_rows
from emu_edit.training.pairs.run import build, one_process

READY = {"task": "color", "instruction": "make it darker", "input_caption": "a", "output_caption": "a dark a"}


def pictures(folder, count=3):
    """Pictures with captions beside them; the last file is no picture."""
    folder.mkdir()
    for k in range(count):
        levels = np.random.default_rng(k).integers(0, 255, (40, 56, 3), np.uint8)
        Image.fromarray(levels).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(f"a red ball and a blue cup {k}\n")
    (folder / "9.png").write_bytes(b"no picture")
    (folder / "9.txt").write_text("a green tree\n")
    return folder


class Server:
    """A language model that answers as told: sense, nonsense, or not at all."""

    name, writes_objects = "server", False

    def __init__(self, moods):
        self.moods = moods

    def answer(self, request):
        mood = self.moods.pop(0) if self.moods else "sense"
        if mood == "away":
            raise Trouble("timed out after 60 s")
        if mood == "nonsense":
            return Answer("Certainly! Here is your instruction.")
        caption = request.caption
        words = {
            "instruction": "make it darker",
            "input_caption": caption,
            "output_caption": f"a dark {caption}",
        }
        return Answer(json.dumps(words | {"original_object": "", "edited_object": ""}))


def asked(moods, captions, tmp_path, **settings):
    """The items of a file of captions with a server of these moods."""
    path = tmp_path / "captions.txt"
    path.write_text("\n\n".join(captions) + "\n")
    plan = BuildPlan(count=1, tasks=("color",), captions=str(path))
    writer = Writer(Server(moods), WriteSettings(tries=1, wait=0, **settings), sleep=lambda seconds: None)
    jobs = CaptionJobs(plan, lambda some: models._write(writer, some))
    assert jobs.total == len(captions)
    return jobs.make(range(len(captions)))


def test_nonsense_and_silence_are_recorded_and_the_others_go_on(tmp_path):
    items = asked(["sense", "nonsense", "away"], ["one cat", "two cats", "three cats", "four cats"], tmp_path)
    assert [type(item) for item in items] == [PairJob, Dropped, Dropped, PairJob]
    assert "no JSON object" in items[1].reason and items[1].detail["answer"].startswith("Certainly")
    assert "timed out" in items[2].reason and items[2].stage == "away"
    assert items[3].instruction.input_caption == "four cats" and items[3].id == "00000003"


def test_a_server_that_stays_away_stops_the_run(tmp_path):
    with pytest.raises(EmuEditError, match="gave no answer for 2 orders"):
        asked(["away"] * 4, ["a", "b", "c", "d"], tmp_path, give_up_after=2)


class Deaf(Server):
    """Never answers what holds a word, and else as its moods are."""

    def __init__(self, moods, word=None):
        super().__init__(moods)
        self.word = word

    def answer(self, request):
        words = (self.word,) if isinstance(self.word, str) else self.word or ()
        if any(word in request.caption for word in words):
            raise Trouble("the server answers 500")
        return super().answer(request)


def build_with(server, folder, count=6, size=2):
    """A build from captions in chunks of `size`, of which no job becomes a pair."""

    def part(chunk, items):
        rows = [{"number": size * chunk + k, "job": None, "dropped": None} for k in range(len(items))]
        for row, item in zip(rows, items, strict=True):
            row["job" if isinstance(item, PairJob) else "dropped"] = item.to_json()
        return part_bytes([], [row | {"candidates": []} for row in rows])

    captions = folder.parent / "captions.txt"
    captions.write_text("".join(f"cat {n}\n" for n in range(count)))
    plan = BuildPlan(count=1, tasks=("color",), captions=str(captions), chunk_jobs=size, shard_jobs=size)
    writer = Writer(server, WriteSettings(tries=1, wait=0), sleep=lambda seconds: None)
    jobs = CaptionJobs(plan, lambda some: models._write(writer, some))
    with pytest.raises(EmuEditError) as end:
        build(folder, plan, jobs, partial(one_process, plan, jobs, SimpleNamespace(part=part)))
    return str(end.value)


@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("away", [1, 3, 5, 8])
def test_an_outage_of_the_server_costs_no_job(away, before, tmp_path):
    """Short, it is waited for; long, it stops the run, also where a chunk or a shard ends within it."""
    assert "the jobs ran out" in build_with(Server([]), tmp_path / "whole")
    server = Server(["sense"] * before + ["away"] * away)
    ends = [build_with(server, tmp_path / "out")]
    while "the jobs ran out" not in ends[-1]:
        assert "gave no answer for 5 orders in turn" in ends[-1] and len(ends) < 4
        ends.append(build_with(server, tmp_path / "out"))
    assert len(ends) == (2 if away >= 5 else 1)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_question_that_the_server_fails_over_is_dropped_in_the_end(tmp_path):
    assert "the jobs ran out" in build_with(Deaf([], "cat 3"), tmp_path / "out")
    rows = [r for path in sorted((tmp_path / "out" / "records").glob("*.jsonl")) for r in read_rows(path)]
    assert [row["dropped"] and row["dropped"]["stage"] for row in rows] == [None] * 3 + ["away"] + [None] * 2


def test_questions_that_a_server_fails_over_are_told_from_an_outage(tmp_path):
    """Three in one chunk, asked again and again: another's answer between shows that the server is there."""
    bad = ("cat 1", "cat 2", "cat 3")
    assert "the jobs ran out" in build_with(Deaf([], bad), tmp_path / "out", 8, size=4)
    rows = [r for path in sorted((tmp_path / "out" / "records").glob("*.jsonl")) for r in read_rows(path)]
    assert [bool(row["dropped"]) for row in rows] == [False] + [True] * 3 + [False] * 4


def test_ready_instructions_and_lines_that_are_none(tmp_path):
    path = tmp_path / "ready.jsonl"
    lines = [json.dumps(READY), "{broken", json.dumps(READY | {"task": "nonsense"}), "[1]"]
    lines += [json.dumps(READY | {"task": "local"}), json.dumps(READY | {"picture": "x.png"})]
    path.write_text("\n".join(lines))
    jobs = InstructionJobs(BuildPlan(count=1, tasks=("color",)), path)
    items = jobs.make(range(jobs.total))
    assert [isinstance(item, PairJob) for item in items] == [True, False, False, False, False, True]
    assert items[5].picture == "x.png" and "line 2" in items[1].reason and "no task" in items[2].reason
    assert "was not asked for" in items[4].reason
    assert jobs.make([5]) == [items[5]] == jobs.make([5])
    with pytest.raises(EmuEditError, match="cannot be read"):
        InstructionJobs(BuildPlan(count=1), tmp_path / "missing.jsonl")


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85"])
def test_texts_with_the_line_ends_of_unicode_build_and_resume(end, tmp_path):
    """JSON leaves them as they are, and str.splitlines (not that of bytes) splits at them."""

    class Killed(BaseException):
        pass

    class Toy(InstructionJobs):
        made = 0

        def make(self, numbers):
            self.made += len(numbers)
            return super().make(numbers)

    def part(chunk, items):
        if stop:
            raise Killed
        seen.extend(items)
        rows = [{"number": 0, "job": items[0].to_json(), "dropped": None, "candidates": []}]
        return part_bytes([], rows)

    caption = f"a ball{end}and a cup"
    ready = tmp_path / "ready.jsonl"
    ready.write_text(json.dumps(READY | {"input_caption": caption}) + "\n")
    plan = BuildPlan(count=1, tasks=("color",), chunk_jobs=1, shard_jobs=1)
    seen, stop = [], True
    for error in (Killed, EmuEditError):  # the second: one job, and it has no pair
        jobs, maker = Toy(plan, ready), SimpleNamespace(part=part)
        with pytest.raises(error):
            build(tmp_path / "out", plan, jobs, partial(one_process, plan, jobs, maker))
        stop = False
    assert jobs.made == 0  # read from what the first run wrote down
    assert [item.instruction.input_caption for item in seen] == [caption]


def test_a_build_from_real_pictures_and_one_that_is_none(tmp_path, capsys):
    folder = pictures(tmp_path / "in")
    command = ["--out", str(tmp_path / "out"), "--count", "50", "--pictures", str(folder), "--size", "32"]
    command += ["--tasks", "color,sketch", "--filters", "changed,task", "--quiet"]
    assert build_pairs.main(command) == 1
    assert "the jobs ran out: 8 gave 6 of 50 pairs" in capsys.readouterr().err
    pairs = list(shards.read_pairs(tmp_path / "out"))
    assert {tuple(pair.source.shape) for pair in pairs} == {(24, 32, 3)}
    rows = list(read_rows(tmp_path / "out" / "records" / "00000000.jsonl"))
    reasons = [row["dropped"]["reason"] for row in rows if row["dropped"]]
    assert len(reasons) == 2 and all("9.png cannot be read" in reason for reason in reasons)
    assert all("changed" in {score["name"] for score in pair.record["scores"]} for pair in pairs)
    before = tree(tmp_path / "out")
    assert build_pairs.main(command) == 1 and tree(tmp_path / "out") == before
    (folder / "1.txt").unlink()
    other = [*command]
    other[1] = str(tmp_path / "other")
    assert build_pairs.main(other) == 1
    told = (tmp_path / "other" / "records" / "00000000.jsonl").read_text()
    assert "1.png has no caption beside it" in told


def test_a_picture_outside_the_folder_is_refused(tmp_path):
    read = models.folder_pictures(pictures(tmp_path / "in"), 0)
    path = tmp_path / "ready.jsonl"
    path.write_text(json.dumps(READY | {"picture": "../secret.png"}))
    job = InstructionJobs(BuildPlan(count=1), path).make([0])[0]
    with pytest.raises(EmuEditError, match="outside the folder"):
        read(job)


def test_the_filters_share_the_depth_model_of_the_recipes(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(filter_models, "load_depth", lambda *where: loaded.append(where) or object())
    plan = BuildPlan(count=1, captions="c.txt", pictures=str(tmp_path), depth="somewhere", filters=("depth",))
    context = models.context_of(plan, None)
    judge_of(plan, context)
    assert len(loaded) == 1
    judge_of(plan, replace(context, annotators={}))  # as of the world, which brings its own
    assert len(loaded) == 2


@pytest.mark.parametrize("options, device", [([], "cpu"), (["--worker-gpus", "0.5"], "cuda")])
def test_with_ray_the_models_and_the_device_are_the_workers(options, device, tmp_path, monkeypatch):
    """The command's own process may be one without a graphics card, and holds no model meanwhile."""
    held, seen = [], []

    class Model:
        pass

    def context_of(plan, world):
        model = Model()
        held.append(weakref.ref(model))
        seen.append(plan.device)
        return RecipeContext(finder=model, picture=model, annotators={"sketch": model})

    monkeypatch.setattr(build_pairs, "context_of", context_of)

    def on_ray(folder, plan, tell, workers, gpus):
        gc.collect()
        assert [one() for one in held] == [None]
        seen.append(plan.device)
        return {"pairs": 1, "jobs": 1, "shards": []}

    monkeypatch.setattr(on_ray_module, "on_ray", on_ray)
    command = ["--out", str(tmp_path), "--count", "1", "--tasks", "sketch", "--quiet", "--ray"]
    assert build_pairs.main([*command, "--device", "auto", *options]) == 0
    assert seen == ["cpu", device]


def test_a_worker_without_its_device_or_models_hands_the_reason_back(capsys, tmp_path):
    plan = BuildPlan(count=1, tasks=("color",), device="abacus")
    threads = torch.get_num_threads()
    made = on_ray_module.Made(json.dumps(plan.to_json()))
    torch.set_num_threads(threads)
    told = made({"chunk": 3, "items": b"", "slip": ""})
    assert told["part"] == b"" and "device 'abacus' cannot be used" in told["slip"]
    command = ["--out", str(tmp_path), "--count", "1", "--ray", "--device", "cuda"]
    assert build_pairs.main(command) == 1 and "give --worker-gpus" in capsys.readouterr().err


def test_options_that_do_not_fit_are_told(tmp_path, capsys):
    captions = tmp_path / "c.txt"
    captions.write_text("a cat\n")
    for more, told in (
        (["--instructions", "oracle"], "writes no instructions"),
        (["--captions", str(captions), "--instructions", "server", "http://x/v1"], "needs --llm"),
        (["--pictures", str(tmp_path / "none")], "holds no"),
        (["--chunk-jobs", "3", "--shard-jobs", "8"], "no multiple"),
    ):
        if more[0] == "--instructions":
            more = [*more, "--captions", str(captions)]
        if "--captions" in more:
            more = [*more, "--pictures", str(tmp_path)]
        command = ["--out", str(tmp_path / "out"), "--count", "1", "--tasks", "color", "--quiet", *more]
        assert build_pairs.main(command) == 1
        assert told in capsys.readouterr().err, more


@pytest.mark.parametrize(
    "options, told",
    [
        (["--count", "0"], "count is 0"),
        (["--tasks", "local, nonsense"], "'nonsense' is no task"),
        (["--masks", "precise,round"], "'round' is no mask"),
        (["--masks", ","], "there are no masks"),
        (["--filters", "beauty"], "'beauty' is no filter"),
        (["--split", "holdout"], "'holdout' is no split"),
        (["--patience", "0"], "patience is 0"),
        (["--max-jobs", "-1"], "max_jobs is -1"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--tasks", "style", "--model", "nowhere"], "nowhere"),
    ],
)
def test_the_command_says_what_is_wrong(options, told, tmp_path, capsys):
    assert build_pairs.main(["--out", str(tmp_path / "out"), "--count", "1", *options]) == 1
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
