"""Tiny random models of the shape of Stable Diffusion 1.5, from the real classes, for tests."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from emu_edit.core.diffusers_backbone import DiffusersBackbone
from emu_edit.core.task_conditioning import TaskConditioner

# The scheduler that SD 1.5 and InstructPix2Pix checkpoints carry.
SD_SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
CONTEXT = 32
TEXT_LENGTH = 16


def toy_unet(in_channels: int = 8, task_width: int | None = None, seed: int = 0, **options: Any):
    """An SD-1.5-shaped U-Net of four levels; with `task_width`, one that takes task vectors (as yet zero)."""
    if task_width is not None:
        options |= {
            "class_embed_type": "simple_projection",
            "projection_class_embeddings_input_dim": task_width,
        }
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=CONTEXT,
        **options,
    )
    if task_width is not None:
        torch.nn.init.zeros_(unet.class_embedding.weight)
        torch.nn.init.zeros_(unet.class_embedding.bias)
    return unet.eval()


def toy_vae(seed: int = 1):
    """An AutoencoderKL of downscale 8 and 4 latent channels."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=0.18215,
    ).eval()


def toy_tokenizer():
    """A CLIP tokenizer over lower-case letters and a few symbols, with two merges."""
    letters = [*"abcdefghijklmnopqrstuvwxyz,.'-!"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ba", "re"]
    vocab = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    with tempfile.TemporaryDirectory() as folder:  # files are what every release of transformers reads
        (vocab_file := Path(folder, "vocab.json")).write_text(json.dumps(vocab))
        (merges_file := Path(folder, "merges.txt")).write_text("#version: 0.2\nb a\nr e\n")
        return CLIPTokenizerFast(str(vocab_file), str(merges_file), model_max_length=TEXT_LENGTH)


def toy_text_encoder(tokenizer: Any, seed: int = 2):
    """A CLIP text model of width CONTEXT for `tokenizer`."""
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=CONTEXT,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def toy_backbone(
    in_channels: int = 8,
    task_width: int | None = None,
    scheduler: dict[str, Any] | None = None,
    unet_options: dict[str, Any] | None = None,
    **options: Any,
) -> DiffusersBackbone:
    """A whole random editor; `task_width` gives it the 16 tasks, `options` go to DiffusersBackbone."""
    tokenizer = toy_tokenizer()
    options.setdefault("name", "toy")
    options.setdefault("defaults", {"steps": 4, "text_guidance": 3.0, "image_guidance": 1.5, "size": 64})
    return DiffusersBackbone(
        toy_unet(in_channels, task_width, **(unet_options or {})),
        toy_vae(),
        toy_text_encoder(tokenizer),
        tokenizer,
        SD_SCHEDULE if scheduler is None else scheduler,
        None if task_width is None else TaskConditioner(task_width, CONTEXT),
        **options,
    )


def toy_pictures(batch: int = 1, height: int = 64, width: int = 64, seed: int = 5) -> torch.Tensor:
    """Smooth random pictures [B,H,W,3] in 0..1."""
    coarse = torch.rand(batch, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return fine.movedim(1, -1).contiguous()
