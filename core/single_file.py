"""An SD-1.5 InstructPix2Pix in one .safetensors file under its original names, read without network.

The names are turned by diffusers' own conversion functions; the configurations are read off the weights'
shapes, so that nothing need be downloaded and narrow test models work as well. What such a file does not say
is what all Stable Diffusion 1.x models share: heads, noise schedule, and latent scale. Of files that hold
averaged weights beside the plain ones (`model_ema`), the plain ones are used, as other programs do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .errors import EmuEditError
from .model_parts import (
    EDITOR,
    EITHER,
    WHY,
    build_text_encoder,
    build_unet,
    build_vae,
    check_channels,
    load_tokenizer,
)
from .packages import need
from .weights import read_header, read_tensors

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
SCHEDULER: Mapping[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}
"""How every Stable Diffusion 1.x was trained."""

_LATENT_SCALE = 0.18215
_HEADS = 8
_CLIP_HEAD_WIDTH = 64
# Names that give another kind of model away, the most telling first.
_OTHERS = (
    ("lora", "a LoRA, which changes a model and is none; merge it into an InstructPix2Pix checkpoint first"),
    ("double_blocks.", "a Flux model; use an InstructPix2Pix of the Stable Diffusion 1.5 family"),
    (
        "joint_blocks.",
        "a Stable Diffusion 3 model; use an InstructPix2Pix of the Stable Diffusion 1.5 family",
    ),
    ("conditioner.embedders.", "an SDXL model; use an InstructPix2Pix of the Stable Diffusion 1.5 family"),
    ("cond_stage_model.model.", "a Stable Diffusion 2 model; use an InstructPix2Pix of the 1.5 family"),
    ("control_model.", "a ControlNet; use an InstructPix2Pix of the Stable Diffusion 1.5 family"),
    ("down_blocks.", "one part of a diffusers model; give the folder with its model_index.json"),
)

Shapes = Mapping[str, tuple[int, ...]]


def load_single_file(
    path: Path,
    dtype: torch.dtype,
    tokenizer: str | os.PathLike[str] | None = None,
    tokenizer_folders: Sequence[str | os.PathLike[str]] = (),
    kind: str = EDITOR,
) -> dict[str, Any]:
    """Parts of the model in `path`: unet, vae, text_encoder, tokenizer, scheduler_config.

    The file holds no tokenizer: `tokenizer` is a folder with SD 1.5's CLIP vocabulary (vocab.json and
    merges.txt, or tokenizer.json); without it the first of `tokenizer_folders` that has one is taken.
    Raises EmuEditError for files of any other kind.
    """
    shapes, metadata = read_header(path)
    check_kind(path, shapes, metadata, kind)
    vocabulary = find_tokenizer(path, tokenizer, tokenizer_folders)
    need("diffusers", WHY)
    from diffusers.loaders import single_file_utils as conversion

    unet_config = _read_config(path, "U-Net", _unet_config, shapes)
    named = {UNET + name: tensor for name, tensor in read_tensors(path, UNET).items()}
    unet = build_unet(unet_config, conversion.convert_ldm_unet_checkpoint(named, unet_config), path, dtype)
    vae_config = _read_config(path, "autoencoder", _vae_config, shapes)
    named = {VAE + name: tensor for name, tensor in read_tensors(path, VAE).items()}
    vae = build_vae(vae_config, conversion.convert_ldm_vae_checkpoint(named, vae_config), path, dtype)
    text_config = _read_config(path, "text encoder", _text_config, shapes)
    text_encoder = build_text_encoder(text_config, read_tensors(path, TEXT), path, dtype)
    return {
        "unet": unet,
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": load_tokenizer(vocabulary, text_encoder),
        "scheduler_config": dict(SCHEDULER),
    }


def read_unet_config(path: Path) -> dict[str, Any]:
    """The U-Net's configuration, read off the file's header alone; of an editor or a text-to-image model."""
    shapes, metadata = read_header(path)
    check_kind(path, shapes, metadata, EITHER)
    return _read_config(path, "U-Net", _unet_config, shapes)


def check_kind(path: Path, shapes: Shapes, metadata: Mapping[str, str], kind: str = EDITOR) -> None:
    """Raise EmuEditError unless names and shapes are those of a whole SD-1.5 model of `kind`."""
    if "task_format" in metadata:
        raise EmuEditError(f"{path} is a task file, not an editor; choose it as the task.")
    first = shapes.get(UNET + "input_blocks.0.0.weight")
    for mark, other in _OTHERS:
        if any(mark in name.lower() for name in shapes):
            raise EmuEditError(f"{path} is {other}.")
    if first is None or len(first) != 4:
        example = next(iter(shapes), "nothing")
        raise EmuEditError(
            f"{path} holds no Stable Diffusion U-Net (its first tensor is {example!r}); use an "
            "InstructPix2Pix checkpoint of the Stable Diffusion 1.5 family."
        )
    latent = shapes.get(VAE + "decoder.conv_in.weight", (0, 4))[1]
    check_channels(path, first[1], latent, kind, "checkpoint")
    for prefix, part in ((VAE, "autoencoder"), (TEXT, "text encoder")):
        if not any(name.startswith(prefix) for name in shapes):
            raise EmuEditError(
                f"{path} holds no {part} (no tensor named {prefix}...); use the full checkpoint, not "
                "a part of it."
            )


def find_tokenizer(
    path: Path, tokenizer: str | os.PathLike[str] | None, folders: Sequence[str | os.PathLike[str]]
) -> Path:
    """The folder to read the vocabulary from: `tokenizer` if given, else the first of `folders` that has one.

    Each place may be the tokenizer's folder or a diffusers model that holds it as tokenizer/.
    """
    for place in [tokenizer] if tokenizer is not None else folders:
        for folder in (Path(place), Path(place) / "tokenizer"):
            if (folder / "tokenizer.json").is_file() or (
                (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
            ):
                return folder
    asked = tokenizer if tokenizer is not None else ", ".join(str(f) for f in folders) or "nowhere"
    raise EmuEditError(
        f"{path} holds no tokenizer and none was found (looked in: {asked}); give the folder with vocab.json "
        "and merges.txt of Stable Diffusion 1.5, such as comfy/sd1_tokenizer of ComfyUI or tokenizer/ of a "
        "diffusers model."
    )


def _read_config(path: Path, part: str, read: Any, shapes: Shapes) -> dict[str, Any]:
    try:
        config: dict[str, Any] = read(shapes)
    except (KeyError, IndexError) as problem:
        raise EmuEditError(
            f"{path}: its {part} is not that of Stable Diffusion 1.5 (no tensor {problem}); use an "
            "InstructPix2Pix checkpoint of that family."
        ) from problem
    return config


def _count(shapes: Shapes, prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)})


def _unet_config(shapes: Shapes) -> dict[str, Any]:
    # Block 0 is conv_in; each level is some residual blocks and, but for the last, a downsampling ("op").
    blocks = _count(shapes, UNET + "input_blocks.")
    ops = [i for i in range(blocks) if f"{UNET}input_blocks.{i}.0.op.weight" in shapes]
    if not ops:
        raise KeyError(UNET + "input_blocks.3.0.op.weight")
    firsts = [1, *(i + 1 for i in ops)]
    keys = [f"{UNET}input_blocks.{i}.1.transformer_blocks.0.attn2.to_k.weight" for i in firsts]
    crossed = [key in shapes for key in keys]
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": shapes[UNET + "input_blocks.0.0.weight"][1],
        "out_channels": shapes[UNET + "out.2.weight"][0],
        "layers_per_block": ops[0] - 1,
        "block_out_channels": [shapes[f"{UNET}input_blocks.{i}.0.out_layers.3.weight"][0] for i in firsts],
        "down_block_types": ["CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed],
        "up_block_types": ["CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(crossed)],
        "cross_attention_dim": shapes[keys[0]][1],
        "attention_head_dim": _HEADS,
    }


def _vae_config(shapes: Shapes) -> dict[str, Any]:
    levels = _count(shapes, VAE + "encoder.down.")
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": 512,
        "latent_channels": shapes[VAE + "decoder.conv_in.weight"][1],
        "layers_per_block": _count(shapes, VAE + "encoder.down.0.block."),
        "block_out_channels": [
            shapes[f"{VAE}encoder.down.{i}.block.0.conv2.weight"][0] for i in range(levels)
        ],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "scaling_factor": _LATENT_SCALE,
    }


def _text_config(shapes: Shapes) -> dict[str, Any]:
    names = {
        name[len(TEXT) :].removeprefix("text_model."): s
        for name, s in shapes.items()
        if name.startswith(TEXT)
    }
    words, width = names["embeddings.token_embedding.weight"]
    return {
        "architectures": ["CLIPTextModel"],
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": names["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(names, "encoder.layers."),
        "num_attention_heads": max(1, width // _CLIP_HEAD_WIDTH),
        "max_position_embeddings": names["embeddings.position_embedding.weight"][0],
        "hidden_act": "quick_gelu",
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
        "pad_token_id": words - 1,
    }
