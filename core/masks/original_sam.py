"""Original Segment Anything weights under the names that transformers' SamModel gives them.

https://github.com/facebookresearch/segment-anything (sam_vit_b, sam_vit_l, sam_vit_h). Every size is read off
the weights' shapes, so that pruned relatives with the same layout load too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import EmuEditError

MARKS = ("image_encoder.patch_embed.proj.weight", "mask_decoder.iou_token.weight")
# The decoder's attention has 8 heads in every release; no shape tells it.
DECODER_HEADS = 8

_RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
        (r"^image_encoder\.blocks\.(\d+)\.norm(\d)\.", r"vision_encoder.layers.\1.layer_norm\2."),
        (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
        (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
        (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
        (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
        (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
        (r"^image_encoder\.", "vision_encoder."),
        (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
        (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
        (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
        (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
        (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
        (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
        (
            r"^mask_decoder\.transformer\.layers\.(\d+)\.norm",
            r"mask_decoder.transformer.layers.\1.layer_norm",
        ),
        (r"^mask_decoder\.transformer\.norm", "mask_decoder.transformer.layer_norm"),
        (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
        (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
        (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    )
)
_FREQUENCIES = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
# First layer, last layer and those between are called differently.
_LAYERED = re.compile(
    r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.(\d+)\."
)


def is_sam(names: Mapping[str, Any]) -> bool:
    """Whether these are the names of original SAM weights."""
    return all(mark in names for mark in MARKS)


def convert(state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(arguments of SamConfig, weights of SamModel) from an original state dict; `source` names it in errors.

    Names that are not SAM's are handed on unchanged, so that loading tells them (SAM-HQ has some).
    """
    if not is_sam(state):
        raise EmuEditError(f"{source}: these are not the weights of SAM ViT-B, L or H; use one of those.")
    deep = _depth(state, "mask_decoder.iou_prediction_head.layers")
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in ("pixel_mean", "pixel_std"):
            continue
        if name == _FREQUENCIES:
            weights["shared_image_embedding.positional_embedding"] = tensor
            weights["prompt_encoder.shared_embedding.positional_embedding"] = tensor
            continue
        for pattern, new in _RENAMED:
            renamed = pattern.sub(new, name)
            if renamed != name:
                break
        if hit := _LAYERED.match(name):
            layer = int(hit[2])
            last = _depth(state, f"{hit[1]}.layers") - 1
            part = "proj_in" if layer == 0 else "proj_out" if layer == last else f"layers.{layer - 1}"
            renamed = f"{hit[1]}.{part}.{name[hit.end() :]}"
        weights[renamed] = tensor
    return _config(state, deep), weights


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered parts follow `prefix`."""
    numbers = {name[len(prefix) + 1 :].split(".")[0] for name in state if name.startswith(f"{prefix}.")}
    return len(numbers)


def _config(state: Mapping[str, Tensor], iou_depth: int) -> dict[str, Any]:
    width, channels, patch, _ = state["image_encoder.patch_embed.proj.weight"].shape
    cells = state["image_encoder.pos_embed"].shape[1]
    layers = _depth(state, "image_encoder.blocks")
    # A block's table of relative positions spans 2 * side - 1 steps: of the whole grid or of its window.
    tables = [state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape for i in range(layers)]
    sides = [(rows + 1) // 2 for rows, _ in tables]
    windows = {side for side in sides if side != cells}
    out = state["image_encoder.neck.0.weight"].shape[0]
    vision = {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": cells * patch,
        "num_hidden_layers": layers,
        "num_attention_heads": width // tables[0][1],
        "mlp_dim": state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
        "output_channels": out,
        "window_size": min(windows, default=14),
        "global_attn_indexes": [i for i, side in enumerate(sides) if side == cells],
        "num_pos_feats": state[_FREQUENCIES].shape[1],
    }
    inner = state["mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"].shape[0]
    prompt = {
        "hidden_size": out,
        "image_size": cells * patch,
        "patch_size": patch,
        "mask_input_channels": state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        "num_point_embeddings": _depth(state, "prompt_encoder.point_embeddings"),
    }
    decoder = {
        "hidden_size": out,
        "mlp_dim": state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        "num_hidden_layers": _depth(state, "mask_decoder.transformer.layers"),
        "num_attention_heads": math.gcd(DECODER_HEADS, inner),
        "attention_downsample_rate": out // inner,
        "num_multimask_outputs": state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        "iou_head_depth": iou_depth,
        "iou_head_hidden_dim": state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    }
    return {"vision_config": vision, "prompt_encoder_config": prompt, "mask_decoder_config": decoder}
