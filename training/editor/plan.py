"""What a run would do and how much memory it would take, told without loading a single weight.

The network is built on torch's meta device, where tensors have shapes and no numbers, and one pass through it
shows what the backward pass would have to keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...core.editor_folder import position_frequencies
from ...core.errors import EmuEditError
from ...core.model_parts import read_config
from ...core.packages import need
from ...core.positions import CHANNELS
from ...core.single_file import read_unet_config
from ...core.weights import check_safetensors, read_json
from ..data.sources import open_sources
from .config import TrainConfig

TOKENS = 77
RECOMPUTED = ("ResnetBlock2D", "BasicTransformerBlock", "Transformer2DModel")


def plan(config: TrainConfig) -> list[str]:
    """Lines for people: base, data, steps, and memory by part."""
    if not config.base:
        raise EmuEditError("--base is missing; name a text-to-image model or an editor to start from.")
    unet = unet_config(Path(config.base))
    latent, positions, downscale = _latents(Path(config.base), unet)
    source = open_sources(config.data)
    units = source.units()
    model = on_meta(unet, config, latent, positions)
    parts, total = memory(model, config, downscale)
    per_step = config.batch * config.accumulate
    new = (
        "it sees pictures already"
        if unet["in_channels"] - positions > latent
        else "image channels are added, zero"
    )
    lines = [
        f"base      {config.base}: {_count(model):.0f} million weights in the U-Net; {new}",
        f"data      {source.name}: {len(units)} units, {config.size}x{config.size} pixels"
        + (f", encoded once into {config.cache}" if config.cache else ", encoded as they are read"),
        f"steps     {config.steps} of {per_step} pairs a process ({config.batch} x {config.accumulate}): "
        f"{config.steps * per_step} pairs; rate {config.rate:g}, {config.schedule}, warm-up {config.warm_up}",
        f"objective {config.prediction} prediction, {config.weighting} weighting, dropped: "
        f"text {config.drop_text:g}, both {config.drop_both:g}, picture {config.drop_image:g}"
        + (", zero terminal SNR" if config.zero_terminal_snr else ""),
        f"run       {config.run}: a checkpoint every {config.save_every} steps, {config.keep} kept, "
        f"{parts['on disk'] / 1e9:.1f} GB each",
    ]
    lines += [
        f"memory    {name:12} {size / 1e9:6.2f} GB" for name, size in parts.items() if name != "on disk"
    ]
    return [
        *lines,
        f"memory    {'in all':12} {total / 1e9:6.2f} GB a process, beside the data and Python itself",
    ]


def unet_config(base: Path) -> dict[str, Any]:
    """The U-Net's configuration of a diffusers folder or a single file."""
    if base.is_dir():
        return read_config(base / "unet")
    check_safetensors(base)
    return read_unet_config(base)


def _latents(base: Path, unet: Mapping[str, Any]) -> tuple[int, int, int]:
    """(latent channels, channels of position, pixels to a latent) of a base, by its configurations."""
    if not base.is_dir():  # a Stable Diffusion 1.x
        return unet["out_channels"], 0, 8
    vae, ours = read_config(base / "vae"), base / "emu_edit" / "config.json"
    positions = CHANNELS * position_frequencies(read_json(ours), base) if ours.is_file() else 0
    halvings = len(vae.get("block_out_channels", (64,))) - 1
    return vae["latent_channels"], positions, vae.get("patch_size") or 2**halvings


def on_meta(config: Mapping[str, Any], chosen: TrainConfig, latent: int, positions: int = 0) -> Any:
    """The U-Net as it will be trained, of shapes alone: `latent` channels of latents and as many of picture,
    and `positions` of position.
    """
    diffusers: Any = need("diffusers", "to plan a training run")
    width = chosen.task_width or config["cross_attention_dim"]
    changed = {key: value for key, value in config.items() if not key.startswith("_")} | {
        "in_channels": 2 * latent + positions,
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": config.get("projection_class_embeddings_input_dim") or width,
    }
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel.from_config(changed).train()


def memory(model: nn.Module, config: TrainConfig, downscale: int = 8) -> tuple[dict[str, float], float]:
    """Bytes by part, and the peak of one process (with FSDP the first four parts are shared out)."""
    weights = 4.0 * sum(p.numel() for p in model.parameters())
    moments = 2 * weights if config.optimiser == "adamw" else 4.0 * _factored(model)
    average = weights if config.ema else 0.0
    parts = {
        "weights": weights,
        "gradients": weights,
        config.optimiser: moments,
        "average": average,
        "activations": activations(model, config, downscale),
    }
    total = sum(parts.values())
    return parts | {"on disk": weights + moments + average}, total


def _factored(model: nn.Module) -> float:
    """Numbers that Adafactor keeps: a row and a column for a matrix, all for a vector."""
    return sum(
        p.numel() / p.shape[-1] + p.numel() / p.shape[-2] if p.ndim > 1 else p.numel()
        for p in model.parameters()
    )


def activations(model: Any, config: TrainConfig, downscale: int = 8) -> float:
    """Bytes that one pass of `config.batch` pairs keeps for the backward pass.

    With gradient checkpointing: the blocks' inputs, and all of the largest block, which is made again.
    """
    kept = _kept_bytes(model, config, downscale)
    if not config.gradient_checkpointing:
        return kept[0]
    model.enable_gradient_checkpointing()
    inputs = _kept_bytes(model, config, downscale)[0]
    model.disable_gradient_checkpointing()
    return inputs + kept[1]


def _kept_bytes(model: Any, config: TrainConfig, downscale: int) -> tuple[float, float]:
    """(all, most in one recomputed block) of what autograd keeps, shared storages counted once."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    met: dict[int, Any] = {}
    total = [0.0]
    largest = [0.0]
    before: list[float] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in own and key not in met:
            met[key] = tensor  # keeps the storage alive, so that its address is not used again
            total[0] += tensor.untyped_storage().nbytes()
        return tensor

    def leave(*_: Any) -> None:
        largest[0] = max(largest[0], total[0] - before.pop())

    hooks = []
    for module in model.modules():
        if type(module).__name__ in RECOMPUTED:
            hooks.append(module.register_forward_pre_hook(lambda *_: before.append(total[0])))
            hooks.append(module.register_forward_hook(leave))
    side = config.size // downscale
    context = model.config.cross_attention_dim
    width = model.config.projection_class_embeddings_input_dim
    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(
            torch.empty(config.batch, model.config.in_channels, side, side),
            torch.zeros(config.batch, dtype=torch.long),
            encoder_hidden_states=torch.empty(config.batch, TOKENS, context),
            class_labels=torch.empty(config.batch, width),
        )
    for hook in hooks:
        hook.remove()
    share = 1.0 if config.precision == "fp32" else 0.6  # norms and sums stay in fp32 under autocast
    return total[0] * share, largest[0] * share


def _count(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6
