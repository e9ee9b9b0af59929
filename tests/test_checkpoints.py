"""Editors as folders: loaded without network, upgraded exactly, saved whole."""

from __future__ import annotations

import json
import socket

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionInstructPix2PixPipeline
from editors_on_disk import prediction, save_trained, with_trained_tasks
from safetensors.torch import load_file, save_file
from toy_models import CONTEXT, SD_SCHEDULE, toy_backbone

from emu_edit.core.checkpoints import (
    bundled_editor_path,
    fingerprint,
    load_editor,
    load_task,
    save_editor,
    save_task,
    upgrade_to_emu,
)
from emu_edit.core.errors import EmuEditError
from emu_edit.core.tasks import TASK_IDS, TaskVector


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to look up or reach another machine fails the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def emu(tmp_path_factory):
    """A folder with a small Emu Edit model, what it predicts for "add", and its fingerprint."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    editor = save_trained(folder)
    return folder, prediction(editor, "add"), fingerprint(editor)


# --- loading and saving -------------------------------------------------------------------------------


def test_saved_editor_is_the_same_editor(emu, no_network):
    folder, expected, mark = emu
    editor = load_editor(folder)
    assert torch.equal(prediction(editor, "add"), expected)
    assert fingerprint(editor) == mark and editor.task_names == TASK_IDS and editor.name == "toy"
    assert (editor.predicts, editor.image_condition_scale) == ("change", "scaled")
    assert editor.latent_input == "estimate"
    assert editor.defaults["steps"] == 4
    assert not editor.unet.training and not editor.vae.training and not editor.text_encoder.training


def test_folder_holds_safetensors_json_and_vocabulary_alone(emu):
    files = {p.relative_to(emu[0]).as_posix() for p in emu[0].rglob("*") if p.is_file()}
    assert {p.rsplit(".", 1)[1] for p in files} <= {"safetensors", "json", "txt"}
    assert {
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "emu_edit/config.json",
        "emu_edit/tasks.safetensors",
    } <= files
    config = json.loads((emu[0] / "emu_edit" / "config.json").read_text())
    assert config["format"] == "emu-edit" and config["version"] == 2 and config["task_width"] == 6


def test_text_encoder_is_saved_under_the_names_of_all_transformers(emu):
    names = load_file(emu[0] / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in names)


def test_half_precision_storage_and_run(emu, tmp_path):
    folder = save_editor(load_editor(emu[0]), tmp_path / "half", dtype=torch.float16)
    assert (
        load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"].dtype
        == torch.float16
    )
    editor = load_editor(folder)
    assert editor.dtype == torch.float32
    assert torch.allclose(prediction(editor, "add"), emu[1], atol=0.02, rtol=0.02)
    low = load_editor(emu[0], dtype=torch.bfloat16)
    assert low.dtype == torch.bfloat16 and fingerprint(low) == fingerprint(editor) == emu[2]


def test_folder_written_by_diffusers(tmp_path, no_network):
    editor = toy_backbone()
    pipeline(editor).save_pretrained(tmp_path / "stock")
    loaded = load_editor(tmp_path / "stock")
    assert torch.equal(prediction(loaded), prediction(editor))
    assert loaded.name == "stock" and loaded.conditioner is None
    assert loaded.predicts == "epsilon" and loaded.image_condition_scale == "unscaled"
    assert loaded.latent_input == "noisy"


def test_half_precision_variant_and_shards_of_diffusers(tmp_path, no_network):
    editor = toy_backbone()
    pipeline(editor).save_pretrained(tmp_path / "stock", variant="fp16")
    editor.unet.save_pretrained(tmp_path / "stock" / "unet", max_shard_size="1MB")
    (tmp_path / "stock" / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    assert len(list((tmp_path / "stock" / "unet").glob("*.safetensors"))) > 1
    assert torch.equal(prediction(load_editor(tmp_path / "stock")), prediction(editor))


def test_autoencoder_with_the_old_names_of_its_attention(tmp_path):
    editor = toy_backbone()
    folder = save_editor(editor, tmp_path / "old")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = load_file(file)
    for new, name in old.items():
        tensors = {key.replace(new, name): value for key, value in tensors.items()}
    save_file(tensors, file)
    assert torch.equal(prediction(load_editor(folder)), prediction(editor))


def test_plain_editor_we_save_opens_in_diffusers(tmp_path):
    folder = save_editor(
        toy_backbone(scheduler=SD_SCHEDULE | {"_class_name": "DDIMScheduler"}), tmp_path / "plain"
    )
    opened = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, local_files_only=True)
    assert torch.equal(opened.unet.conv_in.weight, load_editor(folder).unet.conv_in.weight)


def pipeline(editor) -> StableDiffusionInstructPix2PixPipeline:
    return StableDiffusionInstructPix2PixPipeline(
        unet=editor.unet,
        vae=editor.vae,
        text_encoder=editor.text_encoder,
        tokenizer=editor.tokenizer,
        scheduler=DDIMScheduler.from_config(SD_SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def test_patch_autoencoder_comes_back(tmp_path):
    from emu_edit.core.patch_autoencoder import PatchAutoencoder

    editor = toy_backbone()
    torch.manual_seed(3)
    editor.vae = PatchAutoencoder(patch_size=8, latent_channels=4, refine_channels=8)
    loaded = load_editor(save_editor(editor, tmp_path / "patch"))
    assert type(loaded.vae) is PatchAutoencoder
    assert torch.equal(prediction(loaded), prediction(editor))


@pytest.mark.parametrize("part", ["tiny autoencoder", "pooled text"])
def test_other_known_parts_come_back(tmp_path, part):
    pooled = {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}
    editor = toy_backbone(task_width=6, unet_options=pooled if part == "pooled text" else None)
    if part == "tiny autoencoder":
        sizes = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
        editor.vae = AutoencoderTiny(num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4, **sizes).eval()
    loaded = load_editor(save_editor(editor, tmp_path / "other"))
    assert type(loaded.vae) is type(editor.vae)
    assert torch.equal(prediction(loaded, "add"), prediction(editor, "add"))


def test_bundled_editor_has_its_place_in_the_package(root):
    assert bundled_editor_path() == root / "models" / "small"


# --- upgrading ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain():
    return toy_backbone()


def test_upgraded_editor_predicts_the_same_for_every_task_until_trained(plain):
    emu_model = upgrade_to_emu(plain)
    expected = prediction(plain)
    assert emu_model.task_width == CONTEXT and emu_model.unet.config.class_embed_type == "simple_projection"
    for task in (None, *TASK_IDS):
        if task is not None:
            assert emu_model.task_vector(task).abs().sum() > 0
        assert torch.equal(prediction(emu_model, task), expected)
    assert plain.conditioner is None and plain.unet.class_embedding is None


def test_each_half_of_the_conditioning_matters_once_trained(plain):
    expected = prediction(plain)
    for half in ("class_embedding", "to_context"):
        editor = upgrade_to_emu(plain, task_width=5)
        layer = editor.unet.class_embedding if half == "class_embedding" else editor.conditioner.to_context
        torch.nn.init.normal_(layer.weight)
        assert torch.equal(prediction(editor), expected)  # no task is the zero vector
        add, remove = prediction(editor, "add"), prediction(editor, "remove")
        assert not torch.allclose(add, expected, atol=1e-3) and not torch.allclose(add, remove, atol=1e-3)


def test_upgrade_has_weights_of_its_own(plain):
    editor = upgrade_to_emu(plain)
    expected = prediction(plain)
    with torch.no_grad():
        for weight in editor.unet.parameters():
            weight.zero_()
    assert torch.equal(prediction(plain), expected)


def test_upgrade_survives_saving(plain, tmp_path):
    editor = with_trained_tasks(upgrade_to_emu(plain, task_width=5))
    loaded = load_editor(save_editor(editor, tmp_path / "up"))
    assert torch.equal(prediction(loaded, "style"), prediction(editor, "style"))
    task = TaskVector("mine", loaded.task_vector("style"), fingerprint(loaded), 3)
    again = load_task(save_task(tmp_path / "mine.safetensors", task), loaded)
    assert again.base == fingerprint(editor)


def test_upgrade_in_half_precision_and_twice(plain):
    editor = upgrade_to_emu(plain)
    with pytest.raises(EmuEditError, match="'toy' has task embeddings already"):
        upgrade_to_emu(editor)
    with pytest.raises(EmuEditError, match="upgrade it first"):
        fingerprint(plain)
    low = upgrade_to_emu(toy_backbone().to(dtype=torch.bfloat16))
    assert low.unet.class_embedding.weight.dtype == torch.bfloat16
