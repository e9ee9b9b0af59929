"""Task files: written whole, read with care."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import emu_edit.core.weights as weights
from emu_edit.core.errors import EmuEditError
from emu_edit.core.task_conditioning import TaskConditioner
from emu_edit.core.task_files import TASK_FORMAT, check_task, load_task, save_task
from emu_edit.core.tasks import TaskVector


def editor(width: int = 8, seed: int = 0, tasks: bool = True):
    if not tasks:
        return SimpleNamespace(name="plain", task_width=None, task_base="")
    conditioner = TaskConditioner(width, 4, seed=seed)
    return SimpleNamespace(name="toy", task_width=width, task_base=conditioner.fingerprint())


@pytest.fixture
def task() -> TaskVector:
    values = torch.randn(8, generator=torch.Generator().manual_seed(0))
    about = {"author": "someone", "note": "4x larger"}
    return TaskVector("upscale", values, editor().task_base, 100, about)


def test_what_is_saved_is_loaded(task, tmp_path):
    path = save_task(tmp_path / "new" / "upscale.safetensors", task)
    back = load_task(path, editor())
    assert torch.equal(back.vector, task.vector)
    assert (back.name, back.base, back.examples) == (task.name, task.base, task.examples)
    assert back.metadata == task.metadata
    assert path.stat().st_size < 4096 and os.listdir(path.parent) == [path.name]


def test_free_text_cannot_take_the_place_of_the_label(task, tmp_path):
    odd = TaskVector("t", task.vector, "b", 1, {"width": "3", "task_format": "x", "name": "y", "kept": "z"})
    back = load_task(save_task(tmp_path / "t.safetensors", odd))
    assert back.width == 8 and back.name == "t" and back.metadata == {"kept": "z"}


def test_task_for_another_editor(task, tmp_path):
    path = save_task(tmp_path / "t.safetensors", task)
    assert load_task(path).base == task.base
    other = editor(seed=1)
    with pytest.raises(EmuEditError, match=f"{task.base} but 'toy' is {other.task_base}"):
        load_task(path, other)
    with pytest.raises(
        EmuEditError, match="t.safetensors: this task has width 8 but the editor 'toy' takes 6"
    ):
        load_task(path, editor(width=6))
    with pytest.raises(EmuEditError, match="no task embeddings"):
        load_task(path, editor(tasks=False))


def test_task_for_any_editor_need_only_fit(task):
    check_task(TaskVector("t", task.vector, ""), editor(seed=7), "here")


def test_name_must_end_in_safetensors(task, tmp_path):
    with pytest.raises(EmuEditError, match="must end in .safetensors"):
        save_task(tmp_path / "t.pt", task)


def test_files_that_are_no_task_files(task, tmp_path):
    path = tmp_path / "t.safetensors"
    with pytest.raises(EmuEditError, match="does not exist"):
        load_task(path)
    save_file({f"w{i}": torch.zeros(1) for i in range(5)}, path)
    with pytest.raises(EmuEditError, match=r"not a task file \(it holds w0, w1, w2 and 2 more tensors\)"):
        load_task(path)
    label = {"task_format": TASK_FORMAT, "width": "4", "name": "t"}
    save_file({"task": torch.zeros(3)}, path, metadata=label)
    with pytest.raises(EmuEditError, match=r"shape \[3\] but its label says width 4"):
        load_task(path)
    save_file({"task": torch.zeros(4)}, path, metadata=label | {"examples": "many"})
    with pytest.raises(EmuEditError, match="'many' examples"):
        load_task(path)
    save_file({"task": torch.full((4,), float("nan"))}, path, metadata=label)
    with pytest.raises(EmuEditError, match="NaN"):
        load_task(path)


@pytest.mark.parametrize("name", ["t.ckpt", "t.pt", "t.pth", "t.bin", "t.pkl"])
def test_pickled_by_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"anything")
    with pytest.raises(EmuEditError, match="pickled checkpoint.*use the .safetensors"):
        load_task(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x80\x04\x95\x10" + bytes(60), "pickled"),
        (b"PK\x03\x04" + bytes(60), "pickled"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"<!DOCTYPE html>", "not a safetensors file"),
        (b"", r"\(0 bytes\) is not a safetensors file"),
        (b"\xff" * 8 + b"{" + bytes(50), "truncated or damaged"),
    ],
)
def test_by_content_whatever_the_name(tmp_path, content, sentence):
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(EmuEditError, match=sentence):
        load_task(path)


def test_every_truncation_is_told(task, tmp_path):
    whole = save_task(tmp_path / "t.safetensors", task).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in (*range(0, 40), *range(40, len(whole), 37), len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(EmuEditError, match="cut.safetensors"):
            load_task(cut)


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(EmuEditError, match="is not a file"):
        load_task(tmp_path)


@pytest.mark.parametrize("moment", ["write", "rename"])
@pytest.mark.parametrize("fault", [OSError("No space left on device"), KeyboardInterrupt()])
def test_crash_in_a_save_leaves_the_old_file_whole(task, tmp_path, monkeypatch, moment, fault):
    path = save_task(tmp_path / "t.safetensors", task)
    before = path.read_bytes()

    def half_write(tensors, file, metadata=None):
        with open(file, "wb") as out:
            out.write(before[:20])
        raise fault

    def no_rename(*_):
        raise fault

    if moment == "write":
        monkeypatch.setattr(weights, "save_file", half_write)
    else:
        monkeypatch.setattr(weights.os, "replace", no_rename)
    other = TaskVector("other", task.vector + 1, "", 0)
    with pytest.raises(EmuEditError if isinstance(fault, OSError) else KeyboardInterrupt):
        save_task(path, other)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["t.safetensors"]
