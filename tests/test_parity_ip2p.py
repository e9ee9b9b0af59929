"""Our edit without a task is diffusers' InstructPix2Pix pipeline, on random SD-1.5-shaped models."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
)
from toy_models import CONTEXT, SD_SCHEDULE, toy_backbone, toy_pictures, toy_unet

from emu_edit.core.diffusers_backbone import DiffusersBackbone
from emu_edit.core.edit import EditSettings, edit
from emu_edit.core.task_conditioning import TaskConditioner

TRAILING = SD_SCHEDULE | {"timestep_spacing": "trailing"}
V_ZERO_SNR = TRAILING | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
MULTISTEP = {k: v for k, v in TRAILING.items() if k not in ("set_alpha_to_one", "clip_sample")}
EULER = {k: v for k, v in SD_SCHEDULE.items() if k not in ("set_alpha_to_one", "clip_sample")}
EULER["timestep_spacing"] = "leading"


def pipeline_latents(backbone, scheduler, pictures, texts, steps, text, image, seeds):
    """Latents and pictures of diffusers' own pipeline."""
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    found = {}

    def keep(pipe, index, timestep, tensors):
        found["latents"] = tensors["latents"]
        return {}

    images = pipe(
        prompt=texts,
        image=pictures.movedim(-1, 1),
        num_inference_steps=steps,
        guidance_scale=text,
        image_guidance_scale=image,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
        callback_on_step_end=keep,
    ).images
    return found["latents"], images.movedim(1, -1)


@pytest.mark.parametrize(
    ("config", "scheduler", "sampler"),
    [
        pytest.param(SD_SCHEDULE, DDIMScheduler(**SD_SCHEDULE), "ddim", id="ddim"),
        pytest.param(TRAILING, DDIMScheduler(**TRAILING), "ddim", id="ddim-trailing"),
        pytest.param(V_ZERO_SNR, DDIMScheduler(**V_ZERO_SNR), "ddim", id="ddim-v-zero-snr"),
        pytest.param(EULER, EulerDiscreteScheduler(**EULER), "euler", id="euler"),
        pytest.param(TRAILING, DPMSolverMultistepScheduler(**MULTISTEP), "dpmpp_2m", id="dpmpp-2m"),
    ],
)
def test_edit_equals_the_pipeline(config, scheduler, sampler):
    backbone, size = toy_backbone(scheduler=config), (64, 128)
    pictures, texts = toy_pictures(2, *size), ["make the ball red, please", "remove it"]
    latents, images = pipeline_latents(backbone, scheduler, pictures, texts, 5, 7.5, 1.5, [11, 12])
    settings = EditSettings(
        steps=5, text_guidance=7.5, image_guidance=1.5, sampler=sampler, seed=11, size=max(size)
    )
    result = edit(backbone, pictures, texts, settings=settings)
    assert result.working_size == size
    assert float(latents.std()) > 0.1  # not a comparison of nothing with nothing
    torch.testing.assert_close(result.latents, latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.images, images, rtol=1e-4, atol=1e-4)


def test_the_unscaled_picture_matters():
    """The pipeline reads the picture without the scaling factor; with it the result is another."""
    pictures = toy_pictures()
    settings = EditSettings(steps=2, size=64)
    unscaled = edit(toy_backbone(), pictures, "remove it", settings=settings)
    scaled = edit(toy_backbone(image_condition="scaled"), pictures, "remove it", settings=settings)
    assert float((unscaled.latents - scaled.latents).abs().max()) > 1e-3


@pytest.mark.parametrize("task", [None, "none", "remove"])
def test_an_upgraded_model_equals_the_original_until_trained(task):
    plain = toy_backbone()
    unet = toy_unet(task_width=6)
    kept = unet.load_state_dict(plain.unet.state_dict(), strict=False)
    assert kept.missing_keys == ["class_embedding.weight", "class_embedding.bias"]
    assert not kept.unexpected_keys
    upgraded = DiffusersBackbone(
        unet,
        plain.vae,
        plain.text_encoder,
        plain.tokenizer,
        plain.scheduler_config,
        TaskConditioner(6, CONTEXT),
        name="upgraded",
        defaults=plain.defaults,
    )
    pictures = toy_pictures(2)
    before = edit(plain, pictures, "make the ball red")
    after = edit(upgraded, pictures, "make the ball red", task=task)
    assert torch.equal(before.latents, after.latents)
    assert torch.equal(before.images, after.images)
