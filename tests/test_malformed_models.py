"""Hand-edited, half-written and vanished model files: one sentence each, never a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from editors_on_disk import save_trained

from emu_edit.commands import listing
from emu_edit.commands.edit import open_editor
from emu_edit.commands.main import main
from emu_edit.core.checkpoints import load_editor
from emu_edit.core.devices import usable_device
from emu_edit.core.errors import EmuEditError
from emu_edit.core.model_numbers import check_autoencoder, check_defaults, check_scheduler
from emu_edit.nodes.loaders import signature

FILE = Path("config.json")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "toy"
    save_trained(folder)
    return folder


@pytest.fixture
def copy(toy, tmp_path):
    """A copy of a small editor to spoil, alone in a folder."""
    return Path(shutil.copytree(toy, tmp_path / "models" / "toy"))


def rewrite(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "defaults",
    [
        {"steps": "many"},
        {"steps": 2.5},
        {"steps": 0},
        {"steps": True},
        {"size": None},
        {"size": [512]},
        {"text_guidance": "7,5"},
        {"image_guidance": float("nan")},
        {"image_guidance": float("inf")},
        {"text_guidance": -1},
    ],
)
def test_recommended_settings_must_be_numbers(defaults):
    (name,) = defaults
    with pytest.raises(EmuEditError, match=rf"^config.json: defaults.{name} is .* should be a .*number"):
        check_defaults(defaults, FILE)


def test_sound_numbers_pass():
    check_defaults({"steps": 3, "size": 128.0, "text_guidance": 0, "image_guidance": 1.5, "note": "x"}, FILE)
    check_defaults({}, FILE)
    check_scheduler(
        {"beta_start": 0.00085, "beta_end": 0.012, "trained_betas": None, "steps_offset": 1}, FILE
    )
    check_scheduler({"trained_betas": [0.1, 0.2], "beta_start": None}, FILE)
    check_autoencoder({"scaling_factor": 0.18215}, FILE)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"num_train_timesteps": "1000"}, "num_train_timesteps"),
        ({"num_train_timesteps": 0}, "num_train_timesteps"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps"),
        ({"steps_offset": 0.5}, "steps_offset"),
        ({"beta_start": None}, "beta_start"),
        ({"beta_start": -0.1}, "beta_start"),
        ({"beta_end": {}}, "beta_end"),
        ({"beta_end": 2}, "beta_end"),
        ({"trained_betas": 0.1}, "trained_betas"),
        ({"trained_betas": []}, "trained_betas"),
        ({"trained_betas": [0.1, "x"]}, r"trained_betas\[1\]"),
    ],
)
def test_schedules_must_be_numbers(config, name):
    with pytest.raises(EmuEditError, match=f"^config.json: {name} "):
        check_scheduler(config, FILE)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("emu_edit/config.json", {"defaults": {"steps": "many"}}, "defaults.steps is 'many'"),
        ("scheduler/scheduler_config.json", {"beta_start": "low"}, "beta_start is 'low'"),
        ("scheduler/scheduler_config.json", {"trained_betas": ["x"]}, r"trained_betas\[0\] is 'x'"),
        ("vae/config.json", {"scaling_factor": "big"}, "scaling_factor is 'big'"),
    ],
)
def test_loading_names_the_file_and_the_number(copy, file, changes, words):
    rewrite(copy / file, **changes)
    with pytest.raises(EmuEditError, match=f"{file}: {words}") as slip:
        load_editor(copy)
    assert "\n" not in str(slip.value)


def test_a_dangling_link_is_seen_as_missing_and_named_when_loading(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    before = signature(copy)
    weights.rename(copy.parent / "elsewhere")
    weights.symlink_to(copy.parent / "nowhere.safetensors")
    spoiled = signature(copy)
    assert spoiled != before and ("unet/diffusion_pytorch_model.safetensors", -1, -1) in spoiled
    assert spoiled == signature(copy)
    with pytest.raises(EmuEditError, match="unet/diffusion_pytorch_model.safetensors does not exist"):
        load_editor(copy)
    single = copy.parent / "gone.safetensors"
    single.symlink_to(copy.parent / "nowhere.safetensors")
    assert signature(single) == ((".", -1, -1),)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: rewrite(f / "emu_edit/config.json", defaults=[1]), "defaults an object"),
        (
            lambda f: rewrite(f / "emu_edit/config.json", defaults={"steps": "many"}),
            "defaults.steps is 'many'",
        ),
        (lambda f: rewrite(f / "emu_edit/config.json", task_names=7), "task_names a list of names"),
        (lambda f: rewrite(f / "emu_edit/config.json", name=None), "name must be a text"),
        (lambda f: rewrite(f / "unet/config.json", in_channels=None), "in_channels is None"),
        (lambda f: rewrite(f / "vae/config.json", latent_channels="four"), "latent_channels is 'four'"),
        (lambda f: (f / "vae/config.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "extra.safetensors").symlink_to(f / "nowhere"), "cannot be read"),
    ],
)
def test_damaged_editors_are_left_out_of_the_list_with_a_sentence(copy, spoil, words, capsys, monkeypatch):
    monkeypatch.setattr(listing, "bundled_editor_path", lambda: copy.parent.parent / "none" / "small")
    assert main(["models", "--folder", str(copy.parent)]) == 0
    assert capsys.readouterr().err == ""
    spoil(copy)
    assert main(["models", "--folder", str(copy.parent), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"models": []}
    assert told.err.startswith("emu-edit: left out: ") and words in told.err and told.err.count("\n") == 1


def test_files_that_are_no_editors_are_not_spoken_of(tmp_path, capsys, monkeypatch):
    import torch
    from safetensors.torch import save_file

    monkeypatch.setattr(listing, "bundled_editor_path", lambda: tmp_path / "none" / "small")
    save_file({listing.FIRST_LAYER: torch.zeros(3)}, str(tmp_path / "flat.safetensors"))
    save_file({"other": torch.zeros(3)}, str(tmp_path / "lora.safetensors"))
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text("{}")
    assert main(["models", "--folder", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"models": []} and told.err == ""


@pytest.mark.parametrize("device", ["meta", "warp", "cuda:99", ""])
def test_devices_that_nothing_runs_on_are_refused(device):
    with pytest.raises(EmuEditError, match="^device .* cannot be used .*; choose auto or cpu"):
        usable_device(device)
    assert usable_device("cpu") == "cpu" and usable_device("auto") in ("cpu", "cuda")


def test_every_command_refuses_the_meta_device(tmp_path, capsys):
    from PIL import Image

    picture = tmp_path / "in.png"
    Image.new("RGB", (16, 16)).save(picture)
    for words in (["edit", str(picture), "make it blue"], ["mask", str(picture), "the ball"]):
        assert main([*words, "--device", "meta", "-o", str(tmp_path / "out.png")]) == 1
        assert "device 'meta' cannot be used" in capsys.readouterr().err


def test_a_tokenizer_that_would_be_ignored_is_refused(copy):
    with pytest.raises(EmuEditError, match="--tokenizer x: the folder .*toy has a tokenizer of its own"):
        open_editor(str(copy), "cpu", "x")
    with pytest.raises(EmuEditError, match="--tokenizer x: the bundled editor has a tokenizer of its own"):
        open_editor(None, "cpu", "x")
