"""Optimisers and the course of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .config import TrainConfig


def build_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or Adafactor over three groups: matrices (with weight decay), the rest, and the task table.

    Each group carries `scale`, its multiple of the learning rate.
    """
    tasks: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.startswith("tasks.table"):
            tasks.append(parameter)
        else:
            (matrices if parameter.ndim > 1 else rest).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay, "scale": 1.0},
        {"params": rest, "weight_decay": 0.0, "scale": 1.0},
        {"params": tasks, "weight_decay": 0.0, "scale": config.task_rate},
    ]
    if config.optimiser == "adafactor":
        # One tensor at a time: the joint form makes copies of all weights.
        return torch.optim.Adafactor(groups, lr=config.rate, foreach=False)
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.999), fused=True)


def rate_factor(step: int, config: TrainConfig) -> float:
    """The learning rate of step 0, 1, ... as a share of --rate: a linear rise, then half a cosine to 0."""
    if step < config.warm_up:
        return (step + 1) / config.warm_up
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_rate(optimiser: Any, step: int, config: TrainConfig) -> float:
    """Give every group its rate for this step; returns the rate of the weights."""
    rate = config.rate * rate_factor(step, config)
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
    return rate
