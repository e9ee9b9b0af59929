"""Two-condition guidance: the formula, the skipping of branches, what reaches the network."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_models import SD_SCHEDULE, toy_backbone

from emu_edit.core.backbone import NoiseSchedule, TextContext
from emu_edit.core.errors import EmuEditError
from emu_edit.core.guidance import Guidance, combine, guided_prediction

SCALES = [(7.5, 1.5), (1.0, 1.5), (7.5, 1.0), (1.0, 1.0), (3.0, 3.0), (0.0, 1.0), (0.0, 0.0), (2.0, 0.0)]


def branches(seed=0):
    return torch.randn(3, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.floats(0, 20), st.floats(0, 5))
def test_combine_is_the_papers_formula(text, image):
    full, image_only, none = branches()
    expected = none + image * (image_only - none) + text * (full - image_only)
    guidance = Guidance(text, image)
    torch.testing.assert_close(combine(full, image_only, none, guidance), expected)
    w = guidance.weights
    assert math.isclose(sum(w), 1.0, abs_tol=1e-9)
    torch.testing.assert_close(w[0] * full + w[1] * image_only + w[2] * none, expected)


def test_guiding_noise_and_guiding_v_agree():
    z, (full, image_only, none) = torch.randn(2, 4, 8, 8).double(), branches()
    noise = NoiseSchedule.from_diffusers(SD_SCHEDULE)
    v = NoiseSchedule.from_diffusers(SD_SCHEDULE | {"prediction_type": "v_prediction"})
    guidance, t = Guidance(5.0, 1.5), 600
    as_v = [v.from_x0(noise.to_x0(e, z, t), z, t) for e in (full, image_only, none)]
    expected = noise.to_x0(combine(full, image_only, none, guidance), z, t)
    torch.testing.assert_close(v.to_x0(combine(*as_v, guidance), z, t), expected)


def test_rescale_restores_the_spread():
    full, image_only, none = branches()
    rescaled = combine(full, image_only, none, Guidance(7.5, 1.5, rescale=1.0))
    axes = (1, 2, 3)
    torch.testing.assert_close(rescaled.std(dim=axes), full.std(dim=axes))
    half = combine(full, image_only, none, Guidance(7.5, 1.5, rescale=0.5))
    plain = combine(full, image_only, none, Guidance(7.5, 1.5))
    torch.testing.assert_close(half, (rescaled + plain) / 2)


class Recorder:
    """In place of a network: each item's prediction depends on its own text, picture, task and timestep."""

    def __init__(self):
        self.calls = []

    def predict(self, latents, timestep, text, image=None, task=None):
        self.calls.append((latents, timestep, text, image, task))
        out = latents * 0.5 + text.hidden.mean(dim=(1, 2)).view(-1, 1, 1, 1)
        if isinstance(timestep, torch.Tensor):
            out = out + timestep.view(-1, 1, 1, 1) / 1000
        if image is not None:
            out = torch.sin(out + image)
        return out if task is None else out * (1 + task.sum(dim=1).view(-1, 1, 1, 1))


def inputs(batch=2):
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    text = TextContext(normal(batch, 5, 6), [[0]] * batch, [["a"]] * batch)
    empty = TextContext(normal(1, 5, 6), [[-1]], [[]])
    return normal(batch, 4, 8, 8), text, empty, normal(batch, 4, 8, 8), normal(batch, 3)


@pytest.mark.parametrize("scales", SCALES)
def test_skipping_branches_is_exact(scales):
    z, text, empty, image, task = inputs()
    guidance, network = Guidance(*scales), Recorder()
    found = guided_prediction(network, z, 500, text, empty, image, task, guidance)
    assert len(network.calls) == 1
    assert len(network.calls[0][0]) == 2 * sum(weight != 0 for weight in guidance.weights)
    both = empty.expand(2)
    expected = combine(
        network.predict(z, 500, text, image, task),
        network.predict(z, 500, both, image, task),
        network.predict(z, 500, both, torch.zeros_like(image), task),
        guidance,
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_skipping_branches_is_exact_on_a_network():
    backbone = toy_backbone()
    z, image = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    text, empty = backbone.encode_text(["a red ball", "remove it"]), backbone.encode_text([""])
    with torch.no_grad():
        for scales in SCALES:
            found = guided_prediction(backbone, z, 500, text, empty, image, None, Guidance(*scales))
            full, image_only = (backbone.predict(z, 500, c.expand(2), image) for c in (text, empty))
            none = backbone.predict(z, 500, empty.expand(2))
            expected = combine(full, image_only, none, Guidance(*scales))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_branches_go_in_the_order_full_image_none_and_keep_the_task():
    z, text, empty, image, task = inputs()
    network = Recorder()
    times = torch.tensor([100, 900])
    found = guided_prediction(network, z, times, text, empty, image, task, Guidance(7.5, 1.5))
    latents, timestep, context, images, tasks = network.calls[0]
    assert torch.equal(latents, torch.cat([z, z, z]))
    assert torch.equal(timestep, torch.cat([times] * 3))
    hidden = empty.hidden.repeat(2, 1, 1)
    assert torch.equal(context.hidden, torch.cat([text.hidden, hidden, hidden]))
    assert context.words == [["a"], ["a"], [], [], [], []]
    assert torch.equal(images, torch.cat([image, image, torch.zeros_like(image)]))
    assert torch.equal(tasks, torch.cat([task, task, task]))
    for i in range(2):
        alone = guided_prediction(
            network, z[i : i + 1], times[i : i + 1], text[i : i + 1], empty, image[i : i + 1],
            task[i : i + 1], Guidance(7.5, 1.5),
        )  # fmt: skip
        torch.testing.assert_close(found[i : i + 1], alone)


def test_without_a_picture_only_the_text_guides():
    z, text, empty, _, task = inputs()
    network = Recorder()
    found = guided_prediction(network, z, 500, text, empty, None, task, Guidance(4.0, 1.5))
    assert len(network.calls[0][0]) == 4 and network.calls[0][3] is None
    full, none = (network.predict(z, 500, c.expand(2), None, task) for c in (text, empty))
    torch.testing.assert_close(found, none + 4.0 * (full - none))


def test_rescale_needs_the_conditional_branch_even_at_text_guidance_0():
    z, text, empty, image, task = inputs()
    network = Recorder()
    found = guided_prediction(network, z, 500, text, empty, image, task, Guidance(0.0, 1.0, rescale=1.0))
    expected = network.predict(z, 500, text, image, task).std(dim=(1, 2, 3))
    torch.testing.assert_close(found.std(dim=(1, 2, 3)), expected)


@pytest.mark.parametrize("name", ["text", "image", "rescale"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_wrong_scales_are_refused(name, value):
    with pytest.raises(EmuEditError, match=f"{name}.*is {value};.*give"):
        Guidance(**{name: value})


def test_gradients_flow_through_the_prediction():
    backbone = toy_backbone(task_width=6)
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = backbone.encode_text(["a red ball"])
    text.hidden = text.hidden.detach().requires_grad_()
    torch.nn.init.normal_(backbone.conditioner.to_context.weight)
    task = torch.zeros(1, 6, requires_grad=True)
    empty = backbone.encode_text([""])
    guided_prediction(backbone, z, 500, text, empty, z, task, Guidance(3.0, 1.5)).square().sum().backward()
    for gradient in (text.hidden.grad, task.grad):
        assert gradient is not None and float(gradient.abs().max()) > 0
