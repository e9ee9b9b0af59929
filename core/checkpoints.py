"""Editors and task files on disk: load, upgrade, save. No network, no pickle.

An editor is a folder in diffusers' layout or one .safetensors file of an SD-1.5 InstructPix2Pix; see
editor_folder, single_file and task_files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from .diffusers_backbone import DiffusersBackbone
from .editor_folder import backup_of, load_folder, save_folder
from .errors import EmuEditError
from .model_parts import EDITOR, build_unet
from .single_file import load_single_file
from .task_conditioning import TaskConditioner
from .task_files import check_task, load_task, save_task
from .weights import check_safetensors

__all__ = [
    "add_image_channels",
    "bundled_editor_path",
    "check_task",
    "fingerprint",
    "load_editor",
    "load_task",
    "save_editor",
    "save_task",
    "upgrade_to_emu",
]

PathLike = str | os.PathLike[str]


def bundled_editor_path() -> Path:
    """Folder of the small editor that ships with the package."""
    return Path(__file__).resolve().parent.parent / "models" / "small"


def load_editor(
    path: PathLike,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    tokenizer: PathLike | None = None,
    tokenizer_folders: Sequence[PathLike] = (),
    kind: str = EDITOR,
) -> DiffusersBackbone:
    """An editor from a diffusers folder (ours or an InstructPix2Pix), or from a single .safetensors file.

    `kind` "text-to-image" loads a model without image channels instead (Stable Diffusion 1.5), "either" both.

    `tokenizer` and `tokenizer_folders` are for single files, which hold no vocabulary: the folder with it, or
    places to look in (see single_file.load_single_file). Networks are in evaluation mode, in `dtype` on
    `device`; task vectors are always float32. Raises EmuEditError in one sentence for whatever does not fit.
    """
    place = Path(path)
    if place.is_dir() or backup_of(place).is_dir():
        parts = load_folder(place, dtype, kind)
    else:
        check_safetensors(place)
        parts = load_single_file(place, dtype, tokenizer, tokenizer_folders, kind) | {"name": place.stem}
    return DiffusersBackbone(**parts).to(device=torch.device(device))


def save_editor(backbone: DiffusersBackbone, folder: PathLike, dtype: torch.dtype | None = None) -> Path:
    """Write an editor as a folder of safetensors and JSON, whole or not at all; returns the folder.

    See editor_folder.save_folder. `dtype` sets the stored type of the network weights, e.g. torch.float16.
    """
    save_folder(backbone, Path(folder), dtype)
    return Path(folder)


def fingerprint(backbone: DiffusersBackbone) -> str:
    """The editor's identity for task files (TaskConditioner.fingerprint). EmuEditError if it has no tasks."""
    if backbone.conditioner is None:
        raise EmuEditError(f"the editor {backbone.name!r} has no task embeddings; upgrade it first.")
    return backbone.conditioner.fingerprint()


def add_image_channels(backbone: DiffusersBackbone) -> DiffusersBackbone:
    """A text-to-image model made to see an input picture; until trained it predicts exactly what it did.

    As in InstructPix2Pix the first convolution gets as many channels again, of zero weight. The given model
    is left as it was and shares everything but the U-Net with the new one. An editor raises EmuEditError.
    """
    if backbone.takes_image:
        raise EmuEditError(f"the editor {backbone.name!r} sees an input picture already; use it as it is.")
    old = backbone.unet
    latent = backbone.latent_channels
    config = {key: value for key, value in old.config.items() if not key.startswith("_")}
    weights = dict(old.state_dict())
    first = weights["conv_in.weight"]
    seen, where = first[:, :latent], first[:, latent:]  # positions, if it reads them, come last
    weights["conv_in.weight"] = torch.cat([seen, torch.zeros_like(seen), where], dim=1)
    channels = 2 * latent + backbone.position_channels
    unet = build_unet(config | {"in_channels": channels}, weights, Path(backbone.name), backbone.dtype)
    unet.train(old.training)
    return DiffusersBackbone(
        unet.to(backbone.device),
        backbone.vae,
        backbone.text_encoder,
        backbone.tokenizer,
        backbone.scheduler_config,
        backbone.conditioner,
        name=backbone.name,
        predicts=backbone.predicts,
        image_condition=backbone.image_condition_scale,
        latent_input=backbone.latent_input,
        position_frequencies=backbone.position_frequencies,
        defaults=backbone.defaults,
    )


def upgrade_to_emu(
    backbone: DiffusersBackbone, task_width: int | None = None, seed: int = 0
) -> DiffusersBackbone:
    """An InstructPix2Pix with task conditioning added; until trained it predicts exactly what it did before.

    The U-Net is rebuilt as stock diffusers with class_embed_type="simple_projection", its weights copied and
    the new projection zero; the map onto the context is zero too (see task_conditioning). `task_width` is the
    text context's width unless given; `seed` draws the task table. The given editor is left as it was and
    shares autoencoder, text encoder and tokenizer with the new one.
    """
    old = backbone.unet
    if backbone.conditioner is not None or old.config.class_embed_type is not None:
        raise EmuEditError(f"the editor {backbone.name!r} has task embeddings already; use it as it is.")
    context = int(old.config.cross_attention_dim)
    width = context if task_width is None else task_width
    conditioner = TaskConditioner(width, context, seed=seed).to(backbone.device)
    # The private entries name settings left at their defaults, which would undo the change made here.
    config = {key: value for key, value in old.config.items() if not key.startswith("_")} | {
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": width,
    }
    weights = dict(old.state_dict())
    time_width = weights["time_embedding.linear_2.bias"].shape[0]
    weights["class_embedding.weight"] = torch.zeros(time_width, width)
    weights["class_embedding.bias"] = torch.zeros(time_width)
    unet = build_unet(config, weights, Path(backbone.name), backbone.dtype).to(backbone.device)
    unet.train(old.training)
    return DiffusersBackbone(
        unet,
        backbone.vae,
        backbone.text_encoder,
        backbone.tokenizer,
        backbone.scheduler_config,
        conditioner,
        name=backbone.name,
        predicts=backbone.predicts,
        image_condition=backbone.image_condition_scale,
        latent_input=backbone.latent_input,
        position_frequencies=backbone.position_frequencies,
        defaults=backbone.defaults,
    )
