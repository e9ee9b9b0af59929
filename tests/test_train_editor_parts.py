"""Parts of the trainer: draws, weights of timesteps, rates, the average, the configuration."""

import json

import pytest
import torch
from toy_models import SD_SCHEDULE, toy_backbone, toy_unet

from emu_edit.core.backbone import NoiseSchedule
from emu_edit.core.checkpoints import add_image_channels, upgrade_to_emu
from emu_edit.core.errors import EmuEditError
from emu_edit.training.editor import objective
from emu_edit.training.editor.config import TrainConfig, from_values, read_file
from emu_edit.training.editor.ema import Average
from emu_edit.training.editor.journal import Journal
from emu_edit.training.editor.model import Trainee, with_objective
from emu_edit.training.editor.optimise import rate_factor
from emu_edit.training.editor.plan import memory, on_meta

SCHEDULE = NoiseSchedule.from_diffusers(SD_SCHEDULE)


def test_adding_picture_and_task_conditioning_changes_nothing_yet():
    base = toy_backbone(in_channels=4)
    editor = upgrade_to_emu(add_image_channels(base))
    trainee = Trainee(editor)
    torch.manual_seed(0)
    z, image, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    text = base.encode_text(["bare tree", "a bear"])
    with torch.no_grad():
        expected = base.predict(z, t, text)
        found = trainee(z, t, text.hidden, image, torch.tensor([2, -1]))
    assert torch.allclose(found, expected, atol=1e-5)  # a wider convolution may round otherwise
    with pytest.raises(EmuEditError, match="sees an input picture already"):
        add_image_channels(editor)


def test_dropping_takes_the_shares_asked_for_from_one_draw():
    config = TrainConfig(drop_text=0.1, drop_both=0.2, drop_image=0.3)
    draws = objective.draw(range(4000), (1, 1, 1), SCHEDULE, config)
    text, image = draws.no_text, draws.no_image
    shares = [(text & ~image), (text & image), (~text & image)]
    for share, wanted in zip(shares, (0.1, 0.2, 0.3), strict=True):
        assert share.float().mean() == pytest.approx(wanted, abs=0.02)


def test_a_pair_draws_the_same_in_any_batch():
    config = TrainConfig(seed=3)
    together = objective.draw(range(6), (4, 2, 2), SCHEDULE, config)
    apart = objective.draw([4], (4, 2, 2), SCHEDULE, config)
    assert torch.equal(together.noise[4], apart.noise[0]) and together.t[4] == apart.t[0]
    other = objective.draw([4], (4, 2, 2), SCHEDULE, TrainConfig(seed=4))
    assert not torch.equal(other.noise, apart.noise)


def test_timesteps_reach_the_end_but_not_pure_noise_without_v():
    zero = SD_SCHEDULE | {"rescale_betas_zero_snr": True}
    for kind, latest in (("epsilon", 998), ("v_prediction", 999)):
        schedule = NoiseSchedule.from_diffusers(zero | {"prediction_type": kind})
        assert objective.draw(range(8000), (1, 1, 1), schedule, TrainConfig()).t.max() == latest


def test_min_snr_weighs_the_error_of_x0():
    """An error e of x0 costs min(SNR, 5) e^2 in either prediction type."""
    t = torch.tensor([10, 300, 600, 990])
    x0, eps, off = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2), torch.full((4, 1, 2, 2), 0.1)
    abar = SCHEDULE.alphas_cumprod[t]
    expected = (abar / (1 - abar)).clamp(max=5) * 0.01
    for kind in ("epsilon", "v_prediction", "sample"):
        schedule = NoiseSchedule.from_diffusers(SD_SCHEDULE | {"prediction_type": kind})
        z = schedule.add_noise(x0, eps, t)
        error = objective.errors(schedule.from_x0(x0 + off, z, t), schedule.target(x0, eps, t))
        weights = objective.timestep_weights(schedule, kind, "min-snr", 5.0)[t]
        assert torch.allclose((error * weights).double(), expected, rtol=2e-3)
    zero = NoiseSchedule.from_diffusers(
        SD_SCHEDULE | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    )
    assert objective.timestep_weights(zero, "v_prediction", "min-snr", 5.0)[-1] == 1
    assert (objective.timestep_weights(zero, "v_prediction", "none", 5.0) == 1).all()


