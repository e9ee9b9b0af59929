"""Pairs judged by their scenes: a true edit passes; nothing done, or more done than asked, does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emu_edit.training.pairs.judge import TASKS, Reader, differences, judge_pair, moved_outside, shows
from emu_edit.training.small.edits import Example, as_bytes
from emu_edit.training.small.render import render
from emu_edit.training.small.scene import ANCHORS, Obj, Scene, Text

SIZE = 64
BALL = Obj("ball", "red", "plain", 36, 112, 40)
CAR = Obj("car", "blue", "plain", 92, 112, 40)
TREE = Obj("tree", "green", "plain", ANCHORS["right"][0], ANCHORS["right"][1], 38)
SCENE = Scene("beach", (BALL, CAR))
READ = Reader()


def drawn(scene):
    return torch.from_numpy(as_bytes(render(scene, SIZE)).astype("float32") / 255)


def asked(task, before, after, focus=None, kind=""):
    picture = as_bytes(render(before, SIZE))
    return Example(task, "", picture, picture, picture[..., 0], "", "", "", kind, before, after, focus)


def with_thing(k, **changes):
    things = list(SCENE.objects)
    things[k] = replace(things[k], **changes)
    return replace(SCENE, objects=tuple(things))


EDITS = {
    "recolour": asked("local", SCENE, with_thing(0, colour="green"), 0, "recolour"),
    "swap": asked("local", SCENE, with_thing(1, shape="house"), 1, "swap"),
    "bigger": asked("local", SCENE, with_thing(0, size=56), 0, "bigger"),
    "smaller": asked("local", SCENE, with_thing(0, size=28), 0, "smaller"),
    "texture": asked("texture", SCENE, with_thing(0, texture="striped"), 0, "pattern"),
    "remove": asked("remove", SCENE, replace(SCENE, objects=(CAR,)), 0, "remove"),
    "add": asked("add", replace(SCENE, objects=(BALL,)), replace(SCENE, objects=(BALL, TREE)), 1, "placed"),
    "background": asked("background", SCENE, replace(SCENE, background="city")),
    "global": asked("global", SCENE, replace(SCENE, effect="night")),
}


def judged(name, source, target):
    return judge_pair(EDITS[name], drawn(source), drawn(target), READ)


@pytest.mark.parametrize("name", EDITS)
def test_a_true_edit_is_right_and_an_unchanged_picture_is_not(name):
    made = EDITS[name]
    found = judged(name, made.before, made.after)
    assert found.right and found.before and found.after
    assert found.moved is None if name == "global" else found.moved < 0.01
    assert found.placed is (True if name == "add" else None)
    same = judged(name, made.before, made.before)
    assert not same.done and same.rest and not same.right


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_that_moved_or_changed_another_thing_is_not_right(name):
    made = EDITS[name]
    k = 0 if name in ("add", "swap") else -1
    things = list(made.after.objects)
    things[k] = replace(things[k], x=things[k].x - 26 if things[k].x > 64 else things[k].x + 26)
    found = judged(name, made.before, replace(made.after, objects=tuple(things)))
    assert found.done and not found.rest and not found.right
    if name != "global":
        assert found.moved > 0.002
    lettered = judged(name, made.before, replace(made.after, text=Text("zoo")))
    assert not lettered.rest


@pytest.mark.parametrize("name", ("recolour", "texture", "remove", "add"))
def test_an_edit_that_changed_the_backdrop_is_not_right(name):
    made = EDITS[name]
    found = judged(name, made.before, replace(made.after, background="forest"))
    assert found.done and not found.rest


def test_what_is_not_the_edit_asked_for():
    assert not judged("recolour", SCENE, with_thing(0, colour="purple")).done
    assert not judged("recolour", SCENE, with_thing(0, colour="green", x=78)).done  # another place
    assert not judged("bigger", SCENE, with_thing(0, size=28)).done
    assert not judged("remove", SCENE, with_thing(0, x=62)).done  # it has only moved
    assert judged("remove", SCENE, replace(SCENE, objects=(BALL,))).right is False  # the wrong thing
    assert not judged("add", EDITS["add"].after, EDITS["add"].after).done  # it was there already
    moved = replace(TREE, x=100 - 36)
    assert not judged("add", replace(SCENE, objects=(moved,)), replace(SCENE, objects=(TREE,))).done
    assert not judged("background", SCENE, replace(SCENE, background="moon")).done
    assert not judged("global", SCENE, replace(SCENE, effect="winter")).done


def test_an_added_thing_elsewhere_is_added_but_not_placed():
    left = replace(TREE, x=88, y=100)
    before = replace(SCENE, objects=(BALL,))
    assert judged("add", before, replace(before, objects=(BALL, left))).placed is True
    top = replace(TREE, x=100, y=60, grounded=False)
    found = judged("add", before, replace(before, objects=(BALL, top)))
    assert found.done and found.rest and found.placed is False
    anywhere = replace(EDITS["add"], kind="anywhere")
    assert judge_pair(anywhere, drawn(before), drawn(EDITS["add"].after), READ).placed is None


def test_a_scene_shows_its_caption_wherever_its_things_stand():
    assert shows(with_thing(0, x=60, size=30), SCENE)
    assert not shows(with_thing(0, colour="pink"), SCENE)
    assert not shows(replace(SCENE, objects=(BALL,)), SCENE)
    assert not shows(replace(SCENE, effect="rain"), SCENE)
    twice = replace(SCENE, objects=(BALL, BALL))
    assert not shows(twice, SCENE) and differences(twice, SCENE) == ([1], [1])


def test_movement_outside_a_mask():
    one, other = torch.zeros(4, 4, 3), torch.zeros(4, 4, 3)
    other[0] = 1.0
    other[3] = 0.5
    mask = torch.zeros(4, 4)
    mask[0] = 0.2
    assert moved_outside(one, other, mask) == pytest.approx(0.5 / 3)
    assert moved_outside(one, other, torch.ones(4, 4)) is None
    assert moved_outside(one, other, None) is None


def test_other_tasks_are_refused():
    assert set(TASKS) == {made.task for made in EDITS.values()}
    with pytest.raises(ValueError, match="detect"):
        judge_pair(asked("detect", SCENE, SCENE, 0), drawn(SCENE), drawn(SCENE), READ)
