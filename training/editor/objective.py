"""The loss of Emu Edit: noise prediction given picture, instruction and task, with conditioning dropout.

Everything random about a pair is drawn from (seed, number of the pair in the run), on the CPU. So a run is
the same whatever the device, the number of processes, and however often it was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.backbone import NoiseSchedule
from .config import TrainConfig


@dataclass(frozen=True, eq=False)
class Draws:
    """What was drawn for a batch: noise [B,C,h,w], timesteps [B], and which conditions are dropped [B]."""

    noise: Tensor
    t: Tensor
    no_text: Tensor
    no_image: Tensor


def draw(numbers: Sequence[int], shape: Sequence[int], schedule: NoiseSchedule, config: TrainConfig) -> Draws:
    """The draws of the pairs with these numbers; `shape` [C,h,w] is a latent's.

    One number u in 0..1 decides all dropping of a pair, as in InstructPix2Pix: below drop_text the
    instruction goes, in the next drop_both both go, in the next drop_image the picture; the task never goes.
    A network that predicts noise learns nothing at pure noise: with zero terminal SNR it starts one below.
    """
    pure = schedule.zero_terminal_snr and schedule.prediction_type == "epsilon"
    last = schedule.train_steps - (1 if pure else 0)
    u, t, noise = [], [], []
    for number in numbers:
        state = np.random.SeedSequence((config.seed, number)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
        u.append(torch.rand((), generator=generator))
        t.append(torch.randint(last, (), generator=generator))
        noise.append(torch.randn(tuple(shape), generator=generator))
    drawn = torch.stack(u)
    text, both = config.drop_text, config.drop_text + config.drop_both
    return Draws(
        torch.stack(noise),
        torch.stack(t),
        no_text=drawn < both,
        no_image=(drawn >= text) & (drawn < both + config.drop_image),
    )


def timestep_weights(schedule: NoiseSchedule, predicts: str, weighting: str, gamma: float) -> Tensor:
    """The weight [T], float32, of each timestep's squared error.

    "min-snr": Hang et al. 2023 (2303.09556), min(SNR, gamma) as the weight of x0's error, turned into the
    network's own prediction: over SNR for noise, over SNR + 1 for v. Where the SNR is zero the v rule would
    give no weight at all to the step that sampling starts from; that step keeps weight 1.
    """
    if weighting == "none":
        return torch.ones(schedule.train_steps)
    abar = schedule.alphas_cumprod
    snr = abar / (1 - abar).clamp(min=1e-20)
    least = snr.clamp(max=gamma)
    over = {"epsilon": snr.clamp(min=1e-20), "v_prediction": snr + 1}.get(predicts, torch.ones_like(snr))
    return torch.where(snr < 1e-12, 1.0, least / over).float()


def wanted(schedule: NoiseSchedule, predicts: str, x0: Tensor, start: Tensor, draws: Draws) -> Tensor:
    """What the network ought to predict; `start` is the input picture as diffused latents (zeros: none)."""
    if predicts == "change":
        return x0 - start
    return schedule.target(x0, draws.noise.to(x0), draws.t)


def errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each pair [B], float32."""
    return (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))
