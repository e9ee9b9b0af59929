"""The scene parser, the rules of success, and the report of an evaluation, on pictures of the small world."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emu_edit.core.errors import EmuEditError
from emu_edit.training import evaluate
from emu_edit.training.small import edits, parser, report, rules
from emu_edit.training.small.render import render
from emu_edit.training.small.scene import Obj, Scene, Text
from emu_edit.training.small.translations import MAPS

SIZE = 64


def example(task, kind="", seed=77):
    return next(
        made
        for index in range(400)
        if (made := edits.make_example(seed, index, (task,), SIZE)) and kind in ("", made.kind)
    )


def judged(made, picture):
    found = rules.judge(made, picture)
    assert found["success"] in (0.0, 1.0) and bool(found["by"]) == bool(found["success"])
    return found


@pytest.mark.parametrize(
    "scene",
    [
        Scene("room", (Obj("ball", "red", "plain", 40, 110, 40),)),
        Scene("beach", (Obj("car", "green", "striped", 80, 118, 52, True),), effect="night"),
        Scene("moon", (Obj("robot", "blue", "plain", 60, 116, 60, pose="cheering"),), mirrored=True),
        Scene(
            "city",
            (Obj("cup", "brown", "wooden", 24, 46, 38, grounded=False),),
            Text("love", "red", "bottom"),
        ),
        Scene("forest", ()),
    ],
)
@pytest.mark.parametrize("size", [SIZE, 128])
def test_the_parser_reads_known_scenes(scene, size):
    read = parser.read_scene(edits.as_bytes(render(scene, size)))
    assert (read.background, read.effect, read.text) == (scene.background, scene.effect, scene.text)
    assert len(read.objects) == len(scene.objects)
    assert all(parser.holds(read, obj, size=1.2) for obj in scene.objects)
    for obj in scene.objects:
        assert not parser.holds(read, replace(obj, colour="pink", texture="plain"))
        assert not parser.holds(read, replace(obj, x=obj.x + 30))
        assert not parser.holds(read, replace(obj, size=2 * obj.size, y=obj.y + obj.size // 2), size=1.2)


def test_the_parser_reads_through_blur_and_noise():
    scene = Scene(
        "desert", (Obj("tree", "purple", "plain", 90, 112, 48), Obj("hat", "red", "plain", 34, 116, 40))
    )
    picture = render(scene, SIZE) + np.random.default_rng(1).normal(0, 0.05, (SIZE, SIZE, 3))
    soft = 0.5 * picture + 0.5 * rules.blur(picture.astype(np.float32), 1, 1)
    read = parser.read_scene(np.clip(soft, 0, 1))
    assert read.background == "desert" and all(parser.holds(read, obj) for obj in scene.objects)


def test_the_parser_reports_its_own_accuracy(capsys):
    parser.main(["--scenes", "4", "--size", "64", "--seed", "5", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {"backdrop", "weather", "count", "place", "shape", "colour", "texture", "scene"} <= found.keys()
    assert found["scenes"] == 4 and found["object"] >= 0.75


@pytest.mark.parametrize("task", edits.TASKS)
def test_the_true_answer_passes_and_the_unedited_picture_fails(task):
    for kind in ("map", "back") if task in MAPS else ("",):
        made = example(task, kind)
        assert judged(made, made.target / 255)["by"] == "pixels"
        assert judged(made, made.source / 255)["success"] == 0.0
        assert judged(made, np.full_like(made.source, 128) / 255)["success"] == 0.0


@pytest.mark.parametrize("task", ["depth", "segmentation", "pose", "normal", "sketch"])
def test_a_map_without_the_objects_fails(task):
    made = example(task, "map")
    empty = edits._MAPS[task](replace(made.after, objects=()), SIZE)
    assert judged(made, empty)["success"] == 0.0


def test_a_thing_added_a_little_beside_is_added_and_one_far_off_is_not():
    made = example("add", "placed")
    new = made.after.objects[-1]
    step = 6 if new.x < 64 else -6
    beside = replace(made.after, objects=(*made.before.objects, replace(new, x=new.x + step, y=new.y - 3)))
    assert judged(made, render(beside, SIZE))["by"] == "parser"
    far = replace(made.after, objects=(*made.before.objects, replace(new, x=new.x + 8 * step)))
    assert judged(made, render(far, SIZE))["success"] == 0.0
    other = replace(made.after, objects=(*made.before.objects, replace(new, shape="star", colour="yellow")))
    assert judged(made, render(other, SIZE))["success"] == 0.0


def test_wrong_colours_sizes_words_and_backdrops_fail():
    made = example("local", "recolour")
    wrong = list(made.after.objects)
    wrong[made.focus] = replace(
        wrong[made.focus], colour="pink" if wrong[made.focus].colour != "pink" else "green"
    )
    assert judged(made, render(replace(made.after, objects=tuple(wrong)), SIZE))["success"] == 0.0
    made = example("text", "write")
    other = replace(
        made.after, text=replace(made.after.text, word="zoo" if made.after.text.word != "zoo" else "fun")
    )
    assert judged(made, render(other, SIZE))["success"] == 0.0
    made = example("background")
    elsewhere = "city" if made.after.background != "city" else "beach"
    assert judged(made, render(replace(made.after, background=elsewhere), SIZE))["success"] == 0.0
    made = example("depth", "back")
    painted = tuple(
        replace(o, colour="green" if o.colour != "green" else "red", texture="plain")
        for o in made.after.objects
    )
    assert judged(made, render(replace(made.after, objects=painted), SIZE))["success"] == 0.0


def test_boxes_and_masks_are_judged_by_their_overlap():
    made = example("detect")
    near, far = np.roll(made.target, 1, 1), np.roll(made.target, 20, 0)
    box = (made.target == edits.BOX_COLOUR).all(-1)
    for shifted, done in ((near, 1.0), (far, 0.0)):
        drawn = (shifted == edits.BOX_COLOUR).all(-1)
        picture = np.where(drawn[..., None], edits.BOX_COLOUR, made.source) / 255
        assert box.any() and judged(made, picture)["success"] == done
    made = example("segment")
    everything = np.broadcast_to(np.array((0, 255, 64)) / 255, made.source.shape)
    assert judged(made, everything)["success"] == 0.0


class Oracle:
    """An editor that knows the answers to every second question."""

    name, task_names, defaults = "oracle", edits.TASKS, {"size": SIZE}

    def task_vector(self, name):
        return torch.full((3,), float(edits.TASKS.index(name)))

    def encode_image(self, pictures):
        return pictures

    def decode_latents(self, latents):
        return latents


@pytest.fixture
def oracle(monkeypatch):
    asked = []

    def edit(editor, source, instructions, vectors, settings):
        asked.extend(zip(instructions, vectors if vectors is not None else [None] * len(source), strict=True))
        images = source.clone()
        for n, (picture, words) in enumerate(zip(source, instructions, strict=True)):
            made = known[words, picture.sum().item()]
            if made[0] % 2 == 0:
                images[n] = torch.from_numpy(made[1]).float() / 255
        return SimpleNamespace(images=images)

    known, original = {}, evaluate.make_example

    def remembered(*args, **options):
        made = original(*args, **options)
        key = made.instruction, (torch.from_numpy(made.source).float() / 255).sum().item()
        known[key] = (len(known), made.target)
        return made

    monkeypatch.setattr(evaluate, "make_example", remembered)
    monkeypatch.setattr(evaluate, "edit", edit)
    return asked


def test_the_report_counts_what_was_done(oracle, tmp_path):
    tasks = ("remove", "color", "segment")
    found, made = evaluate.evaluate(scenes=12, tasks=tasks, batch=5, editor=Oracle(), apart=("pairs",))
    assert [entry["example"].task for entry in made[:3]] == list(tasks)
    assert found["mean_success"] == pytest.approx(0.5) and found["mean_ceiling"] == 1.0
    assert found["mean_identity"] == 0.0 and found["seconds_per_edit"] >= 0
    assert found["tasks"].keys() == set(tasks) and found["splits"].keys() == {"pairs"}
    for row in found["tasks"].values():
        assert {"success", "inside", "outside", "n", "l1", "kinds"} <= row.keys() and row["n"] == 4
        assert row["interval"][0] < row["success"] < row["interval"][1]
    assert sum(row["n"] for row in found["splits"]["pairs"]["tasks"].values()) == 6
    json.dumps(found)
    table = report.markdown(found)
    assert table.count("\n| ") >= 4 and "segment: the pixels marked" in table
    picture = report.sheet(made)
    assert picture.width == 3 * (3 * 96 + 8) and picture.height == 3 * 136


def test_the_same_seed_asks_the_same_and_another_seed_asks_anew(oracle):
    asked = [
        [entry["example"].instruction for entry in evaluate.evaluate(
            scenes=4, seed=seed, tasks=("color",), editor=Oracle(), apart=())[1]]
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize("mode", evaluate.MODES)
def test_which_task_the_editor_is_told(oracle, mode):
    found, made = evaluate.evaluate(scenes=3, tasks=("remove",), editor=Oracle(), apart=(), task=mode)
    vectors = [vector for _, vector in oracle]
    if mode == "none":
        assert vectors == [None] * 3 and found["told_right"] == 0.0
    else:
        told = [edits.TASKS[int(vector[0])] for vector in vectors]
        assert told == [entry["told"] for entry in made]
        assert found["told_right"] == pytest.approx(told.count("remove") / 3, abs=1e-3)


def test_an_unknown_mode_is_refused():
    with pytest.raises(EmuEditError, match="--task"):
        evaluate.evaluate(task="guess", editor=Oracle())
