"""What is trained, from a checkpoint: image channels and task conditioning added, exactly, where missing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.checkpoints import add_image_channels, load_editor, upgrade_to_emu
from ...core.diffusers_backbone import DiffusersBackbone, picture_change
from ...core.errors import EmuEditError
from .config import TrainConfig


class Trainee(nn.Module):
    """All that is trained, under one roof: the U-Net and the task table with its map onto the context."""

    def __init__(self, editor: DiffusersBackbone) -> None:
        super().__init__()
        assert editor.conditioner is not None
        self.unet, self.tasks = editor.unet, editor.conditioner
        scaled = editor.image_condition_scale == "scaled"
        self.image_scale = 1.0 if scaled else float(editor.vae.config.scaling_factor)
        self.gated = editor.predicts == "change"
        self._unet_input = editor.unet_input

    def forward(self, z: Tensor, t: Tensor, hidden: Tensor, image: Tensor, task: Tensor) -> Tensor:
        """The prediction [B,C,h,w] for noisy latents z [B,C,h,w] at timesteps t [B].

        hidden [B,L,W]: encoded instructions; image [B,C,h,w]: the input picture's condition (zeros: none);
        task [B]: rows of the table, -1 for no task (the zero vector).
        """
        vector = self.tasks.table(task.clamp(min=0)) * (task >= 0)[:, None]
        output: Tensor = self.unet(
            self._unet_input(z, t, image),
            t,
            encoder_hidden_states=self.tasks.condition_context(hidden, vector),
            class_labels=vector,
            return_dict=False,
        )[0]
        return picture_change(output, image * self.image_scale) if self.gated else output


def load_base(config: TrainConfig) -> DiffusersBackbone:
    """The editor to train, on the CPU in float32. Raises EmuEditError for a base of the wrong kind."""
    if not config.base:
        raise EmuEditError("--base is missing; name a text-to-image model or an editor to start from.")
    editor = load_editor(Path(config.base), kind="either", tokenizer=config.tokenizer or None)
    if not editor.takes_image:
        editor = add_image_channels(editor)
    if editor.conditioner is None:
        editor = upgrade_to_emu(editor, config.task_width or None, config.seed)
    elif config.task_width not in (0, editor.task_width):
        raise EmuEditError(
            f"--task-width {config.task_width}: {config.base} has tasks of width {editor.task_width}; "
            "leave the option out."
        )
    if config.size % editor.size_multiple:
        raise EmuEditError(
            f"--size {config.size}: pictures for {config.base} must be multiples of {editor.size_multiple} "
            "pixels; choose such a size."
        )
    return with_objective(editor, config)


def with_objective(editor: DiffusersBackbone, config: TrainConfig) -> DiffusersBackbone:
    """The editor with the noise schedule and prediction type that it will be trained for and saved with."""
    schedule, predicts = dict(editor.scheduler_config), editor.predicts
    if config.prediction != "keep":
        predicts = config.prediction
        schedule["prediction_type"] = config.prediction
    if config.zero_terminal_snr:
        # Lin et al. 2023 (2305.08891): sampling must then start at the last step.
        schedule |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return DiffusersBackbone(
        editor.unet,
        editor.vae,
        editor.text_encoder,
        editor.tokenizer,
        schedule,
        editor.conditioner,
        name=editor.name,
        predicts=predicts,
        image_condition=editor.image_condition_scale,
        latent_input=editor.latent_input,
        position_frequencies=editor.position_frequencies,
        defaults={"text_guidance": 5.0, "image_guidance": 1.5, "size": config.size} | dict(editor.defaults),
    )


def frozen_fingerprint(editor: DiffusersBackbone) -> str:
    """Sixteen digits that name autoencoder, text encoder and tokenizer: what encoded data depends on."""
    digest = hashlib.sha256(f"{editor.image_condition_scale} {editor.vae.config.scaling_factor}".encode())
    for part in (editor.vae, editor.text_encoder):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    words: Any = editor.tokenizer.get_vocab()
    digest.update(repr(sorted(words.items())).encode())
    return digest.hexdigest()[:16]
