"""The bundled editor's trainer: resuming is exact, a kill leaves a whole state, and scores are right."""

import argparse
import json
import signal
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from emu_edit.core.checkpoints import load_editor
from emu_edit.core.diffusers_backbone import picture_change
from emu_edit.core.edit import EditSettings, edit
from emu_edit.core.errors import EmuEditError
from emu_edit.training import evaluate
from emu_edit.training.small import state as state_module
from emu_edit.training.small import train as train_module
from emu_edit.training.small.base import base_from_editor
from emu_edit.training.small.grow import grown
from emu_edit.training.small.journal import Journal
from emu_edit.training.small.models import build_editor
from emu_edit.training.small.muon import orthogonalised, split_parameters
from emu_edit.training.small.objective import Trainee
from emu_edit.training.small.recipe import Recipe
from emu_edit.training.small.train import train

TINY = Recipe(
    latent_channels=24,
    text_width=16,
    text_layers=1,
    text_heads=2,
    channels=(8, 16),
    groups=4,
    heads=2,
    batch=4,
    component_pairs=24,
    warm_up=2,
)


def sitting(folder, samples, **more):
    chosen = argparse.Namespace(
        run=folder,
        size=64,
        samples=samples,
        minutes=60,
        anneal=0,
        start=None,
        first_sample=0,
        export=None,
        device="cpu",
        workers=0,
        what="editor",
    )
    for name, value in more.items():
        setattr(chosen, name, value)
    train(TINY, chosen)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    sitting(folder, 24, export=folder / "editor")
    return folder


def test_a_stopped_run_goes_on_as_if_it_had_not_been(whole_run, tmp_path):
    for samples in (4, 12, 24):
        sitting(tmp_path, samples)
    expected, found = (load_file(folder / "state.safetensors") for folder in (whole_run, tmp_path))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_training_moves_every_part(whole_run):
    before = load_editor(whole_run / "start")
    after = load_editor(whole_run / "editor")
    assert not torch.equal(before.unet.conv_out.weight, after.unet.conv_out.weight)
    assert not torch.equal(before.conditioner.table.weight, after.conditioner.table.weight)
    first = next(before.text_encoder.parameters())
    assert not torch.equal(first, next(after.text_encoder.parameters()))
    assert torch.equal(before.vae.analysis.weight.half().float(), after.vae.analysis.weight)


def test_an_untrained_editor_leaves_the_picture(whole_run):
    editor = load_editor(whole_run / "start")
    picture = torch.rand(1, 64, 64, 3)
    edited = edit(editor, picture, "make the ball blue", "local", settings=EditSettings(size=64)).images
    with torch.no_grad():
        through_autoencoder = editor.decode_latents(editor.encode_image(picture))
    assert (edited - through_autoencoder).abs().max() < 1e-4


