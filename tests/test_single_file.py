"""Editors in one file under the original names: read without network, refused in one sentence."""

from __future__ import annotations

import socket

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from original_names import original_tensors, unet_name, vae_name
from safetensors.torch import save_file
from toy_models import toy_pictures, toy_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

from emu_edit.core.checkpoints import load_editor
from emu_edit.core.errors import EmuEditError

WIDTH = 64


def narrow_unet(in_channels: int = 8) -> UNet2DConditionModel:
    """SD 1.5's U-Net in every respect but width."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=in_channels,
        block_out_channels=(32, 64, 96, 96),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
    ).eval()


def narrow_vae() -> AutoencoderKL:
    """SD 1.5's autoencoder in every respect but width."""
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(32, 64, 96, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    ).eval()


def narrow_text_encoder(words: int) -> CLIPTextModel:
    torch.manual_seed(2)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 1}
    ends = {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    return CLIPTextModel(CLIPTextConfig(vocab_size=words, max_position_embeddings=16, **sizes, **ends)).eval()


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to look up or reach another machine fails the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def models():
    return narrow_unet(), narrow_vae(), narrow_text_encoder(len(toy_tokenizer()))


@pytest.fixture(scope="module")
def tensors(models):
    return original_tensors(*models)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd1_tokenizer")
    toy_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / "instruct-pix2pix.safetensors"
    extra = {
        "model_ema.decay": torch.ones(1),
        "model_ema.diffusion_modelconv_inweight": torch.ones(3),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(16)[None],
        "betas": torch.ones(5),
    }
    save_file(tensors | extra, path)
    return path


def write(tmp_path, tensors, name="model.safetensors", **metadata):
    path = tmp_path / name
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata or None)
    return path


def test_the_names_are_those_of_stable_diffusion(models):
    # A checkpoint of SD 1.x has 686 tensors in its U-Net and 248 in its autoencoder, among them these.
    unet = {unet_name(name) for name in models[0].state_dict()}
    vae = {vae_name(name) for name in models[1].state_dict()}
    assert len(unet) == 686 and len(vae) == 248
    assert {
        "output_blocks.11.0.skip_connection.weight",
        "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight",
        "output_blocks.2.1.conv.weight",
        "output_blocks.5.2.conv.bias",
        "middle_block.2.out_layers.3.weight",
    } <= unet
    assert {
        "decoder.up.3.upsample.conv.weight",
        "encoder.mid.attn_1.proj_out.weight",
        "encoder.down.0.downsample.conv.bias",
    } <= vae


@torch.no_grad()
def test_file_gives_the_same_numbers_as_the_models_it_was_made_of(models, file, vocabulary, no_network):
    unet, vae, text_encoder = models
    editor = load_editor(file, tokenizer_folders=["nowhere", vocabulary])
    assert editor.name == "instruct-pix2pix" and not editor.unet.training
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 8, 8, 8, generator=generator)
    words = torch.randint(0, 60, (2, 16), generator=generator)
    hidden = text_encoder(words)[0]
    assert torch.equal(editor.text_encoder(words)[0], hidden)
    steps = torch.tensor([1, 800])
    assert torch.equal(editor.unet(latents, steps, hidden).sample, unet(latents, steps, hidden).sample)
    picture = toy_pictures(1).movedim(-1, 1)
    code = vae.encode(picture).latent_dist.mode()
    assert torch.equal(editor.vae.encode(picture).latent_dist.mode(), code)
    assert torch.equal(editor.vae.decode(code).sample, vae.decode(code).sample)


def test_what_the_file_does_not_say_is_stable_diffusion(file, vocabulary):
    editor = load_editor(file, tokenizer=vocabulary)
    config = editor.unet.config
    assert (config.attention_head_dim, config.layers_per_block, config.norm_num_groups) == (8, 2, 32)
    assert editor.vae.config.scaling_factor == 0.18215
    assert editor.text_encoder.config.hidden_act == "quick_gelu"
    assert editor.schedule.prediction_type == "epsilon"
    # First and last of Stable Diffusion's noise levels, as published with its scheduler.
    levels = editor.schedule.alphas_cumprod
    assert len(levels) == 1000
    assert float(levels[0]) == pytest.approx(0.99915, abs=1e-5)
    assert float(levels[-1]) == pytest.approx(0.00466, abs=1e-5)
    assert editor.conditioner is None and editor.image_condition_scale == "unscaled"


def test_half_precision_file_and_run(tensors, vocabulary, tmp_path):
    path = write(tmp_path, {name: t.half() for name, t in tensors.items()})
    editor = load_editor(path, dtype=torch.bfloat16, tokenizer=vocabulary)
    kinds = {p.dtype for part in (editor.unet, editor.vae, editor.text_encoder) for p in part.parameters()}
    assert kinds == {torch.bfloat16}


