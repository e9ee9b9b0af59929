"""The editor's trainer: exact resumption from a death at any moment, and every bad input a sentence."""

import dataclasses
import errno
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from toy_models import toy_backbone
from training_data import tiny_config, write_base, write_shards

from emu_edit.core.checkpoints import load_editor, save_editor
from emu_edit.core.edit import EditSettings, edit
from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import durable
from emu_edit.training import train_editor
from emu_edit.training.editor import checkpoint, loop
from emu_edit.training.editor.export import export

PARTS = ("trainee", "ema", "optimiser")


class Killed(BaseException):
    """The process dies: no handler of ours may catch this."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    write_base(folder / "base")
    write_shards(folder / "pairs")
    return folder


def config(place, run, **more):
    return tiny_config(place / "base", place / "pairs", run, cache=str(place / "cache"), **more)


@pytest.fixture(scope="module")
def whole(place):
    """A run that nothing disturbed."""
    train_editor.run_training(config(place, place / "whole"))
    return place / "whole"


def final(run, number=6):
    step = run / "checkpoints" / f"step-{number:08d}"
    return {part: load_file(step / f"{part}.safetensors") for part in PARTS}


def log(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_run(found, expected, number=6):
    for part, tensors in final(expected, number).items():
        mine = final(found, number)[part]
        assert mine.keys() == tensors.keys()
        assert all(torch.equal(mine[name], tensors[name]) for name in tensors), part
    assert log(found) == log(expected)


def assert_all_whole(run):
    """Every folder that is called a checkpoint opens and is of its recorded size."""
    for folder in (run / "checkpoints").glob("step-*"):
        sizes = json.loads((folder / "state.json").read_text())["files"]
        assert set(sizes) == {f"{part}.safetensors" for part in PARTS}
        for name, size in sizes.items():
            assert (folder / name).stat().st_size == size and load_file(folder / name)


def test_a_run_dies_at_every_write_and_ends_as_if_it_had_not(place, tmp_path, monkeypatch):
    run, deaths, short = tmp_path / "run", 0, {"steps": 3, "save_every": 1}
    train_editor.run_training(config(place, tmp_path / "alone", **short))
    for attempt in range(1, 60):
        calls = []

        def dies(*step, calls=calls, attempt=attempt):
            calls.append(step)
            if len(calls) == attempt:
                for part in (run / "checkpoints").glob(".step-*.part"):
                    (part / "ema.safetensors").write_bytes(b"half a file")
                raise Killed

        monkeypatch.setattr(checkpoint, "at_step", dies)
        monkeypatch.setattr(durable, "at_step", dies)
        try:
            train_editor.run_training(config(place, run, **short))
            break
        except Killed:
            deaths += 1
            assert_all_whole(run)
    assert deaths >= 10
    assert_same_run(run, tmp_path / "alone", 3)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]


def test_a_run_in_three_sittings_is_the_run_in_one(place, whole, tmp_path):
    """Stopped after one step and after five, so saved at other steps than the whole run was."""
    for limit in (1, 5, 6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "asked_to_stop", lambda limit=limit: StopAfter(tmp_path, limit))
            train_editor.run_training(config(place, tmp_path, save_every=100))
    assert_same_run(tmp_path, whole)


class StopAfter:
    """What asked_to_stop gives, as if Ctrl-C came during step `limit`."""

    def __init__(self, run, limit):
        self.run, self.limit = run, limit

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def is_set(self):
        done = (
            len((self.run / "log.jsonl").read_text().splitlines())
            if (self.run / "log.jsonl").is_file()
            else 0
        )
        return done + 1 >= self.limit


def test_training_moves_weights_tasks_and_picture_channels(place, whole):
    start, now = final(whole)["trainee"], final(whole)["ema"]
    assert start["unet.conv_in.weight"].shape[1] == 8
    assert start["unet.conv_in.weight"][:, 4:].abs().max() > 0
    assert start["tasks.to_context.weight"].abs().max() > 0
    assert not torch.equal(start["tasks.table.weight"], now["tasks.table.weight"])
    step = json.loads((whole / "checkpoints" / "step-00000006" / "state.json").read_text())
    assert step["place"] == {"epoch": 1, "unit": 0, "offset": 2}  # 12 pairs taken of 10


def test_the_exported_editor_loads_and_edits(place, whole, tmp_path):
    assert export(whole, tmp_path / "editor", "fp32") == 6
    editor = load_editor(tmp_path / "editor")
    assert editor.takes_image and "local" in editor.task_names
    assert torch.equal(editor.unet.conv_in.weight, final(whole)["ema"]["unet.conv_in.weight"])
    result = edit(
        editor, torch.rand(1, 64, 64, 3), "make the ball red", "local", settings=EditSettings(steps=1)
    )
    assert result.images.shape == (1, 64, 64, 3)


def test_exporting_leaves_alone_what_a_training_is_writing(place, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    part = run / "checkpoints" / ".step-00000007.part"
    part.mkdir()
    (part / "ema.safetensors").write_bytes(b"half a file")
    said = ["--run", str(run), "--base", str(place / "base"), "--export", str(tmp_path / "editor")]
    assert train_editor.main(said) == 0
    assert (part / "ema.safetensors").is_file()
    assert checkpoint.newest_checkpoint(run / "checkpoints", clear=True).step == 6
    assert not part.exists()


def test_a_loss_that_is_no_number_stops_with_the_state_kept(place, tmp_path, monkeypatch):
    train_editor.run_training(config(place, tmp_path / "run", steps=2))
    monkeypatch.setattr(
        loop.objective, "errors", lambda p, t: (p - t).square().mean((1, 2, 3)) * float("nan")
    )
    with pytest.raises(EmuEditError, match=r"the loss is nan at step 3.*step 2 is kept.*--rate"):
        train_editor.run_training(config(place, tmp_path / "run"))
    assert_all_whole(tmp_path / "run")
    monkeypatch.undo()
    train_editor.run_training(config(place, tmp_path / "run", steps=4, rate=1e-4))
    changes = [line["changed"] for line in log(tmp_path / "run") if "changed" in line]
    assert changes[-1]["rate"] == [1e-3, 1e-4]


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_later(place, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_editor.run_training(config(place, run, steps=2, minutes=0))
    real, written = checkpoint.save_file, []

    def full(tensors, file):
        written.append(file)
        if len(written) == 2:
            with open(file, "wb") as half:
                half.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, file)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(EmuEditError, match=r"checkpoint of step 4 .*disk is full.*step-00000002 is kept"):
        train_editor.run_training(config(place, run))
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000002"]
    monkeypatch.setattr(checkpoint, "save_file", real)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(EmuEditError, match=r"GB are needed"):
        train_editor.run_training(config(place, run))
    monkeypatch.undo()
    train_editor.run_training(config(place, run))
    assert final(run)["trainee"].keys() == final(whole)["trainee"].keys()


def test_a_damaged_checkpoint_is_named(place, tmp_path):
    run = tmp_path / "run"
    train_editor.run_training(config(place, run, steps=2))
    file = run / "checkpoints" / "step-00000002" / "ema.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(EmuEditError, match=r"step-00000002 was damaged.*delete it"):
        train_editor.run_training(config(place, run))


def test_what_must_not_change_between_sittings(place, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    for change in ({"seed": 5}, {"optimiser": "adafactor"}, {"batch": 1}):
        with pytest.raises(EmuEditError, match=r"was begun with"):
            train_editor.run_training(config(place, tmp_path / "run", steps=8, **change))


def test_bases_that_cannot_be_trained(place, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(place / "base", base)
    settings = json.loads((base / "unet" / "config.json").read_text())
    (base / "unet" / "config.json").write_text(json.dumps(settings | {"in_channels": 9}))
    bad = dataclasses.replace(config(place, tmp_path / "run"), base=str(base))
    with pytest.raises(EmuEditError, match=r"has 9 input channels.* 4 and an editor 8"):
        train_editor.run_training(bad)
    with pytest.raises(EmuEditError, match="--size 72"):
        train_editor.run_training(config(place, tmp_path / "run", size=72))
    with pytest.raises(EmuEditError, match="--base is missing"):
        train_editor.run_training(dataclasses.replace(bad, base=""))


def test_a_cache_of_another_size_or_model_is_refused(place, whole, tmp_path):
    with pytest.raises(EmuEditError, match=r"--cache .* size 64.* size 128"):
        train_editor.run_training(config(place, tmp_path / "run", size=128))


def test_without_a_cache_with_samples_and_bf16(place, tmp_path):
    chosen = tiny_config(
        place / "base",
        place / "pairs",
        tmp_path / "run",
        steps=2,
        accumulate=2,
        batch=1,
        precision="bf16",
        gradient_checkpointing=True,
        optimiser="adafactor",
        samples_every=2,
        samples=2,
        sample_steps=1,
    )
    train_editor.run_training(chosen)
    assert (tmp_path / "run" / "samples" / "step-00000002.png").stat().st_size > 1000
    assert [line["step"] for line in log(tmp_path / "run")] == [1, 2]


def test_dry_run_tells_the_memory(place, tmp_path, capsys):
    arguments = ["--base", str(place / "base"), "--data", str(place / "pairs"), "--size", "64", "--dry-run"]
    assert train_editor.main([*arguments, "--run", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "image channels are added" in said and "adamw" in said and "in all" in said
    assert not (tmp_path / "run").exists()
    told = toy_backbone(in_channels=16, position_frequencies=2, task_width=6)
    for base, seen in (
        (told, "sees pictures already"),
        (toy_backbone(in_channels=12, position_frequencies=2), "image channels are added"),
    ):
        arguments[1] = str(save_editor(base, tmp_path / "base"))
        assert train_editor.main([*arguments, "--run", str(tmp_path / "run")]) == 0
        assert seen in capsys.readouterr().out
    assert train_editor.main(["--data", "nowhere", *arguments[:2], "--run", str(tmp_path / "run")]) == 1
    assert "does not exist" in capsys.readouterr().err
