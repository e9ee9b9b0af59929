"""Fractions of a sampling run as whole steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import EmuEditError

Window = tuple[float, float]


def steps_below(fraction: float, steps: int) -> int:
    """How many of the steps k = 0 .. steps-1 have k / steps < fraction (Emu Edit's windows).

    Fractions like 0.3 of 10 steps are meant exactly, so a rounding error's worth of excess adds no step.
    """
    return min(steps, max(0, math.ceil(fraction * steps - 1e-6)))


def published_steps(fraction: float, steps: int) -> int:
    """Prompt-to-Prompt's rounding: int(fraction * steps); it takes steps + 1 for cross-attention."""
    return int(fraction * steps)


def check_fraction(name: str, value: float) -> float:
    """`value` if it is a number in 0..1, else EmuEditError naming it."""
    if not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise EmuEditError(f"attention control: {name} is {value!r}; give a fraction of the steps in 0..1.")
    return float(value)


def emu_alphas(
    window: float | Window,
    words: Mapping[str, float | Window],
    tokens: Mapping[str, Sequence[int]],
    steps: int,
    length: int,
) -> Tensor:
    """Cross-attention weights [steps,length] float32: 1 at the steps k with start <= k / steps < end.

    `window` is for all tokens; `words` gives words of the target caption windows of their own, at the
    positions `tokens[word]`. A number f means (0, f).
    """
    return _fill(torch.zeros(steps, length), window, words, tokens, lambda f: steps_below(f, steps))


def published_alphas(
    window: float | Window,
    words: Mapping[str, float | Window],
    tokens: Mapping[str, Sequence[int]],
    steps: int,
    length: int,
) -> Tensor:
    """Prompt-to-Prompt's table [steps+1,length] of the same, whose rounding counts steps + 1 rows.

    A window (start, end) takes the rows from int(start * rows) to int(end * rows).
    """
    rows = steps + 1
    return _fill(torch.zeros(rows, length), window, words, tokens, lambda f: published_steps(f, rows))


def _fill(
    alphas: Tensor,
    window: float | Window,
    words: Mapping[str, float | Window],
    tokens: Mapping[str, Sequence[int]],
    rounded: Callable[[float], int],
) -> Tensor:
    everywhere = list(range(alphas.shape[1]))
    for bounds, places in [(window, everywhere), *((w, list(tokens[word])) for word, w in words.items())]:
        start, end = bounds if isinstance(bounds, (tuple, list)) else (0.0, bounds)
        if places:
            alphas[:, places] = 0.0
            alphas[rounded(start) : rounded(end), places] = 1.0
    return alphas
