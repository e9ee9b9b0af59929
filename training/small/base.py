"""The text-to-image base of the procedural world: what pairs are made with.

It is learnt together with the editor, in the same weights: every `pictures_every`-th batch is pictures and
captions, without input picture or task. What it learns of drawing things from words the editor needs to add
and to replace them, and on a CPU's budget neither could be trained well alone. `base_of` cuts it out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.diffusers_backbone import DiffusersBackbone
from ...core.model_parts import build_unet
from .data import to_planes
from .objective import Trainee, seen_share
from .recipe import Recipe

#: The highest weight of a sample, its ratio of signal to noise (after Hang et al. 2303.09556, who put
#: no floor under it; here it is 1, since attention control needs the noisy steps most).
MOST = 5.0


def base_of(editor: DiffusersBackbone, recipe: Recipe) -> DiffusersBackbone:
    """The text-to-image model inside an editor: what that gives without input picture, task and pooled words.

    Words reach it by cross-attention only, where attention control can hold them. Its prediction type is
    "sample". Everything but the U-Net is shared with the editor.
    """
    channels = editor.latent_channels
    weights = {
        name: weight
        for name, weight in editor.unet.state_dict().items()
        if not name.startswith(("class_embedding.", "add_embedding."))
    }
    first = weights["conv_in.weight"]  # latents, the input picture (empty here), positions
    weights["conv_in.weight"] = torch.cat([first[:, :channels], first[:, 2 * channels :]], 1)
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = weights[name][:channels]
    # What the task's layer says of no task belongs to every timestep.
    offset = editor.unet.class_embedding.bias.detach()
    weights["time_embedding.linear_2.bias"] = weights["time_embedding.linear_2.bias"] + offset
    # The private entries name settings left at their defaults, which would undo the changes made here.
    config = {name: value for name, value in editor.unet.config.items() if not name.startswith("_")} | {
        "in_channels": channels + editor.position_channels,
        "out_channels": channels,
        "class_embed_type": None,
        "projection_class_embeddings_input_dim": None,
        "addition_embed_type": None,
    }
    unet = build_unet(config, weights, Path(editor.name), editor.dtype).to(editor.device)
    return DiffusersBackbone(
        unet.eval(),
        editor.vae,
        editor.text_encoder,
        editor.tokenizer,
        editor.scheduler_config | {"prediction_type": "sample"},
        name="emu-edit-small-base",
        latent_input=editor.latent_input,
        position_frequencies=editor.position_frequencies,
        defaults=recipe.base_defaults,
    )


def picture_loss(
    trainee: Trainee,
    editor: DiffusersBackbone,
    batch: dict[str, Any],
    recipe: Recipe,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch of pictures and captions, and what to log, as objective.batch_loss."""
    with torch.no_grad():
        device = editor.device
        x0 = editor.vae.encode(to_planes(batch["picture"].to(device))).latent_dist.mode()
        x0 = x0 * editor.vae.config.scaling_factor
        count = len(x0)
        t = torch.randint(recipe.train_steps, (count,), generator=generator)
        pure = torch.rand(count, generator=generator) < recipe.base_pure_noise_share
        t = torch.where(pure, torch.full_like(t, recipe.train_steps - 1), t).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        z = editor.schedule.add_noise(x0, noise, t)
        silent = torch.rand(count, generator=generator) < recipe.base_dropped
        words = ["" if s else w for w, s in zip(batch["caption"], silent.tolist(), strict=True)]
        rows = editor.tokenizer(words, padding="max_length", max_length=recipe.text_tokens, truncation=True)
        ids = torch.tensor(rows["input_ids"], device=device)
        alpha, sigma = editor.schedule.alpha_sigma(t)
        weight = (alpha / sigma).square().clamp(1.0, MOST).to(device, x0.dtype)
        share = seen_share(editor.vae)
    error = ((trainee.pictures(z, t, ids) - x0).square() * share).mean((1, 2, 3))
    relative = (error / (x0.square() * share).mean((1, 2, 3))).detach()
    informed = ~silent.to(device)
    seen = {"relative": relative, "t": t, "informed": informed, "mask": torch.zeros((), device=device)}
    loss = (error * weight).mean()
    if "after" in batch:
        told = (trainee.layout_loss(None, batch["after"].to(device)) * informed).mean()
        loss, seen["layout"] = loss + recipe.layout_weight * told, told.detach()
    return loss, seen
