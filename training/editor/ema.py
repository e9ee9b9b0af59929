"""The running average of the weights, which is what gets exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .shards import local


class Average:
    """Exponential moving average of a model's parameters, of the same type and place (shards stay shards).

    The decay after n steps is min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, steps: int) -> None:
        """Take in the weights after `steps` steps."""
        amount = 1 - min(self.decay, (1 + steps) / (10 + steps))
        for name, parameter in model.named_parameters():
            local(self.values[name]).lerp_(local(parameter.detach()), amount)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model holds the average inside, and its own weights, bit for bit, afterwards."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            held, average = local(parameter.detach()), local(self.values[name])
            own = held.clone()
            held.copy_(average)
            average.copy_(own)
