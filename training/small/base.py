"""The text-to-image base of the procedural world: what pairs are made with, and where an editor may start.

It predicts the clean picture (prediction type "sample"). Words reach it by cross-attention on both grids, so
that attention control has something to hold, beside the pooled text on the timestep.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...core.diffusers_backbone import DiffusersBackbone
from .data import to_planes
from .models import scheduler_config
from .recipe import Recipe

#: The highest weight of a sample, by its ratio of signal to noise (Hang et al. 2303.09556).
MOST = 5.0


def build_base_unet(recipe: Recipe):
    """The editor's U-Net without image and task, with cross-attention on the fine grid as well."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=recipe.picture // recipe.patch,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        layers_per_block=1,
        block_out_channels=recipe.channels,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        # diffusers' name; it is the number of heads
        attention_head_dim=tuple(max(1, c * recipe.heads // recipe.channels[-1]) for c in recipe.channels),
        norm_num_groups=recipe.groups,
        cross_attention_dim=recipe.text_width,
        addition_embed_type="text",
        addition_embed_type_num_heads=recipe.text_heads,
        resnet_time_scale_shift="scale_shift",
    )
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    return unet


def base_from_editor(editor: DiffusersBackbone, recipe: Recipe, seed: int = 0) -> DiffusersBackbone:
    """A base that begins with all that an editor of the same recipe has learnt of pictures and words.

    Layers that the editor lacks start where they change nothing.
    """
    torch.manual_seed(seed)
    unet, known = build_base_unet(recipe), editor.unet.state_dict()
    fresh = unet.state_dict()
    with torch.no_grad():
        for name, weight in fresh.items():
            if name == "conv_in.weight":
                weight.copy_(known[name][:, : recipe.latent_channels])
            elif name in ("conv_out.weight", "conv_out.bias"):
                weight.copy_(known[name][: recipe.latent_channels])
            elif name in known:
                weight.copy_(known[name])
            elif name.endswith(("proj_out.weight", "proj_out.bias")):
                weight.zero_()
    unet.load_state_dict(fresh)
    return DiffusersBackbone(
        unet,
        editor.vae,
        editor.text_encoder,
        editor.tokenizer,
        scheduler_config(recipe) | {"prediction_type": "sample"},
        name="emu-edit-small-base",
        defaults=recipe.base_defaults,
    )


class BaseTrainee(nn.Module):
    """All of the base that is trained."""

    def __init__(self, base: DiffusersBackbone, recipe: Recipe) -> None:
        super().__init__()
        self.unet, self.text_encoder = base.unet, base.text_encoder

    def forward(self, z: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """The clean latents [B,C,h,w] of noisy ones, timesteps [B] and token ids [B,L]."""
        return self.unet(z, t, encoder_hidden_states=self.text_encoder(ids)[0], return_dict=False)[0]


def picture_loss(
    trainee: BaseTrainee,
    base: DiffusersBackbone,
    batch: dict[str, Any],
    recipe: Recipe,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch of pictures and captions, and what to log, as objective.batch_loss."""
    with torch.no_grad():
        device = base.device
        x0 = base.vae.encode(to_planes(batch["picture"].to(device))).latent_dist.mode()
        x0 = x0 * base.vae.config.scaling_factor
        count = len(x0)
        t = torch.randint(recipe.train_steps, (count,), generator=generator)
        pure = torch.rand(count, generator=generator) < recipe.base_pure_noise_share
        t = torch.where(pure, torch.full_like(t, recipe.train_steps - 1), t).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        z = base.schedule.add_noise(x0, noise, t)
        silent = torch.rand(count, generator=generator) < recipe.base_dropped
        words = ["" if s else w for w, s in zip(batch["caption"], silent.tolist(), strict=True)]
        rows = base.tokenizer(words, padding="max_length", max_length=recipe.text_tokens, truncation=True)
        ids = torch.tensor(rows["input_ids"], device=device)
        alpha, sigma = base.schedule.alpha_sigma(t)
        weight = (alpha / sigma).square().clamp(1.0, MOST).to(device, x0.dtype)
    error = (trainee(z, t, ids) - x0).square().mean((1, 2, 3))
    relative = (error / x0.square().mean((1, 2, 3))).detach()
    nothing = torch.zeros((), device=device)
    return (error * weight).mean(), {
        "relative": relative,
        "t": t,
        "informed": ~silent.to(device),
        "mask": nothing,
    }
