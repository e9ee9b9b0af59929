"""Deterministic samplers from noise to latents, one network call a step.

All of them are one update, exponential Euler in x0 (DPM-Solver++, Lu et al. 2211.01095, equation 9):
    z' = (sigma'/sigma) z + (alpha' - alpha sigma'/sigma) D
which needs no logarithm of the signal-to-noise ratio and so holds at pure noise (alpha = 0) and at the clean
end (sigma' = 0). With D = x0 it is the DDIM step of eta 0 (Song et al. 2010.02502, equation 12), and also
Euler's method in sigma/alpha; with D extrapolated from the last two x0 it is DPM-Solver++(2M).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import NoiseSchedule
from .errors import EmuEditError

METHODS = ("ddim", "dpmpp_2m", "euler")


@dataclass(frozen=True, eq=False)
class StepInfo:
    """What a step callback sees: `index` of `total` steps (from 0), the `timestep` just evaluated, `latents`
    [B,C,h,w] after the step with their level (`latents` = `alpha` * signal + `sigma` * noise) and their
    timestep `next_timestep` (-1 at the end), and the step's estimate `x0` of the clean latents.
    """

    index: int
    total: int
    timestep: int
    next_timestep: int
    alpha: float
    sigma: float
    latents: Tensor
    x0: Tensor


Predict = Callable[[Tensor, int, int], Tensor]
OnStep = Callable[[StepInfo], Tensor | None]


def sample(
    predict: Predict,
    schedule: NoiseSchedule,
    latents: Tensor,
    steps: int,
    method: str = "ddim",
    on_step: OnStep | None = None,
    start_step: int = 0,
) -> Tensor:
    """Denoise `latents` [B,C,h,w] and return the clean ones, float32 (float64 when they came so).

    `predict(latents, timestep, index)` gives the guided prediction in `schedule.prediction_type`. `method`:
    "ddim" and "euler" differ only in where they end: "ddim" where the schedule's `set_alpha_to_one` says, the
    others at no noise at all; "dpmpp_2m" is second order, for few steps. `start_step` k leaves out the first
    k steps, for latents that are at the noise level of the k-th timestep.
    `on_step` is called after each step; latents it returns replace the step's own. An exception from it
    passes through, and nothing remembers the unfinished run.
    Raises EmuEditError for an unknown method, or steps or start_step out of range.
    """
    if method not in METHODS:
        raise EmuEditError(f"sampler {method!r}: it is not known; choose one of {', '.join(METHODS)}.")
    times = schedule.timesteps(steps).tolist()
    if not 0 <= start_step < steps:
        raise EmuEditError(f"sampling: start step {start_step} of {steps}; choose between 0 and {steps - 1}.")
    z = latents if latents.dtype == torch.float64 else latents.float()
    previous: tuple[Tensor, float] | None = None  # the last x0, and the log signal-to-noise ratio it was at
    for index in range(start_step, steps):
        t, t_next = times[index], times[index + 1] if index + 1 < steps else -1
        alpha, sigma = (float(level) for level in schedule.alpha_sigma(t))
        if t_next >= 0 or method == "ddim":
            alpha_next, sigma_next = (float(level) for level in schedule.alpha_sigma(t_next))
        else:
            alpha_next, sigma_next = 1.0, 0.0
        x0 = schedule.to_x0(predict(z, t, index).to(z.dtype), z, t)
        direction = x0
        if method == "dpmpp_2m":
            here, there = _log_snr(alpha, sigma), _log_snr(alpha_next, sigma_next)
            # (Two steps may stand at one timestep where the schedule's last is asked for twice.)
            if previous is not None and math.isfinite(there) and here != previous[1]:
                # Half a step ahead along the line through the last two x0. From pure noise that line is
                # infinitely long and level, so the step after it is first order by itself.
                direction = x0 + 0.5 * (there - here) / (here - previous[1]) * (x0 - previous[0])
            previous = x0, here
        keep = sigma_next / sigma
        z = keep * z + (alpha_next - alpha * keep) * direction
        if on_step is not None:
            info = StepInfo(index, steps, t, t_next, alpha_next, sigma_next, z, x0)
            replaced = on_step(info)
            if replaced is not None:
                z = replaced.to(z)
    return z


def _log_snr(alpha: float, sigma: float) -> float:
    """lambda = log(alpha / sigma), infinite at pure noise and at no noise."""
    if alpha == 0.0:
        return -math.inf
    return math.inf if sigma == 0.0 else math.log(alpha / sigma)
