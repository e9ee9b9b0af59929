"""Routes the attention of a diffusers U-Net through a control, for the time of one call.

Each layer's `forward` is shadowed on the instance and the shadow removed at the end, also after an exception:
modules, weights and attention processors are never touched. A layer that the control does not want runs its
own code. diffusers is not imported; layers are known by what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import EmuEditError
from .layers import CROSS, FEATURES, SELF, AttentionControl, AttentionLayer

# Ways to compute softmax(q k^T) v; other processors compute more than that, which a control would drop.
_PLAIN = (
    "AttnProcessor",
    "AttnProcessor2_0",
    "FusedAttnProcessor2_0",
    "SlicedAttnProcessor",
    "XFormersAttnProcessor",
)
_PLACES = {"down_blocks": "down", "mid_block": "mid", "up_blocks": "up"}


@contextmanager
def attached(unet: nn.Module, control: AttentionControl | None, grid: tuple[int, int]) -> Iterator[None]:
    """Within this context `control` steps in at the layers of `unet` that it wants; None changes nothing.

    `grid` is (height, width) of the latents, from which each layer's own grid is found. Not for use by two
    threads at once on one network. Raises EmuEditError at a wanted layer that does more than plain attention.
    """
    with ExitStack() as undo:
        if control is not None:
            for name, place, block, module in sites(unet):
                if _is_attention(module):
                    _shadow(undo, module, _attention_forward(module, control, name, place, block, grid))
                else:
                    _shadow(undo, module, _features_forward(module, control, name, place, block))
        yield


def sites(unet: nn.Module) -> Iterator[tuple[str, str, int, nn.Module]]:
    """(name, place, block, module) of all attention layers and of the residual blocks' last convolutions."""
    offsets = {
        (root, str(index)): sum(len(getattr(earlier, "resnets", ())) for earlier in list(blocks)[:index])
        for root in ("down_blocks", "up_blocks")
        for blocks in [list(getattr(unet, root, ()))]
        for index in range(len(blocks))
    }
    for name, module in unet.named_modules():
        parts = name.split(".")
        place = _PLACES.get(parts[0])
        residual = parts[-1] == "conv2" and len(parts) > 3 and parts[-3] == "resnets"
        if place is None or not (_is_attention(module) or residual):
            continue
        at = 2 if place == "mid" else 3  # mid_block.KIND.N, up_blocks.M.KIND.N
        number = int(parts[at]) if len(parts) > at and parts[at].isdigit() else 0
        offset = 0 if place == "mid" else offsets.get((parts[0], parts[1]), 0)
        yield name, place, offset + number, module


def _is_attention(module: Any) -> bool:
    return all(hasattr(module, part) for part in ("to_q", "to_out", "heads", "processor"))


def _shadow(undo: ExitStack, module: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one module another `forward`, and have it undone with whatever stood there before."""
    own = module.__dict__
    if "forward" in own:
        undo.callback(own.__setitem__, "forward", own["forward"])
    else:
        undo.callback(own.pop, "forward", None)
    own["forward"] = forward


def _features_forward(
    conv: nn.Module, control: AttentionControl, name: str, place: str, block: int
) -> Callable[..., Any]:
    original = conv.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = original(*args, **kwargs)
        layer = AttentionLayer(name, FEATURES, place, block, (hidden.shape[2], hidden.shape[3]))
        return control.features(layer, hidden) if control.wants(layer) else hidden

    return forward


def _attention_forward(
    attn: Any, control: AttentionControl, name: str, place: str, block: int, grid: tuple[int, int]
) -> Callable[..., Any]:
    original = attn.forward

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **rest: Any,
    ) -> Any:
        kind = SELF if encoder_hidden_states is None else CROSS
        size = _layer_size(hidden_states, grid)
        layer = AttentionLayer(name, kind, place, block, size)
        if not control.wants(layer):
            return original(hidden_states, encoder_hidden_states, attention_mask, **rest)
        _check(attn, name)
        return _controlled(attn, layer, control, hidden_states, encoder_hidden_states, attention_mask, rest)

    return forward


def _check(attn: Any, name: str) -> None:
    processor = type(attn.processor).__name__
    if processor not in _PLAIN or getattr(attn, "added_kv_proj_dim", None) is not None:
        raise EmuEditError(
            f"attention control: the layer {name} runs {processor}, which does more than plain attention; "
            "take out the adapter that put it there, or use a Stable Diffusion model without one."
        )


def _layer_size(hidden: Tensor, grid: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a layer: its own if it still has one, else the latents' halved as often as fits."""
    if hidden.ndim == 4:
        return hidden.shape[2], hidden.shape[3]
    tokens, (height, width) = hidden.shape[1], grid
    while height * width > tokens:
        # A stride of two with a border of one rounds up.
        height, width = (height + 1) // 2, (width + 1) // 2
    return (height, width) if height * width == tokens else (1, tokens)


def _controlled(
    attn: Any,
    layer: AttentionLayer,
    control: AttentionControl,
    hidden: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    rest: dict[str, Any],
) -> Tensor:
    """One attention layer in the order of diffusers' AttnProcessor2_0, with the control as its kernel."""
    residual = hidden
    if getattr(attn, "spatial_norm", None) is not None:
        hidden = attn.spatial_norm(hidden, rest.get("temb"))
    flat = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden
    batch = flat.shape[0]
    if attn.group_norm is not None:
        flat = attn.group_norm(flat.transpose(1, 2)).transpose(1, 2)
    seen = flat
    if context is not None:
        seen = attn.norm_encoder_hidden_states(context) if attn.norm_cross else context
    if mask is not None:
        mask = attn.prepare_attention_mask(mask, seen.shape[1], batch)
        mask = mask.view(batch, attn.heads, -1, mask.shape[-1])
    q, k, v = (
        projected.view(batch, -1, attn.heads, projected.shape[-1] // attn.heads).transpose(1, 2)
        for projected in (attn.to_q(flat), attn.to_k(seen), attn.to_v(seen))
    )
    q = q if attn.norm_q is None else attn.norm_q(q)
    k = k if attn.norm_k is None else attn.norm_k(k)
    out = control.attend(layer, q, k, v, attn.scale, mask)
    out = out.transpose(1, 2).reshape(batch, flat.shape[1], -1).to(q.dtype)
    out = attn.to_out[1](attn.to_out[0](out))
    if residual.ndim == 4:
        out = out.transpose(1, 2).reshape(residual.shape)
    if attn.residual_connection:
        out = out + residual
    return out / attn.rescale_output_factor
