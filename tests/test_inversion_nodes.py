"""Task Examples and Task Inversion as nodes: batches, files that are never overwritten, Cancel, slips."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from toy_models import toy_backbone, toy_pictures

from emu_edit.core.errors import EmuEditError
from emu_edit.core.picture_files import save_picture
from emu_edit.core.task_files import load_task
from emu_edit.nodes import host, inversion
from emu_edit.nodes.inversion import TaskExamples, TaskInversion

QUICK = {"steps": 2, "rate": 0.3, "seed": 0, "batch": 2, "start": "none"}


@pytest.fixture(scope="module")
def editor():
    made = toy_backbone(task_width=12)
    torch.nn.init.normal_(made.unet.class_embedding.weight, std=0.3)
    return made


@pytest.fixture
def comfy(tmp_path, monkeypatch):
    """ComfyUI's folders in tmp_path."""
    fake = SimpleNamespace(
        get_folder_paths=lambda kind: [str(tmp_path / kind)],
        get_input_directory=lambda: str(tmp_path / "input"),
    )
    monkeypatch.setattr(host, "folder_paths", fake)
    return tmp_path


def learn(editor, name="outline", count=2, words="do it", **more):
    pictures = toy_pictures(2 * count)
    return TaskInversion().learn(editor, pictures[:count], pictures[count:], words, name, **QUICK | more)


def test_the_task_is_learnt_and_saved_once(editor, comfy):
    task, report, preview = learn(editor)
    folder = comfy / host.TASK_FOLDER
    assert preview.shape == (1, 64, 192, 3) and task.name == "outline"
    assert torch.equal(load_task(folder / "outline.safetensors", editor).vector, task.vector)
    assert "saved as outline.safetensors" in report and "learnt 'outline' from 2 examples" in report
    assert "saved before as outline.safetensors" in learn(editor)[1]
    assert "saved as outline 2.safetensors" in learn(editor, seed=1)[1]
    assert torch.equal(load_task(folder / "outline.safetensors").vector, task.vector)
    assert sorted(p.name for p in folder.iterdir()) == ["outline 2.safetensors", "outline.safetensors"]


def test_no_name_saves_nothing(editor, comfy):
    task, report, _ = learn(editor, name=" ")
    assert task.name == "learnt" and "not saved" in report
    assert not (comfy / host.TASK_FOLDER).exists()


def test_cancel_leaves_no_file_and_progress_never_goes_back(editor, comfy, monkeypatch):
    shown = []

    class Stopped(Exception):
        pass

    def stop():
        if shown and shown[-1][2] is not None:
            raise Stopped

    bar = SimpleNamespace(update_absolute=lambda *parts: shown.append(parts))
    monkeypatch.setattr(host, "comfy_utils", SimpleNamespace(ProgressBar=lambda total: bar))
    monkeypatch.setattr(host, "stop_if_interrupted", stop)
    with pytest.raises(Stopped):
        learn(editor, steps=60)
    assert not (comfy / host.TASK_FOLDER).exists()
    done = [part[0] for part in shown]
    assert done == sorted(done) and done[-1] < 100
    assert shown[-1][2][0] == "JPEG" and shown[-1][2][1].size == (192, 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../x"}, "Task Inversion, input name: '../x' cannot be a file's name"),
        ({"words": " \n "}, "the instructions are empty"),
        ({"words": "a\nb\nc"}, "there are 3 instructions for 2 pictures"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"start": "fly"}, "start is 'fly'"),
    ],
)
def test_slips_are_told(editor, comfy, change, words):
    with pytest.raises(EmuEditError, match=words):
        learn(editor, **change)
    assert not (comfy / host.TASK_FOLDER).exists()


def test_batches_of_other_lengths_are_told(editor):
    with pytest.raises(EmuEditError, match="there are 1 pictures before the edit but 2 after it"):
        TaskInversion().learn(editor, toy_pictures(1), toy_pictures(2), "x", "", **QUICK)


def test_the_packs_own_examples_are_twelve_pairs():
    source, target, words = TaskExamples().give("contours", 0)
    assert source.shape == target.shape == (12, 128, 128, 3)
    assert len(words.splitlines()) == 12 and "contours" in words
    assert TaskExamples().give("contours", 3)[0].shape[0] == 3
    assert float(target.std()) > 0.05 and not torch.equal(source, target)


def test_folders_of_the_user_are_offered(comfy):
    folder = comfy / "input" / inversion.INPUT_FOLDER / "mine"
    folder.mkdir(parents=True)
    for name, height in (("a", 32), ("b", 64)):
        picture = toy_pictures(1, height, 2 * height)
        save_picture(folder / f"{name}.source.png", picture)
        save_picture(folder / f"{name}.target.png", picture)
        (folder / f"{name}.txt").write_text("do\nit")
    assert TaskExamples.INPUT_TYPES()["required"]["folder"][0] == ["contours", "mine"]
    source, _, words = TaskExamples().give("mine", 0)
    assert source.shape == (2, 32, 64, 3) and words == "do it\ndo it"
    before = TaskExamples.IS_CHANGED("mine", 0)
    (folder / "a.txt").write_text("do something else")
    assert TaskExamples.IS_CHANGED("mine", 0) != before
    save_picture(folder / "b.source.png", toy_pictures(1, 64, 64))
    save_picture(folder / "b.target.png", toy_pictures(1, 64, 64))
    with pytest.raises(EmuEditError, match="b: it is 64x64 pixels but a is 64x32"):
        TaskExamples().give("mine", 0)
    assert "is no folder" in TaskExamples.VALIDATE_INPUTS("gone")
