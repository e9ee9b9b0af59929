"""Original GroundingDINO weights under the names that transformers' GroundingDinoForObjectDetection gives
them.

https://github.com/IDEA-Research/GroundingDINO (groundingdino_swint_ogc, groundingdino_swinb_cogcoor). The
names
written here are those of the weights on the hub, which every release of transformers reads. Sizes are read
off the shapes; what no shape tells is the same in both releases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..errors import EmuEditError

MARKS = ("transformer.level_embed", "backbone.0.patch_embed.proj.weight", "feat_map.weight")
HEADS = 8
BERT_HEAD_WIDTH = 64
# The pooler is never used; the rest are counters and training aids.
_UNUSED = re.compile(
    r"^bert\.pooler\.|^bert\.embeddings\.(?:position|token_type)_ids$|\.attn_mask$|^label_enc\."
)
_SWIN = "model.backbone.conv_encoder.model."
_ENCODER = r"^transformer\.encoder\."
_RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^backbone\.0\.patch_embed\.proj\.", f"{_SWIN}embeddings.patch_embeddings.projection."),
        (r"^backbone\.0\.patch_embed\.norm\.", f"{_SWIN}embeddings.norm."),
        (r"^backbone\.0\.layers\.(\d+)\.downsample\.", rf"{_SWIN}encoder.layers.\1.downsample."),
        (r"^bert\.", "model.text_backbone."),
        (r"^input_proj\.", "model.input_proj_vision."),
        (r"^feat_map\.", "model.text_projection."),
        (r"^transformer\.level_embed$", "model.level_embed"),
        (r"^transformer\.tgt_embed\.", "model.query_position_embeddings."),
        (r"^transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
        (r"^transformer\.(enc_output(?:_norm)?)\.", r"model.\1."),
        (r"^transformer\.decoder\.norm\.", "model.decoder.layer_norm."),
        (r"^transformer\.decoder\.ref_point_head\.", "model.decoder.reference_points_head."),
        (r"^transformer\.decoder\.bbox_embed\.", "model.decoder.bbox_embed."),
    )
)
_BLOCK = re.compile(r"^backbone\.0\.layers\.(\d+)\.blocks\.(\d+)\.(.+)\.(weight|bias)$")
_TABLE = re.compile(r"^backbone\.0\.(.+)\.attn\.(relative_position_(?:bias_table|index))$")
_BLOCK_PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_LAYER = re.compile(r"^transformer\.(encoder|decoder)\.(layers|text_layers|fusion_layers)\.(\d+)\.(.+)$")
_LAYER_PARTS = {
    ("encoder", "layers"): (
        ("norm1.", "deformable_layer.self_attn_layer_norm."),
        ("norm2.", "deformable_layer.final_layer_norm."),
        ("linear1.", "deformable_layer.fc1."),
        ("linear2.", "deformable_layer.fc2."),
        ("", "deformable_layer."),
    ),
    ("encoder", "text_layers"): (
        ("norm1.", "text_enhancer_layer.layer_norm_before."),
        ("norm2.", "text_enhancer_layer.layer_norm_after."),
        ("linear1.", "text_enhancer_layer.fc1."),
        ("linear2.", "text_enhancer_layer.fc2."),
        ("", "text_enhancer_layer."),
    ),
    ("encoder", "fusion_layers"): (
        ("gamma_v", "fusion_layer.vision_param"),
        ("gamma_l", "fusion_layer.text_param"),
        ("layer_norm_v.", "fusion_layer.layer_norm_vision."),
        ("layer_norm_l.", "fusion_layer.layer_norm_text."),
        ("attn.v_proj.", "fusion_layer.attn.vision_proj."),
        ("attn.l_proj.", "fusion_layer.attn.text_proj."),
        ("attn.values_v_proj.", "fusion_layer.attn.values_vision_proj."),
        ("attn.values_l_proj.", "fusion_layer.attn.values_text_proj."),
        ("attn.out_v_proj.", "fusion_layer.attn.out_vision_proj."),
        ("attn.out_l_proj.", "fusion_layer.attn.out_text_proj."),
        ("", "fusion_layer."),
    ),
    ("decoder", "layers"): (
        ("norm1.", "encoder_attn_layer_norm."),
        ("norm2.", "self_attn_layer_norm."),
        ("norm3.", "final_layer_norm."),
        ("catext_norm.", "encoder_attn_text_layer_norm."),
        ("ca_text.", "encoder_attn_text."),
        ("cross_attn.", "encoder_attn."),
        ("linear1.", "fc1."),
        ("linear2.", "fc2."),
        ("", ""),
    ),
}
_QKV = ("query", "key", "value")


def is_dino(names: Mapping[str, Any]) -> bool:
    """Whether these are the names of original GroundingDINO weights."""
    return all(mark in names for mark in MARKS)


def convert(state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(arguments of GroundingDinoConfig, weights) from an original state dict; errors name `source`."""
    if not is_dino(state):
        raise EmuEditError(f"{source}: these are not the weights of GroundingDINO; use SwinT-OGC or SwinB.")
    weights = {new: part for name, tensor in state.items() for new, part in _renamed(name, tensor)}
    return _config(state), weights