def test_the_objective_is_saved_with_the_editor():
    editor = with_objective(toy_backbone(), TrainConfig(prediction="v_prediction", zero_terminal_snr=True))
    assert editor.predicts == "v_prediction" and editor.schedule.zero_terminal_snr
    assert editor.scheduler_config["timestep_spacing"] == "trailing"


def test_the_rate_rises_and_falls_along_a_cosine():
    config = TrainConfig(warm_up=10, steps=110)
    factors = [rate_factor(step, config) for step in range(110)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == factors[10] == 1
    assert factors[60] == pytest.approx(0.5) and factors[-1] < 0.001
    assert rate_factor(100, TrainConfig(warm_up=0, schedule="constant")) == 1


def test_the_average_steps_in_and_out_bit_for_bit():
    model = torch.nn.Linear(3, 3)
    average = Average(model, 0.9)
    old = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(model, 1000)
    assert torch.allclose(average.values["weight"], old + 0.1)
    own, held = model.weight.detach().clone(), average.values["weight"].clone()
    with average.in_place_of(model):
        assert torch.equal(model.weight, held)
    assert torch.equal(model.weight, own) and torch.equal(average.values["weight"], held)


def test_the_log_takes_back_what_came_after_the_checkpoint(tmp_path):
    journal = Journal(tmp_path, 2, 0, {}, False)
    for step in range(1, 6):
        journal.note(step, {"loss": float(step)}, {})
    pending = journal.state()
    assert pending == {"loss": [5.0, 1.0]}
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    again = Journal(tmp_path, 2, 3, {"loss": [3.0, 1.0]}, False)
    assert again.note(4, {"loss": 4.0}, {}) == {"step": 4, "loss": 3.5}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 2, "loss": 1.5}, {"step": 4, "loss": 3.5}]


def test_tensorboard_files(tmp_path):
    pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    journal = Journal(tmp_path, 1, 0, {}, True)
    journal.note(1, {"loss": 0.5}, {"rate": 1e-4})
    journal.close()
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch": 0}, "--batch is 0; give a whole number"),
        ({"rate": "fast"}, "rate is 'fast'; give a value of type float"),
        ({"speed": 1}, "no option 'speed'"),
        ({"drop_text": 0.7, "drop_both": 0.4}, "--drop-text, --drop-both, --drop-image is"),
        ({"precision": "fp8"}, "--precision is 'fp8'; give fp32 or bf16 or fp16"),
        ({"steps": True}, "steps is True"),
        ({"sample_steps": 0}, "--sample-steps is 0; give a whole number"),
        ({"seed": -1}, "--seed is -1; give 0 or more"),
    ],
)
def test_a_wrong_configuration_is_a_sentence(values, sentence):
    with pytest.raises(EmuEditError, match=sentence):
        from_values(values, "here")


def test_the_shipped_configurations_are_read(root):
    pytest.importorskip("yaml")
    for name in ("sd15.yaml", "sd15_one_gpu.yaml", "low_memory.yaml"):
        values = read_file(root / "training" / "configs" / name)
        assert from_values(values, name).to_json()["rate"] == float(values["rate"])
    for name in ("accelerate_8_gpus.yaml", "accelerate_fsdp.yaml"):
        assert read_file(root / "training" / "configs" / name)["num_processes"] == 8


def test_the_estimate_counts_what_is_there():
    config = TrainConfig(base="x", size=64, batch=2)
    model = on_meta(dict(toy_unet().config), config, latent=4)
    parts, total = memory(model, config)
    real = sum(p.numel() for p in upgrade_to_emu(toy_backbone()).unet.parameters())
    assert parts["weights"] == 4 * real and parts["adamw"] == 8 * real
    frugal = TrainConfig(
        base="x", size=64, batch=2, optimiser="adafactor", gradient_checkpointing=True, ema=0.0
    )
    less, smaller = memory(on_meta(dict(toy_unet().config), frugal, latent=4), frugal)
    assert less["activations"] < parts["activations"] and less["adafactor"] < 0.3 * parts["adamw"]
    assert smaller < total
