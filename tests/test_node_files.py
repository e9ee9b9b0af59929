"""Nodes that read files: menus of models and tasks, loading once and anew, example pictures."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from test_nodes import NUMBERS
from toy_models import toy_backbone, toy_pictures

from emu_edit.core.errors import EmuEditError
from emu_edit.core.tasks import TaskVector
from emu_edit.nodes import host, loaders, pictures, tasks
from emu_edit.nodes.edit import EditByInstruction
from emu_edit.nodes.loaders import BUNDLED, LoadEditor
from emu_edit.nodes.pictures import ExamplePicture
from emu_edit.nodes.tasks import PickTask


@pytest.fixture(scope="module")
def editor():
    return toy_backbone(task_width=12)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A stand-in for ComfyUI's folder_paths over tmp_path: models/checkpoints, diffusers, emu_edit_tasks."""
    roots = {kind: tmp_path / kind for kind in ("checkpoints", "diffusers", host.TASK_FOLDER)}
    for folder in roots.values():
        folder.mkdir()

    def names(kind):
        return sorted(str(p.relative_to(roots[kind])) for p in roots[kind].rglob("*") if p.is_file())

    fake = SimpleNamespace(
        get_folder_paths=lambda kind: [str(roots[kind])],
        get_filename_list=names,
        get_full_path=lambda kind, name: str(roots[kind] / name),
    )
    monkeypatch.setattr(host, "folder_paths", fake)
    return roots


def test_task_files(models, editor):
    from emu_edit.core.checkpoints import save_task

    path = models[host.TASK_FOLDER] / "mine.safetensors"
    (models[host.TASK_FOLDER] / "notes.txt").write_text("not a task")
    save_task(path, TaskVector("mine", torch.arange(12.0), base=editor.task_base))
    assert [c for c in tasks.task_choices() if "." in c] == ["file: mine.safetensors"]
    vector, name = PickTask().pick("file: mine.safetensors", editor=editor)
    assert name == "mine" and torch.equal(vector.vector, torch.arange(12.0))
    before = PickTask.IS_CHANGED("file: mine.safetensors")
    save_task(path, TaskVector("mine, longer trained", torch.zeros(12), base="another"))
    assert PickTask.IS_CHANGED("file: mine.safetensors") != before
    with pytest.raises(EmuEditError, match="^Task, input task: "):
        PickTask().pick("file: mine.safetensors", editor=editor)
    with pytest.raises(EmuEditError, match="^Task, input task: "):
        PickTask().pick("file: ../../secret.safetensors")


def test_load_editor_menu_stays_inside_the_model_folders(models, tmp_path):
    (models["checkpoints"] / "photo.safetensors").write_bytes(b"")
    (models["checkpoints"] / "old.ckpt").write_bytes(b"")
    for name in ("nice", "deep/er"):
        (models["diffusers"] / name / "unet").mkdir(parents=True)
        (models["diffusers"] / name / "unet" / "config.json").write_text("{}")
    (models["diffusers"] / "empty").mkdir()
    expected = [BUNDLED, "diffusers/deep/er", "diffusers/nice", "checkpoints/photo.safetensors"]
    assert list(loaders.editors()) == expected
    assert LoadEditor.VALIDATE_INPUTS("checkpoints/photo.safetensors") is True
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"")
    for name in (str(outside), "checkpoints/../outside.safetensors", "diffusers/..", ""):
        assert "not among the editors" in str(LoadEditor.VALIDATE_INPUTS(name))
        with pytest.raises(EmuEditError, match="^Load Editor, input editor: "):
            LoadEditor().load(name, "auto", "auto")


def test_load_editor_loads_once_and_again_when_the_files_change(models, editor):
    from emu_edit.core.checkpoints import save_editor

    save_editor(editor, models["diffusers"] / "toy")
    chosen = {"editor": "diffusers/toy", "device": "cpu", "precision": "auto"}
    (first,) = LoadEditor().load(**chosen)
    assert LoadEditor().load(**chosen)[0] is first
    changed = LoadEditor.IS_CHANGED(**chosen)
    assert changed == LoadEditor.IS_CHANGED(**chosen)
    assert LoadEditor().load(**{**chosen, "precision": "bfloat16"})[0].dtype == torch.bfloat16
    # The tasks' fingerprint differs, so a stale copy would be told apart.
    save_editor(toy_backbone(task_width=8), models["diffusers"] / "toy")
    assert LoadEditor.IS_CHANGED(**chosen) != changed
    (second,) = LoadEditor().load(**chosen)
    assert second.task_width == 8
    (edited,) = EditByInstruction().run(second, toy_pictures(), "add a hat", **NUMBERS)
    assert edited.shape == (1, 64, 64, 3)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x10\x00\x00\x00\x00\x00\x00\x00{"])
def test_bad_checkpoints_are_one_sentence(models, content):
    (models["checkpoints"] / "bad.safetensors").write_bytes(content)
    with pytest.raises(EmuEditError) as slip:
        LoadEditor().load("checkpoints/bad.safetensors", "cpu", "auto")
    assert str(slip.value).startswith("Load Editor, input editor: ") and "\n" not in str(slip.value)


def test_example_pictures_and_their_instructions(tmp_path, monkeypatch):
    from emu_edit.core.picture_files import save_picture

    save_picture(tmp_path / "ball.png", toy_pictures())
    save_picture(tmp_path / "tree.png", toy_pictures())
    listing = {"edits": [{"picture": "pictures/ball.png", "instruction": "make the ball blue"}]}
    (tmp_path / "demo.json").write_text(json.dumps(listing))
    monkeypatch.setattr(host, "PICTURES", tmp_path)
    assert ExamplePicture.INPUT_TYPES()["required"]["picture"][0] == ["ball.png", "tree.png"]
    image, words = ExamplePicture().give("ball.png")
    assert image.shape == (1, 64, 64, 3) and words == "make the ball blue"
    assert ExamplePicture().give("tree.png")[1] == ""
    with pytest.raises(EmuEditError, match="^Example Picture, input picture: "):
        ExamplePicture().give("../ball.png")


def test_shipped_pictures_have_instructions():
    for name in pictures.pictures():
        assert pictures.suggestion(name).strip(), name


def test_plain_fallbacks_outside_comfyui(models):
    assert host.run_device("cpu") == torch.device("cpu")
    assert host.run_dtype("auto", torch.device("cpu")) == torch.float32
    assert host.tokenizer_folders() == () and host.latent_colours(4) is None
    host.stop_if_interrupted()
    host.Progress(3).show(1, 3)
    host.remark(["nobody hears this"])
