"""DDIM inversion: the noise from which deterministic sampling makes a given picture again.

One sampling step takes z at timestep t to z' at the next, less noisy level (sampling.sample). Inversion
runs it backwards: it knows z' and wants the z with step(z) = z', whose prediction at (z, t) it cannot know
yet. The published inversion (Song et al. 2010.02502, section 4.3; Dhariwal & Nichol 2105.05233, appendix)
takes the prediction at (z', t) instead. More `iterations` repeat that with the z just found, a fixed-point
iteration whose error shrinks each time as long as steps are small.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .backbone import NoiseSchedule
from .errors import EmuEditError
from .sampling import OnStep, Predict, StepInfo


def ddim_inversion(
    predict: Predict,
    schedule: NoiseSchedule,
    latents: Tensor,
    steps: int,
    iterations: int = 1,
    substeps: int = 1,
    on_step: OnStep | None = None,
) -> list[Tensor]:
    """Clean latents [B,C,h,w] -> the steps + 1 latents of the way that `sample(..., steps, "ddim")` takes.

    Entry k is what sampling step k starts from: entry 0 the noise, entry `steps` the clean latents. All are
    float32 (float64 when they came so). `predict(latents, timestep, index)` gives the prediction in
    `schedule.prediction_type`, at guidance 1, with `index` the sampling step being undone. It should predict
    noise or v: where a network predicts the picture itself, its answer at a low level hardly tells which
    noise there was, and iterations need not converge. `substeps` divides each step for a finer way
    (Plug-and-Play's 999 steps for 50 are about 20); use it with one iteration, since a coarse sampler goes
    back exactly only what coarse steps made.
    `on_step` is called after each step, from clean to noisy, with `index` counting up, `timestep` the level
    reached, `next_timestep` the level left; what it returns is not used. It may raise to interrupt.
    Raises EmuEditError for steps, iterations or substeps out of range, and where a single step goes from the
    clean end to pure noise, which no picture determines.
    """
    for name, value in (("iterations", iterations), ("substeps", substeps)):
        if value < 1:
            raise EmuEditError(f"DDIM inversion: {name} is {value}; give 1 or more.")
    levels = [*schedule.timesteps(steps).tolist(), -1]
    z = latents if latents.dtype == torch.float64 else latents.float()
    found = [z]
    for index in reversed(range(steps)):
        fine = _between(levels[index + 1], levels[index], substeps)
        for low, high in zip(fine, fine[1:], strict=False):
            z, x0 = _step_back(predict, schedule, z, low, high, index, iterations)
        found.append(z)
        if on_step is not None:
            alpha, sigma = (float(level) for level in schedule.alpha_sigma(levels[index]))
            done = steps - 1 - index
            on_step(StepInfo(done, steps, levels[index], levels[index + 1], alpha, sigma, z, x0))
    return found[::-1]


def _between(low: int, high: int, parts: int) -> list[int]:
    """`parts` + 1 timesteps from low to high, fewer where they would fall together."""
    return list(dict.fromkeys(round(low + (high - low) * part / parts) for part in range(parts + 1)))


def _step_back(
    predict: Predict, schedule: NoiseSchedule, z: Tensor, low: int, high: int, index: int, iterations: int
) -> tuple[Tensor, Tensor]:
    """(the latents at timestep `high` whose sampling step gives `z` at `low`, their estimate of x0)."""
    alpha_low, sigma_low = (float(level) for level in schedule.alpha_sigma(low))
    alpha, sigma = (float(level) for level in schedule.alpha_sigma(high))
    if alpha == 0.0 and sigma_low == 0.0:
        raise EmuEditError("DDIM inversion: one step from the picture to pure noise; give 2 steps or more.")
    guess = z
    for _ in range(iterations):
        prediction = predict(guess, high, index).to(z.dtype)
        x0 = schedule.to_x0(prediction, guess, high)
        if alpha == 0.0:
            # Pure noise tells nothing of x0: the noise is what remains of z without its share of x0.
            guess = (z - alpha_low * x0) * (sigma / sigma_low)
        else:
            eps = schedule.to_eps(prediction, guess, high)
            guess = alpha / alpha_low * (z - sigma_low * eps) + sigma * eps
    return guess, x0
