"""Editors as folders: what is refused, in one sentence, and saves that are cut short."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch
from editors_on_disk import prediction, save_trained
from toy_models import toy_backbone

import emu_edit.core.editor_folder as editor_folder
from emu_edit.core.checkpoints import (
    fingerprint,
    load_editor,
    save_editor,
)
from emu_edit.core.errors import EmuEditError


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to look up or reach another machine fails the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def rewrite(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(scope="module")
def emu(tmp_path_factory):
    """A folder with a small Emu Edit model, what it predicts for "add", and its fingerprint."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    editor = save_trained(folder)
    return folder, prediction(editor, "add"), fingerprint(editor)


@pytest.fixture
def copy(emu, tmp_path):
    """A copy of that folder to spoil."""
    return Path(shutil.copytree(emu[0], tmp_path / "toy"))


# --- bad input ----------------------------------------------------------------------------------------


def test_missing_path_and_folder_of_something_else(tmp_path):
    for name in ("nothing", "nothing.safetensors", "v1.5"):
        with pytest.raises(EmuEditError, match=f"{name} does not exist"):
            load_editor(tmp_path / name)
    with pytest.raises(EmuEditError, match="is not a model folder"):
        load_editor(tmp_path)
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes(b"PK\x03\x04")
    with pytest.raises(EmuEditError, match="pickled checkpoint"):
        load_editor(checkpoint)


SPOILED = {
    "unet/diffusion_pytorch_model.safetensors": "does not exist",
    "vae/config.json": "does not exist",
    "text_encoder/model.safetensors": "does not exist",
    "tokenizer/tokenizer.json": "holds no tokenizer",
    "scheduler/scheduler_config.json": "does not exist",
    "emu_edit/config.json": "takes task vectors but",
    "emu_edit/tasks.safetensors": "does not exist",
}


@pytest.mark.parametrize("name", SPOILED)
def test_missing_file(copy, name, no_network):
    (copy / name).unlink()
    with pytest.raises(EmuEditError, match=SPOILED[name]):
        load_editor(copy)


@pytest.mark.parametrize("name", [name for name in SPOILED if "tokenizer" not in name])
def test_truncated_file(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(EmuEditError, match=f"{Path(name).name}.*(truncated|not readable)"):
        load_editor(copy)


def test_pickled_weights_in_a_folder(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(EmuEditError, match=r"diffusion_pytorch_model.bin is a pickled checkpoint"):
        load_editor(copy)


def test_index_of_shards_stays_in_its_folder(copy, tmp_path):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "outside.safetensors")
    index = weights.with_name(weights.name + ".index.json")
    index.write_text(json.dumps({"weight_map": {"a": "../../outside.safetensors"}}))
    with pytest.raises(EmuEditError, match="unet/outside.safetensors does not exist"):
        load_editor(copy)


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        (
            "unet/config.json",
            {"_class_name": "FluxTransformer2DModel"},
            "FluxTransformer2DModel.*not supported",
        ),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "SDXL"),
        ("unet/config.json", {"down_block_types": ["Odd"] * 4}, "configuration is not usable"),
        ("unet/config.json", {"block_out_channels": [24, 32, 32, 32]}, "but this UNet2DConditionModel needs"),
        ("unet/config.json", {"in_channels": None}, "in_channels is None and should be a whole number"),
        (
            "vae/config.json",
            {"latent_channels": 16},
            "has 8 input channels; an InstructPix2Pix editor has 32",
        ),
        ("vae/config.json", {"_class_name": "os"}, "'os', which is not supported"),
        ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
        ("text_encoder/config.json", {"num_attention_heads": 0}, "configuration is not usable"),
        ("text_encoder/config.json", {"hidden_size": 48}, "text encoder is 48 wide, its U-Net reads 32"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "one text encoder"),
        ("emu_edit/config.json", {"version": 4}, "version 4"),
        ("emu_edit/config.json", {"task_names": "add"}, "list of names"),
        (
            "emu_edit/config.json",
            {"task_width": 7},
            "task width 7 and context 32 but the U-Net takes 6 and 32",
        ),
        ("emu_edit/config.json", {"task_names": ["add"]}, r"table.weight' has shape \[16, 6\]"),
        ("emu_edit/config.json", {"predicts": "odd"}, "predicts 'odd'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "odd"}, "odd"),
    ],
)
def test_wrong_architecture_or_width(copy, file, changes, sentence):
    rewrite(copy / file, **changes)
    with pytest.raises(EmuEditError, match=sentence):
        load_editor(copy)


def test_text_to_image_folder_is_no_editor(tmp_path):
    folder = save_editor(toy_backbone(in_channels=4), tmp_path / "t2i")
    with pytest.raises(EmuEditError, match="has 4 input channels.*an InstructPix2Pix editor has 8"):
        load_editor(folder)


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_missing_package(emu, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        EmuEditError, match=f"'{package}' is needed to load an editor.*pip install transformers diffusers"
    ):
        load_editor(emu[0])


# --- saving safely ------------------------------------------------------------------------------------


def test_saving_again_replaces_ours_and_keeps_what_others_put_there(copy):
    (copy / "README.md").write_text("mine")
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"stale")
    editor = load_editor(copy)
    editor.defaults["steps"] = 9
    save_editor(editor, copy)
    assert load_editor(copy).defaults["steps"] == 9
    assert (copy / "README.md").read_text() == "mine"
    assert not (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
    assert os.listdir(copy.parent) == ["toy"]


def test_folder_of_something_else_is_not_overwritten(emu, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    editor = load_editor(emu[0])
    for place in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(EmuEditError, match="not an editor's folder"):
            save_editor(editor, place)
    assert os.listdir(tmp_path) == ["letter.txt"]


@pytest.mark.parametrize("moment", ["tensors", "swap"])
@pytest.mark.parametrize("fault", [OSError("No space left on device"), KeyboardInterrupt()])
def test_crash_in_a_save_leaves_the_old_editor_whole(copy, monkeypatch, moment, fault):
    editor = load_editor(copy)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    real = os.replace

    def fail_tensors(path, *_):
        if path.parent.name == "text_encoder":
            raise fault

    def fail_swap(old, new):
        if str(old).endswith(".part") and Path(new) == copy:
            raise fault
        real(old, new)

    if moment == "tensors":
        monkeypatch.setattr(editor_folder, "write_tensors", fail_tensors)
    else:
        monkeypatch.setattr(editor_folder.os, "replace", fail_swap)
    with pytest.raises(EmuEditError if isinstance(fault, OSError) else KeyboardInterrupt):
        save_editor(editor, copy)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before
    assert os.listdir(copy.parent) == ["toy"]


def test_killed_between_the_two_renames(copy, emu):
    # Then the old folder stands under its other name, and the new one was not yet in place.
    editor = load_editor(copy)
    copy.rename(copy.with_name(".toy.old"))
    with pytest.raises(EmuEditError, match="a save was interrupted, so rename .*/.toy.old to toy"):
        load_editor(copy)
    (copy.with_name(".toy.old") / "README.md").write_text("mine")
    save_editor(editor, copy)
    assert torch.equal(prediction(load_editor(copy), "add"), emu[1])
    assert os.listdir(copy.parent) == ["toy"] and (copy / "README.md").exists()


def test_killed_after_the_second_rename(copy):
    # Then what others had put there is still in the former folder.
    former = Path(shutil.copytree(copy, copy.with_name(".toy.old")))
    (former / "README.md").write_text("mine")
    save_editor(load_editor(copy), copy)
    assert (copy / "README.md").read_text() == "mine" and os.listdir(copy.parent) == ["toy"]
