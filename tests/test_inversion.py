"""DDIM inversion finds the noise that sampling makes the picture of, and restyling rests on it."""

from __future__ import annotations

import math

import pytest
import torch
from toy_models import SD_SCHEDULE, toy_backbone, toy_pictures

from emu_edit.core.backbone import NoiseSchedule
from emu_edit.core.errors import EmuEditError
from emu_edit.core.inversion import ddim_inversion
from emu_edit.core.pairs.restyle import StyleSettings, restyle
from emu_edit.core.sampling import sample

ZERO_SNR = SD_SCHEDULE | {
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
}


def toy_prediction(latents, timestep, index=0):
    """A smooth function of latents and time that bends enough for one iteration to miss."""
    return 0.3 * torch.tanh(latents * 0.7 + math.sin(timestep / 300.0)) + 0.1 * latents.flip(-1)


@pytest.fixture
def latents():
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("config", [SD_SCHEDULE, SD_SCHEDULE | {"set_alpha_to_one": True}, ZERO_SNR], ids=len)
def test_sampling_the_inverted_noise_reconstructs(latents, kind, config):
    if kind == "epsilon" and config is ZERO_SNR:
        config = config | {"prediction_type": kind}
    schedule = NoiseSchedule.from_diffusers(config | {"prediction_type": kind})
    way = ddim_inversion(toy_prediction, schedule, latents, 20, iterations=30)
    assert len(way) == 21 and torch.equal(way[-1], latents)
    again = sample(toy_prediction, schedule, way[0], 20, "ddim")
    torch.testing.assert_close(again, latents, rtol=1e-4, atol=1e-4)
    # And each entry lies on the way, so that a run may start at any of them.
    middle = sample(toy_prediction, schedule, way[7], 20, "ddim", start_step=7)
    torch.testing.assert_close(middle, latents, rtol=1e-4, atol=1e-4)


def test_errors_fall_with_iterations_and_steps(latents):
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE)

    def error(steps, **options):
        way = ddim_inversion(toy_prediction, schedule, latents, steps, **options)
        return float((sample(toy_prediction, schedule, way[0], steps, "ddim") - latents).abs().mean())

    once = error(20)
    assert error(20, iterations=2) < 0.5 * once and error(20, iterations=4) < 0.1 * once
    assert error(100) < 0.5 * once


def test_finer_steps_follow_the_flow(latents):
    """Ten substeps of ten steps pass through what a hundred steps pass through."""
    schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE | {"timestep_spacing": "trailing"})
    calls = []

    def predict(z, t, index):
        calls.append((t, index))
        return toy_prediction(z, t)

    coarse = ddim_inversion(predict, schedule, latents, 10, substeps=10)
    assert len(coarse) == 11 and len(calls) == 100 and [index for _, index in calls[:10]] == [9] * 10
    fine = ddim_inversion(toy_prediction, schedule, latents, 100)
    torch.testing.assert_close(coarse[0], fine[0], rtol=1e-6, atol=1e-6)


def test_steps_are_reported_and_slips_are_told(latents):
    schedule, seen = NoiseSchedule.from_diffusers(ZERO_SNR), []
    way = ddim_inversion(toy_prediction, schedule, latents, 4, on_step=seen.append)
    assert [(info.index, info.total) for info in seen] == [(i, 4) for i in range(4)]
    assert [info.timestep for info in seen] == schedule.timesteps(4).tolist()[::-1]
    assert all(info.latents is way[3 - info.index] for info in seen)
    with pytest.raises(EmuEditError, match="iterations is 0; give 1 or more"):
        ddim_inversion(toy_prediction, schedule, latents, 4, iterations=0)
    with pytest.raises(EmuEditError, match="one step from the picture to pure noise; give 2"):
        ddim_inversion(toy_prediction, schedule, latents, 1)


@pytest.fixture(scope="module")
def backbone():
    return toy_backbone(in_channels=4)


def test_restyling_with_everything_kept_reconstructs():
    """The same caption, guidance 1, nothing injected: the inverted latents come back."""
    backbone = toy_backbone(in_channels=4)
    with torch.no_grad():  # a random network is too steep for the iteration; one of small answers is not
        backbone.unet.conv_out.weight.mul_(0.01)
        backbone.unet.conv_out.bias.mul_(0.01)
    settings = StyleSettings(
        steps=5, guidance=1.0, self_fraction=0.0, feature_fraction=0.0, iterations=10, feature_blocks=()
    )
    result = restyle(backbone, toy_pictures(), ["a ball"], ["a ball"], settings)
    torch.testing.assert_close(result.target_latents, result.source_latents, rtol=1e-4, atol=1e-4)
    assert torch.equal(result.source, toy_pictures())


def test_restyling_borrows_features_and_attention(backbone):
    """Guidance changes the picture; borrowing features and attention holds it nearer to the source's."""
    pictures, captions = toy_pictures(2, 64, 128), ["a ball", "a tree"]
    target = ["a red ball, drawn", "a bar"]

    def apart(**options):
        settings = StyleSettings(steps=4, guidance=9.0, size=128, **options)
        return restyle(backbone, pictures, captions, target, settings, negative_captions=captions)

    free = apart(self_fraction=0.0, feature_fraction=0.0)
    tied = apart(self_fraction=1.0, feature_fraction=1.0)
    assert tied.target.shape == pictures.shape and tied.maps == {}
    assert tied.parameters[1]["feature_blocks"] == [3] and tied.parameters[1]["self_blocks"] == [
        3,
        4,
        5,
        6,
        7,
    ]
    distances = [float((one.target_latents - one.source_latents).square().mean()) for one in (free, tied)]
    assert not torch.equal(free.target_latents, tied.target_latents) and distances[1] < distances[0]
    again = apart(self_fraction=1.0, feature_fraction=1.0)
    assert torch.equal(again.target, tied.target)


def test_restyling_needs_a_text_to_image_model(backbone):
    with pytest.raises(EmuEditError, match="'toy' is an editor; load a text-to-image"):
        restyle(toy_backbone(), toy_pictures(), [""], ["a"])
    with pytest.raises(EmuEditError, match="give 1 target captions for 1 pictures"):
        restyle(backbone, toy_pictures(), [""], ["a", "b"])