def _renamed(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if _UNUSED.search(name):
        return
    stage = re.match(r"^backbone\.0\.norm(\d+)\.(weight|bias)$", name)
    if stage:  # transformers counts the patch embedding as the first stage
        yield f"{_SWIN}hidden_states_norms.stage{int(stage[1]) + 1}.{stage[2]}", tensor
    elif block := _BLOCK.match(name):
        place = f"{_SWIN}encoder.layers.{block[1]}.blocks.{block[2]}"
        if block[3] == "attn.qkv":
            for part, piece in zip(_QKV, tensor.chunk(3), strict=True):
                yield f"{place}.attention.self.{part}.{block[4]}", piece
        else:
            yield f"{place}.{_BLOCK_PARTS.get(block[3], block[3])}.{block[4]}", tensor
    elif table := _TABLE.match(name):
        yield f"{_SWIN}encoder.{table[1]}.attention.self.{table[2]}", tensor
    elif layer := _LAYER.match(name):
        side, kind, index, rest = layer.groups()
        old, new = next((o, n) for o, n in _LAYER_PARTS[(side, kind)] if rest.startswith(o))
        yield from _split_projection(f"model.{side}.layers.{index}.{new}{rest[len(old) :]}", tensor)
    else:
        for pattern, new in _RENAMED:
            if pattern.match(name):
                name = pattern.sub(new, name)
                break
        yield name, tensor


def _split_projection(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """torch's one matrix for queries, keys and values as three."""
    stem, found, kind = name.partition(".in_proj_")
    if not found:
        yield name, tensor
        return
    for part, piece in zip(_QKV, tensor.chunk(3), strict=True):
        yield f"{stem}.{part}.{kind}", piece


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embed = state["backbone.0.patch_embed.proj.weight"].shape
    stages = _count(state, "backbone.0.layers.")
    table = "backbone.0.layers.{}.blocks.0.attn.relative_position_bias_table"
    window = (math.isqrt(state[table.format(0)].shape[0]) + 1) // 2
    outputs = [int(m[1]) + 1 for name in state if (m := re.match(r"backbone\.0\.norm(\d+)\.weight$", name))]
    backbone = {
        "model_type": "swin",
        "embed_dim": embed[0],
        "num_channels": embed[1],
        "patch_size": embed[2],
        "depths": [_count(state, f"backbone.0.layers.{i}.blocks.") for i in range(stages)],
        "num_heads": [state[table.format(i)].shape[1] for i in range(stages)],
        "window_size": window,
        "image_size": window * 32,  # 224 and 384, as they were trained; pictures may have any size
        "out_indices": sorted(outputs),
    }
    words, width = state["bert.embeddings.word_embeddings.weight"].shape
    text = {
        "model_type": "bert",
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": _count(state, "bert.encoder.layer."),
        "num_attention_heads": width // BERT_HEAD_WIDTH,
        "intermediate_size": state["bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state["bert.embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state["bert.embeddings.token_type_embeddings.weight"].shape[0],
    }
    levels, width = state["transformer.level_embed"].shape
    sampled = "transformer.{}.layers.0.{}.attention_weights.weight"
    encoder_samples = state[sampled.format("encoder", "self_attn")].shape[0]
    decoder_samples = state[sampled.format("decoder", "cross_attn")].shape[0]
    return {
        "backbone_config": backbone,
        "text_config": text,
        "d_model": width,
        "num_feature_levels": levels,
        "num_queries": state["transformer.tgt_embed.weight"].shape[0],
        "encoder_layers": _count(state, "transformer.encoder.layers."),
        "decoder_layers": _count(state, "transformer.decoder.layers."),
        "encoder_ffn_dim": state["transformer.encoder.layers.0.linear1.weight"].shape[0],
        "decoder_ffn_dim": state["transformer.decoder.layers.0.linear1.weight"].shape[0],
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_n_points": encoder_samples // (HEADS * levels),
        "decoder_n_points": decoder_samples // (HEADS * levels),
    }
