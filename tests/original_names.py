"""Stable Diffusion 1.x weights under the names of the original program, from diffusers models.

Written from the original modules' layout, independently of diffusers' converter, which runs the other way.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(name: str) -> str:
    """The original name of a weight of a UNet2DConditionModel of SD 1.x (four levels of two layers)."""
    stem, kind = name.rsplit(".", 1)
    if stem in _UNET_ENDS:
        return f"{_UNET_ENDS[stem]}.{kind}"
    if found := re.match(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name):
        level, what, layer, rest = found.groups()
        return f"input_blocks.{1 + 3 * int(level) + int(layer)}." + _inner(what, rest)
    if found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.+)", name):
        return f"input_blocks.{3 * int(found[1]) + 3}.0.op.{found[2]}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}." + _inner(found[1], found[3])[2:]
    if found := re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name):
        level, what, layer, rest = found.groups()
        return f"output_blocks.{3 * int(level) + int(layer)}." + _inner(what, rest)
    if found := re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.+)", name):
        # The first up level has no attention, so its upsampling comes one place earlier.
        return f"output_blocks.{3 * int(found[1]) + 2}.{1 if found[1] == '0' else 2}.conv.{found[2]}"
    raise KeyError(name)


def _inner(what: str, rest: str) -> str:
    if what == "attentions":
        return "1." + rest
    stem, kind = rest.rsplit(".", 1)
    return f"0.{_RESNET[stem]}.{kind}"


def vae_name(name: str) -> str:
    """The original name of a weight of an AutoencoderKL."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)", lambda m: f"decoder.up.{3 - int(m[1])}", name)
    name = name.replace(".upsamplers.0.", ".upsample.")
    name = re.sub(r"(decoder\.up\.\d)\.resnets\.", r"\1.block.", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if found := re.match(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)$", name):
        name = f"{found[1]}.mid.attn_1.{_VAE_ATTENTION[found[2]]}.{found[3]}"
    return name


def original_tensors(unet: nn.Module, vae: nn.Module, text_encoder: nn.Module) -> dict[str, Tensor]:
    """All weights of a model as one original checkpoint holds them."""
    tensors = {f"model.diffusion_model.{unet_name(n)}": t for n, t in unet.state_dict().items()}
    for name, tensor in vae.state_dict().items():
        old = vae_name(name)
        # There the attention's linear maps are 1x1 convolutions.
        if ".attn_1." in old and ".norm." not in old and old.endswith("weight"):
            tensor = tensor[:, :, None, None]
        tensors[f"first_stage_model.{old}"] = tensor
    for name, tensor in text_encoder.state_dict().items():
        tensors["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = tensor
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
