"""The noise schedule against diffusers' own schedulers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from toy_models import SD_SCHEDULE

from emu_edit.core.backbone import NoiseSchedule, rescale_zero_terminal_snr
from emu_edit.core.errors import EmuEditError

KINDS = {
    "sd": SD_SCHEDULE,
    "linear": {"beta_schedule": "linear"},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "given": {"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4},
}


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS.keys())
def test_levels_equal_diffusers(config):
    ours, theirs = NoiseSchedule.from_diffusers(config), DDIMScheduler(**config)
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-6, atol=0)
    assert not ours.zero_terminal_snr


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 5, 6, 7, 20, 30, 50, 100, 999])
def test_timesteps_equal_diffusers(spacing, steps):
    config = SD_SCHEDULE | {"timestep_spacing": spacing}
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(steps)
    times = NoiseSchedule.from_diffusers(config).timesteps(steps)
    assert times.dtype == torch.int64
    assert times.tolist() == scheduler.timesteps.tolist()


def test_timesteps_stay_inside_the_model():
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    assert schedule.timesteps(1000).tolist()[0] == 999  # diffusers gives 1000 here, which is no timestep
    for spacing in ("leading", "trailing", "linspace"):
        times = NoiseSchedule.from_diffusers(SD_SCHEDULE | {"timestep_spacing": spacing})
        for steps in range(1, 400, 7):
            found = times.timesteps(steps)
            assert len(found) == steps and int(found.min()) >= 0 and int(found.max()) <= 999
    for wrong in (0, -1, 1001):
        with pytest.raises(EmuEditError, match=f"{wrong} steps.*between 1 and 1000"):
            schedule.timesteps(wrong)


def test_zero_terminal_snr_equals_diffusers():
    config = SD_SCHEDULE | {
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
    ours, theirs = NoiseSchedule.from_diffusers(config), DDIMScheduler(**config)
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=2e-4, atol=1e-7)
    assert ours.zero_terminal_snr
    assert float(ours.alphas_cumprod[-1]) == 0.0
    plain = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    assert float(ours.alphas_cumprod[0]) == pytest.approx(float(plain.alphas_cumprod[0]), rel=1e-12)
    assert ours.timesteps(10)[0] == 999
    # A model of noise has nothing to say about pure noise, and starts one step later.
    noise = NoiseSchedule.from_diffusers(config | {"prediction_type": "epsilon"})
    assert noise.timesteps(10).tolist() == [998, *ours.timesteps(10).tolist()[1:]]


def test_rescaling_is_lin_et_al_algorithm_1():
    abar = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    root = abar.sqrt()
    scale = root[0] / (root[0] - root[2])
    expected = torch.stack([(r - root[2]) * scale for r in root]) ** 2
    torch.testing.assert_close(rescale_zero_terminal_snr(abar), expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_predictions_convert_both_ways(kind):
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE | {"prediction_type": kind})
    x0, eps = torch.randn(2, 3, 4, 4, 4).double().unbind(0)
    for t in (0, 1, 500, 999, torch.tensor([0, 500, 999])):
        z = schedule.add_noise(x0, eps, t)
        target = schedule.target(x0, eps, t)
        torch.testing.assert_close(schedule.to_x0(target, z, t), x0)
        torch.testing.assert_close(schedule.to_eps(target, z, t), eps)
        torch.testing.assert_close(schedule.from_x0(x0, z, t), target)


def test_noising_and_targets_equal_diffusers():
    config = SD_SCHEDULE | {"prediction_type": "v_prediction"}
    ours, theirs = NoiseSchedule.from_diffusers(config), DDIMScheduler(**config)
    x0, eps = torch.randn(2, 3, 4, 4, 4).unbind(0)
    t = torch.tensor([3, 400, 999])
    torch.testing.assert_close(ours.add_noise(x0, eps, t), theirs.add_noise(x0, eps, t))
    torch.testing.assert_close(ours.target(x0, eps, t), theirs.get_velocity(x0, eps, t))


def test_one_timestep_keeps_the_type():
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    for dtype in (torch.float16, torch.float32, torch.float64):
        x = torch.ones(2, 4, 8, 8, dtype=dtype)
        assert schedule.add_noise(x, x, 5).dtype == dtype
        assert schedule.add_noise(x, x, torch.tensor([5, 6])).dtype == dtype


def test_the_end_of_sampling():
    first = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    assert [float(v) for v in first.alpha_sigma(-1)] == [float(v) for v in first.alpha_sigma(0)]
    one = NoiseSchedule.from_diffusers(SD_SCHEDULE | {"set_alpha_to_one": True})
    assert [float(v) for v in one.alpha_sigma(-1)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
        ({"prediction_type": "flow"}, "prediction_type is 'flow'"),
        ({"timestep_spacing": "karras"}, "timestep_spacing is 'karras'"),
    ],
)
def test_unknown_schedules_are_refused(wrong, said):
    with pytest.raises(EmuEditError, match=said):
        NoiseSchedule.from_diffusers(SD_SCHEDULE | wrong)
