"""Where a latent lies, and editors that are told."""

from __future__ import annotations

import json
import math

import pytest
import torch
from editors_on_disk import prediction, with_trained_tasks
from toy_models import toy_backbone

from emu_edit.core.checkpoints import add_image_channels, load_editor, save_editor, upgrade_to_emu
from emu_edit.core.errors import EmuEditError
from emu_edit.core.positions import CHANNELS, positions

LATENT, WAVES = 4, 3


def told(in_channels: int = 2 * LATENT + CHANNELS * WAVES, **options):
    return toy_backbone(in_channels=in_channels, position_frequencies=WAVES, **options)


def test_waves_of_every_place():
    like = torch.zeros(1, dtype=torch.float64)
    found = positions(WAVES, 3, 5, like)
    assert found.shape == (1, CHANNELS * WAVES, 3, 5) and found.dtype == torch.float64
    for power in range(WAVES):
        for row in range(3):
            for column in range(5):
                x, y = (math.pi * 2**power * p for p in ((column + 0.5) / 5, (row + 0.5) / 3))
                expected = torch.tensor([math.sin(x), math.cos(x), math.sin(y), math.cos(y)]).double()
                here = found[0, CHANNELS * power : CHANNELS * (power + 1), row, column]
                assert torch.allclose(here, expected, atol=1e-6)
    assert positions(0, 3, 5, like).shape == (1, 0, 3, 5)


def test_no_two_places_look_alike_and_a_larger_picture_has_the_same_waves():
    like = torch.zeros(1)
    flat = positions(1, 16, 16, like).flatten(2)[0].T
    apart = torch.cdist(flat, flat) + torch.eye(len(flat))
    assert apart.min() > 0.05
    small, large = positions(2, 8, 8, like), positions(2, 64, 64, like)
    assert torch.allclose(torch.nn.functional.avg_pool2d(large, 8), small, atol=0.03)


def test_the_unet_reads_positions_after_latents_and_picture():
    editor = told(latent_input="estimate")
    z, image = torch.randn(2, 2, LATENT, 8, 6)
    read = editor.unet_input(z, 300, image)
    assert torch.equal(read[:, :LATENT], editor.latents_read(z, 300))
    assert torch.equal(read[:, LATENT : 2 * LATENT], image)
    assert torch.equal(read[:, 2 * LATENT :], positions(WAVES, 8, 6, z).expand(2, -1, -1, -1))
    seen = []
    editor.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    editor.predict(z, 300, editor.encode_text(["a", "b"]), image)
    assert torch.equal(seen[0], read)


def test_positions_of_zero_weight_change_nothing():
    plain, editor = toy_backbone(), told()
    weights = dict(plain.unet.state_dict())
    first = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([first, first.new_zeros(len(first), CHANNELS * WAVES, 3, 3)], 1)
    editor.unet.load_state_dict(weights)
    assert torch.allclose(prediction(editor), prediction(plain), atol=1e-5)


def test_saved_and_loaded_with_its_waves(tmp_path):
    editor = with_trained_tasks(told(task_width=6, predicts="change", image_condition="scaled"))
    folder = save_editor(editor, tmp_path / "told")
    config = json.loads((folder / "emu_edit" / "config.json").read_text())
    assert config["version"] == 3 and config["position_frequencies"] == WAVES
    whole = json.dumps(
        config | {"position_frequencies": float(WAVES)}
    )  # as other writers of JSON may have it
    (folder / "emu_edit" / "config.json").write_text(whole)
    loaded = load_editor(folder)
    assert loaded.position_frequencies == WAVES and loaded.takes_image
    assert torch.equal(prediction(loaded, "add"), prediction(editor, "add"))


@pytest.mark.parametrize("value", ["3", -1, 2.5, None, True, 99])
def test_a_number_of_waves_that_is_none_is_told(tmp_path, value):
    folder = save_editor(told(task_width=6), tmp_path / "told")
    file = folder / "emu_edit" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"position_frequencies": value}))
    with pytest.raises(
        EmuEditError, match=r"position_frequencies is .* should be a whole number from 0 to 12"
    ):
        load_editor(folder)


def test_a_unet_of_other_channels_is_told(tmp_path):
    with pytest.raises(EmuEditError, match="takes 9 channels beside 12 of position but its VAE makes 4"):
        told(in_channels=21)
    folder = save_editor(told(task_width=6), tmp_path / "told")
    file = folder / "emu_edit" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"position_frequencies": 2}))
    with pytest.raises(EmuEditError, match="less 8 of position .* neither 4 nor 8: mend position_"):
        load_editor(folder)


def test_a_text_to_image_model_keeps_its_positions_when_it_is_made_an_editor():
    base = told(in_channels=LATENT + CHANNELS * WAVES)
    assert not base.takes_image
    editor = upgrade_to_emu(add_image_channels(base))
    assert editor.takes_image and editor.position_frequencies == WAVES
    z, image = torch.randn(2, 2, LATENT, 8, 8)
    text = base.encode_text(["bare tree", "a bear"])
    assert torch.allclose(editor.predict(z, 200, text, image), base.predict(z, 200, text), atol=1e-5)