def test_text_encoder_names_without_text_model(tensors, vocabulary, tmp_path):
    short = {name.replace("transformer.text_model.", "transformer."): t for name, t in tensors.items()}
    editor = load_editor(write(tmp_path, short), tokenizer=vocabulary)
    key = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
    norm = getattr(editor.text_encoder, "text_model", editor.text_encoder).final_layer_norm
    assert torch.equal(norm.weight, tensors[key])


def test_tokenizer_is_asked_for(file, vocabulary, tmp_path):
    with pytest.raises(EmuEditError, match=r"holds no tokenizer.*nowhere.*vocab.json and merges.txt"):
        load_editor(file)
    with pytest.raises(EmuEditError, match="looked in: .*elsewhere"):
        load_editor(file, tokenizer=tmp_path / "elsewhere", tokenizer_folders=[vocabulary])
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(EmuEditError, match="tokenizer is not readable"):
        load_editor(file, tokenizer=tmp_path)


def test_tokenizer_with_more_words_than_the_model_is_refused(file, tmp_path):
    larger = toy_tokenizer()
    larger.add_tokens(["another"])
    larger.save_pretrained(tmp_path)
    with pytest.raises(EmuEditError, match="knows 67 tokens but the text encoder has 66"):
        load_editor(file, tokenizer=tmp_path)


def test_other_kinds_of_file_are_named(tensors, tmp_path):
    one = torch.zeros(2, 2)
    kinds = {
        "lora_unet_down_blocks_0.lora_up.weight": "a LoRA",
        "model.diffusion_model.double_blocks.0.img_attn.weight": "a Flux model",
        "conditioner.embedders.0.transformer.weight": "an SDXL model",
        "cond_stage_model.model.transformer.resblocks.0.weight": "a Stable Diffusion 2 model",
        "down_blocks.0.resnets.0.conv1.weight": "one part of a diffusers model",
        "bert.embeddings.weight": "no Stable Diffusion U-Net.*bert.embeddings.weight",
    }
    for name, sentence in kinds.items():
        with pytest.raises(EmuEditError, match=sentence):
            load_editor(write(tmp_path, {name: one}))
    with pytest.raises(EmuEditError, match="a task file"):
        load_editor(write(tmp_path, {"task": torch.zeros(3)}, task_format="emu-edit-task 1"))


def test_text_to_image_model_is_no_editor(tensors, tmp_path):
    first = "model.diffusion_model.input_blocks.0.0.weight"
    path = write(tmp_path, tensors | {first: tensors[first][:, :4]})
    with pytest.raises(EmuEditError, match="has 4 input channels.*an InstructPix2Pix editor has 8"):
        load_editor(path)
    path = write(tmp_path, tensors | {first: torch.zeros(32, 9, 3, 3)})
    with pytest.raises(EmuEditError, match="has 9 input channels; an InstructPix2Pix editor has 8"):
        load_editor(path)


@pytest.mark.parametrize(
    ("prefix", "sentence"),
    [("first_stage_model.", "no autoencoder"), ("cond_stage_model.", "no text encoder")],
)
def test_file_without_a_part(tensors, tmp_path, prefix, sentence):
    path = write(tmp_path, {name: t for name, t in tensors.items() if not name.startswith(prefix)})
    with pytest.raises(EmuEditError, match=sentence):
        load_editor(path)


def test_missing_foreign_and_misshapen_weights(tensors, vocabulary, tmp_path):
    key = "model.diffusion_model.middle_block.1.proj_in.weight"
    less = {name: t for name, t in tensors.items() if name != key}
    with pytest.raises(EmuEditError, match="1 missing, 0 unknown.*mid_block.attentions.0.proj_in.weight"):
        load_editor(write(tmp_path, less), tokenizer=vocabulary)
    extra = key.replace("proj_in", "proj_by")
    with pytest.raises(EmuEditError, match="0 missing, 1 unknown"):
        load_editor(write(tmp_path, tensors | {extra: torch.zeros(1)}), tokenizer=vocabulary)
    # As a Stable Diffusion 2 U-Net has it: a linear map in place of a convolution.
    flat = tensors | {key: tensors[key][:, :, 0, 0]}
    with pytest.raises(EmuEditError, match=r"proj_in.weight' has shape \[96, 96\] but"):
        load_editor(write(tmp_path, flat), tokenizer=vocabulary)
    no_first = {name: t for name, t in tensors.items() if "input_blocks.1.0." not in name}
    with pytest.raises(EmuEditError, match="U-Net is not that of Stable Diffusion 1.5"):
        load_editor(write(tmp_path, no_first), tokenizer=vocabulary)
