"""Attention control the long way, with every map in memory: what core/attention is measured against.

Written from the description of Prompt-to-Prompt (2208.01626): maps are computed for all rows, those of the
targets are overwritten, and only then multiplied with the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class LongWay:
    """What to do to the maps [B,heads,N,M] of one call, rows [sources, targets, unconditional...]."""

    pairs: int
    self_most_tokens: int | None = None  # inject self-attention in layers of at most so many; -1 never
    cross: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] | None = None
    kept: dict[str, torch.Tensor] = field(default_factory=dict)

    def edit(self, maps: torch.Tensor, is_cross: bool, name: str) -> torch.Tensor:
        maps = maps.clone()
        for pair in range(self.pairs):
            source, target = maps[pair], maps[self.pairs + pair].clone()
            if is_cross and self.cross is not None:
                maps[self.pairs + pair] = self.cross[pair](source, target)
            elif not is_cross and (self.self_most_tokens is None or maps.shape[2] <= self.self_most_tokens):
                maps[self.pairs + pair] = source
        if is_cross:
            self.kept[name] = maps
        return maps


def swapped(replacement: torch.Tensor):
    """Each target token's map is the sum of the source's maps with the column of `replacement` as weights."""
    return lambda source, target: torch.einsum("hnw,wt->hnt", source, replacement)


def refined(mapper: list[int]):
    """Each target token with a partner takes the partner's map, the others keep their own."""

    def edit(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        result = target.clone()
        for token, partner in enumerate(mapper):
            if partner >= 0:
                result[..., token] = source[..., partner]
        return result

    return edit


def copied(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The source's maps as they are."""
    return source


def reweighted(before, factors: dict[int, float]):
    """`before`, then single tokens louder or softer."""

    def edit(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        result = before(source, target).clone()
        for token, factor in factors.items():
            result[..., token] = result[..., token] * factor
        return result

    return edit


def faded(edit, alphas: torch.Tensor):
    """The edited maps by `alphas` [L], the target's own by the rest."""
    return lambda source, target: alphas * edit(source, target) + (1 - alphas) * target


class LongProcessor:
    """A diffusers attention processor that goes the long way."""

    def __init__(self, way: LongWay, name: str) -> None:
        self.way, self.name = way, name

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        parts = [layer(x) for layer, x in ((attn.to_q, hidden_states), (attn.to_k, seen), (attn.to_v, seen))]
        q, k, v = (part.unflatten(2, (attn.heads, -1)).movedim(2, 1) for part in parts)
        maps = torch.softmax(torch.einsum("bhnd,bhmd->bhnm", q, k) * attn.scale, dim=-1)
        maps = self.way.edit(maps, encoder_hidden_states is not None, self.name)
        mixed = torch.einsum("bhnm,bhmd->bhnd", maps, v).movedim(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](mixed))


@contextmanager
def the_long_way(unet, way: LongWay) -> Iterator[None]:
    """The U-Net computes with explicit maps in this context."""
    before = dict(unet.attn_processors)
    named = {name: LongProcessor(way, name.removesuffix(".processor")) for name in before}
    unet.set_attn_processor(named)
    try:
        yield
    finally:
        unet.set_attn_processor(before)


@contextmanager
def outputs_of(unet) -> Iterator[dict[str, torch.Tensor]]:
    """Collects what every attention layer puts out."""
    found: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _module, _args, output, name=name: found.__setitem__(name, output)
        )
        for name, module in unet.named_modules()
        if hasattr(module, "to_q")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