def test_a_kill_while_saving_leaves_the_old_state(whole_run, tmp_path, monkeypatch):
    sitting(tmp_path, 4)
    kept = (tmp_path / "state.safetensors").read_bytes()

    def dies(tensors, path, metadata):
        with open(path, "wb") as half:
            half.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(state_module, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        sitting(tmp_path, 8)
    assert (tmp_path / "state.safetensors").read_bytes() == kept
    monkeypatch.undo()
    sitting(tmp_path, 8)


def test_scores_of_known_pictures():
    source, target = torch.zeros(8, 8, 3), torch.zeros(8, 8, 3)
    target[:4] = 0.5
    assert evaluate.score(source, target, target) == {"inside": 0.0, "outside": 0.0, "success": 1.0}
    assert evaluate.score(source, target, source)["inside"] == pytest.approx(1.0)
    leaky = target.clone()
    leaky[4:] = 0.1
    assert evaluate.score(source, target, leaky)["success"] == 0.0
    halfway = evaluate.score(source, target, target * 0.5)
    assert halfway["inside"] == pytest.approx(0.5) and halfway["success"] == 0.0


def test_slips_are_sentences_before_any_work(tmp_path, capsys):
    for arguments, words in (
        (["--scenes", "0"], "--scenes is 0"),
        (["--json", str(tmp_path / "no" / "x.json")], "--json"),
        (["--sheet", str(tmp_path / "x.bmpp")], "picture format"),
        (["--model", str(tmp_path / "no")], "no"),
    ):
        assert evaluate.main(arguments) == 1
        assert words in capsys.readouterr().err
    assert train_module.main(["--run", str(tmp_path / "run"), "--from", str(tmp_path / "no")]) == 1
    assert str(tmp_path / "no") in capsys.readouterr().err


def test_evaluation_writes_what_was_promised(whole_run, tmp_path):
    out = tmp_path / "report.json"
    evaluate.main(
        [
            "--model",
            str(whole_run / "editor"),
            "--scenes",
            "6",
            "--seed",
            "3",
            "--steps",
            "2",
            "--json",
            str(out),
            "--sheet",
            str(tmp_path / "sheet.png"),
        ]  # fmt: skip
    )
    report = json.loads(out.read_text())
    assert 0 <= report["mean_success"] <= 1 and report["seconds_per_edit"] > 0
    for row in report["tasks"].values():
        assert {"success", "inside", "outside", "n"} <= row.keys()
        assert row["identity"]["success"] == 0.0
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_ctrl_c_ends_a_sitting_with_its_state_saved(whole_run, tmp_path, monkeypatch):
    monkeypatch.setattr(Journal, "speak", lambda self, progress: signal.raise_signal(signal.SIGINT))
    sitting(tmp_path, 24)
    monkeypatch.undo()
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        assert json.loads(file.metadata()["progress"])["samples"] == TINY.batch
    sitting(tmp_path, 24)
    expected, found = (load_file(folder / "state.safetensors") for folder in (whole_run, tmp_path))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_loss_that_is_no_number_is_a_sentence(tmp_path, monkeypatch):
    sitting(tmp_path, 4)
    kept = (tmp_path / "state.safetensors").read_bytes()
    broken = replace(train_module.WORK["editor"], loss=lambda *_: (torch.tensor(float("nan")), {}))
    monkeypatch.setitem(train_module.WORK, "editor", broken)
    with pytest.raises(EmuEditError, match=r"the loss is nan at sample 4.*--rate"):
        sitting(tmp_path, 8)
    assert (tmp_path / "state.safetensors").read_bytes() == kept


def test_muons_update_is_nearly_orthogonal_and_splits_the_weights():
    for shape in ((16, 40), (40, 16)):
        values = torch.linalg.svdvals(
            orthogonalised(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
        )
        assert values.min() > 0.6 and values.max() < 1.3
    editor = build_editor(TINY, ["red"], torch.rand(8, 3, 64, 64) * 2 - 1)
    trainee = Trainee(editor, TINY)
    hidden, rest = split_parameters(trainee)
    assert len(hidden) + len(rest) == len(list(trainee.parameters()))
    assert all(weight.ndim >= 2 for weight in hidden)
    outer = (editor.unet.conv_in, editor.unet.conv_out, editor.text_encoder.get_input_embeddings())
    assert all(any(layer.weight is weight for weight in rest) for layer in outer)


def test_growing_keeps_what_an_editor_knows():
    pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    small = build_editor(TINY, ["red", "ball"], pictures)
    torch.nn.init.normal_(small.unet.conv_out.weight, std=0.1)
    wider = replace(TINY, latent_channels=32, text_tokens=40)
    large = grown(small, wider, ["ball", "blue", "red"], pictures)
    with torch.no_grad():
        before, after = (e.vae.encode(pictures).latent_dist.mode() for e in (small, large))
        assert torch.allclose(after[:, :24], before, atol=1e-5)
        errors = [
            (e.vae.decode(z).sample - pictures).square().mean() for e, z in ((small, before), (large, after))
        ]
        assert errors[1] < errors[0]
        noise = torch.randn(after.shape)
        context = torch.randn(8, 32, TINY.text_width)
        more = {"encoder_hidden_states": context, "class_labels": torch.zeros(8, TINY.text_width)}
        old = small.unet(torch.cat([noise[:, :24], before], 1), 500, **more).sample
        new = large.unet(torch.cat([noise, after], 1), 500, **more).sample
        change = picture_change(new, after)
        assert torch.allclose(change[:, :24], picture_change(old, before), atol=1e-4)
        assert new[:, 24:32].abs().max() == 0 and torch.equal(new[:, 32:].bool(), old[:, 24:].bool())
    for word in ("red", "ball"):
        vectors = [
            e.text_encoder.get_input_embeddings().weight[e.tokenizer.get_vocab()[word]]
            for e in (small, large)
        ]
        assert torch.equal(*vectors)
    with pytest.raises(EmuEditError, match="does not fit the recipe"):
        grown(large, TINY, ["red"], pictures)


def test_the_base_begins_as_the_editor_it_is_cut_from_and_learns(whole_run, tmp_path):
    editor = load_editor(whole_run / "editor")
    base = base_from_editor(editor, TINY)
    assert not base.takes_image and base.predicts == "sample"
    shared = base.unet.state_dict().keys() & editor.unet.state_dict().keys()
    assert "mid_block.resnets.0.conv1.weight" in shared
    for name in shared - {"conv_in.weight", "conv_out.weight", "conv_out.bias"}:
        assert torch.equal(base.unet.state_dict()[name], editor.unet.state_dict()[name]), name
    sitting(tmp_path, 12, what="base", start=whole_run / "editor", export=tmp_path / "base")
    learnt = load_editor(tmp_path / "base", kind="text-to-image")
    assert not learnt.takes_image and learnt.defaults["steps"] == TINY.base_defaults["steps"]
    again = tmp_path / "again"
    for samples in (4, 12):
        sitting(again, samples, what="base", start=whole_run / "editor")
    expected, found = (load_file(folder / "state.safetensors") for folder in (tmp_path, again))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
