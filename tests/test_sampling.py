"""The samplers against diffusers' schedulers and against an exactly solvable case."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from toy_models import SD_SCHEDULE

from emu_edit.core.backbone import NoiseSchedule
from emu_edit.core.errors import EmuEditError
from emu_edit.core.sampling import METHODS, StepInfo, sample

ZERO_SNR = SD_SCHEDULE | {
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
}


def toy_prediction(latents, timestep):
    """Some smooth function of latents and time, in place of a network."""
    return torch.tanh(latents * 0.7 + math.sin(timestep / 300.0)) + 0.1 * latents.flip(-1)


def ours(config, latents, steps, method):
    schedule = NoiseSchedule.from_diffusers(config)
    return sample(lambda z, t, i: toy_prediction(z, t), schedule, latents, steps, method)


def theirs(scheduler, latents, steps):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        latents = scheduler.step(toy_prediction(latents, int(t)), t, latents).prev_sample
    return latents


@pytest.fixture
def latents():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("to_one", [True, False])
def test_ddim_equals_diffusers(latents, kind, spacing, to_one):
    config = SD_SCHEDULE | {"prediction_type": kind, "timestep_spacing": spacing, "set_alpha_to_one": to_one}
    expected = theirs(DDIMScheduler(**config), latents, 10)
    torch.testing.assert_close(ours(config, latents, 10, "ddim"), expected, rtol=1e-4, atol=1e-4)


def test_one_ddim_step_equals_diffusers(latents):
    scheduler = DDIMScheduler(**SD_SCHEDULE)
    scheduler.set_timesteps(8)
    steps: list[StepInfo] = []
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    sample(lambda z, t, i: toy_prediction(z, t), schedule, latents, 8, on_step=steps.append)
    before = latents
    for info in steps:
        expected = scheduler.step(toy_prediction(before, info.timestep), info.timestep, before)
        torch.testing.assert_close(info.latents, expected.prev_sample, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(info.x0, expected.pred_original_sample, rtol=1e-4, atol=1e-4)
        before = info.latents


def test_zero_terminal_snr_equals_diffusers(latents):
    expected = theirs(DDIMScheduler(**ZERO_SNR), latents, 10)
    torch.testing.assert_close(ours(ZERO_SNR, latents, 10, "ddim"), expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 25])
def test_second_order_equals_diffusers(latents, kind, steps):
    config = SD_SCHEDULE | {"prediction_type": kind, "timestep_spacing": "trailing"}
    options = {k: v for k, v in config.items() if k not in ("set_alpha_to_one", "clip_sample")}
    scheduler = DPMSolverMultistepScheduler(**options, lower_order_final=True)
    expected = theirs(scheduler, latents, steps)
    torch.testing.assert_close(ours(config, latents, steps, "dpmpp_2m"), expected, rtol=1e-3, atol=2e-4)


def test_second_order_takes_as_many_steps_as_there_are_timesteps(latents):
    config = SD_SCHEDULE | {"timestep_spacing": "leading", "steps_offset": 1}  # its last two are 999
    assert torch.isfinite(ours(config, latents, 1000, "dpmpp_2m")).all()


def gaussian_errors(config, steps, spread, stop=-1):
    """Error of each method, at timestep `stop`, for normal data of standard deviation `spread`.

    The path is known exactly there: the best guess of x0 is E[x0|z] = alpha s^2 z / (alpha^2 s^2 + sigma^2),
    and z / sqrt(alpha^2 s^2 + sigma^2) stays constant along the probability flow.
    """
    schedule = NoiseSchedule.from_diffusers(config)
    z = torch.linspace(-2, 2, 41, dtype=torch.float64).view(1, 1, 1, -1)

    def scale(alpha, sigma):
        return (alpha**2 * spread**2 + sigma**2) ** 0.5

    def predict(latents, t, index):
        alpha, sigma = schedule.alpha_sigma(t)
        return schedule.from_x0(alpha * spread**2 * latents / scale(alpha, sigma) ** 2, latents, t)

    errors = {}
    for method in METHODS:
        seen: list[StepInfo] = []
        sample(predict, schedule, z, steps, method, seen.append)
        last = next(info for info in seen if info.next_timestep == stop)
        first = scale(*schedule.alpha_sigma(seen[0].timestep))
        errors[method] = float((last.latents - z * scale(last.alpha, last.sigma) / first).abs().mean())
    return errors


@pytest.mark.parametrize("steps", [4, 6, 8, 12, 20])
@pytest.mark.parametrize("spread", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_second_order_beats_ddim_at_few_steps(steps, spread, zero_snr):
    errors = gaussian_errors(ZERO_SNR | {"rescale_betas_zero_snr": zero_snr}, steps, spread)
    assert errors["dpmpp_2m"] < errors["ddim"], errors
    if spread >= 1 and steps >= 8:
        assert errors["dpmpp_2m"] < 0.55 * errors["ddim"], errors


def test_errors_fall_with_the_order():
    # Up to the last steps, which are first order in both: the way from there to no noise is infinitely long.
    config = ZERO_SNR | {"rescale_betas_zero_snr": False}
    coarse, fine = (gaussian_errors(config, steps, 1.0, stop=199) for steps in (50, 200))
    assert coarse["ddim"] / fine["ddim"] == pytest.approx(4, rel=0.2)
    assert coarse["dpmpp_2m"] / fine["dpmpp_2m"] == pytest.approx(16, rel=0.2)


def test_exact_prediction_is_reached_in_any_number_of_steps(latents):
    target = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    schedule = NoiseSchedule.from_diffusers(ZERO_SNR)
    for method in METHODS:
        for steps in (1, 2, 7):
            found = sample(lambda z, t, i: schedule.from_x0(target, z, t), schedule, latents, steps, method)
            torch.testing.assert_close(found, target, rtol=1e-4, atol=1e-4)


def test_start_step_continues_a_run(latents):
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    seen: list[StepInfo] = []

    def predict(z, t, i):
        return toy_prediction(z, t)

    whole = sample(predict, schedule, latents, 6, on_step=seen.append)
    rest = sample(predict, schedule, seen[1].latents, 6, start_step=2)
    assert torch.equal(whole, rest)


def test_steps_are_reported_with_their_level(latents):
    schedule, seen = NoiseSchedule.from_diffusers(SD_SCHEDULE), []
    result = sample(lambda z, t, i: toy_prediction(z, t), schedule, latents, 4, on_step=seen.append)
    assert [(info.index, info.total) for info in seen] == [(i, 4) for i in range(4)]
    assert [info.timestep for info in seen] == schedule.timesteps(4).tolist()
    assert [info.next_timestep for info in seen] == [*schedule.timesteps(4).tolist()[1:], -1]
    for info in seen:
        assert info.alpha**2 + info.sigma**2 == pytest.approx(1.0)
        assert info.alpha == pytest.approx(float(schedule.alpha_sigma(info.next_timestep)[0]))
    assert torch.equal(seen[-1].latents, result)


def test_returned_latents_replace_the_step(latents):
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    marked = torch.full_like(latents, 3.0)
    result = sample(
        lambda z, t, i: toy_prediction(z, t), schedule, latents, 3, on_step=lambda info: marked.double()
    )
    assert torch.equal(result, marked)


def test_input_is_untouched_and_half_precision_is_sampled_in_float32(latents):
    schedule, copy = NoiseSchedule.from_diffusers(SD_SCHEDULE), latents.clone()
    kinds = []

    def predict(z, t, i):
        kinds.append(z.dtype)
        return toy_prediction(z, t).half()

    assert sample(predict, schedule, latents.half(), 3).dtype == torch.float32
    assert kinds == [torch.float32] * 3
    sample(lambda z, t, i: toy_prediction(z, t), schedule, latents, 3)
    assert torch.equal(latents, copy)


def test_wrong_choices_are_refused(latents):
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    with pytest.raises(EmuEditError, match="sampler 'heun'.*choose one of ddim"):
        sample(lambda z, t, i: z, schedule, latents, 3, "heun")
    with pytest.raises(EmuEditError, match="start step 3 of 3.*between 0 and 2"):
        sample(lambda z, t, i: z, schedule, latents, 3, start_step=3)
