"""The bundled editor's trainer: resuming is exact, a kill leaves a whole state, and scores are right."""

import argparse
import json
import signal
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_recipe import TINY

from emu_edit.core.checkpoints import load_editor
from emu_edit.core.edit import EditSettings, edit
from emu_edit.core.errors import EmuEditError
from emu_edit.core.positions import positions
from emu_edit.training import evaluate
from emu_edit.training import report as pair_report
from emu_edit.training.small import clip, drawing, layout, parser, reading, unseen
from emu_edit.training.small import start as start_module
from emu_edit.training.small import state as state_module
from emu_edit.training.small import train as train_module
from emu_edit.training.small.base import base_of
from emu_edit.training.small.journal import Journal
from emu_edit.training.small.models import build_editor
from emu_edit.training.small.muon import orthogonalised, split_parameters
from emu_edit.training.small.objective import Trainee
from emu_edit.training.small.train import train


def sitting(folder, samples, recipe=TINY, **more):
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
        precision="fp32",
        workers=0,
    )
    for name, value in more.items():
        setattr(chosen, name, value)
    train(recipe, chosen)


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


def test_pictures_move_every_part_but_what_reads(whole_run):
    before = load_editor(whole_run / "start")
    after = load_editor(whole_run / "editor")
    assert not torch.equal(before.unet.conv_out.weight, after.unet.conv_out.weight)
    assert not torch.equal(before.conditioner.table.weight, after.conditioner.table.weight)
    for name, weight in before.text_encoder.state_dict().items():
        assert torch.equal(weight.half().float(), after.text_encoder.state_dict()[name]), name
    assert torch.equal(
        before.unet.add_embedding.proj.weight.half().float(), after.unet.add_embedding.proj.weight
    )
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
        (["--json", str(tmp_path / "no" / "x.json")], "--json"),
        (["--sheet", str(tmp_path / "x.bmpp")], "picture format"),
        (["--model", str(tmp_path / "no")], "no"),
    ):
        assert evaluate.main(arguments) == 1
        assert words in capsys.readouterr().err
    run = ["--run", str(tmp_path / "run")]
    for arguments, words in (
        (["--from", str(tmp_path / "no")], str(tmp_path / "no")),
        (["--size", "100"], "--size 100 is no multiple of 16"),
        (["--anneal", "100"], "say with --samples which it is"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
    ):
        assert train_module.main(run + arguments) == 1
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, arguments",
    [
        (evaluate, ["--scenes", "0"]),
        (evaluate, ["--batch", "x"]),
        (train_module, ["--rate", "nan"]),
        (train_module, ["--minutes", "0"]),
        (train_module, ["--workers", "-1"]),
        (train_module, ["--threads", "0"]),
        (train_module, ["--pictures-every", "-3"]),
        (reading, ["--out", "o", "--texts", "0"]),
        (drawing, ["--pictures", "0"]),
        (clip, ["--out", "o", "--batch", "1"]),
        (parser, ["--scenes", "0"]),
        (unseen, ["contours", "--out", "o", "--count", "0"]),
        (pair_report, ["o", "--again", "-1"]),
    ],
)
def test_numbers_that_cannot_be_are_refused(command, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    name, value = arguments[-2:]
    assert f"argument {name}: {value} is no " in capsys.readouterr().err


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
    monkeypatch.setattr(train_module, "batch_loss", lambda *_: (torch.tensor(float("nan")), {}))
    with pytest.raises(EmuEditError, match=r"the loss is nan at sample 4.*--rate"):
        sitting(tmp_path, 8)
    assert (tmp_path / "state.safetensors").read_bytes() == kept


def test_an_editor_that_has_not_read_is_taught_and_one_that_has_is_left(whole_run, monkeypatch):
    taught = []
    monkeypatch.setattr(start_module, "teach", lambda editor, *rest, **more: taught.append(editor))
    assert start_module.first_editor(TINY, whole_run / "editor") and not taught
    deeper = start_module.first_editor(replace(TINY, text_layers=2), whole_run / "editor")
    assert taught == [deeper] and deeper.text_encoder.config.num_hidden_layers == 2


def test_reading_stops_when_asked():
    editor = build_editor(TINY, ["red"], torch.rand(8, 3, 64, 64) * 2 - 1)
    with pytest.raises(EmuEditError, match="stopped while reading"):
        start_module.teach(editor, TINY, 32, 0, stopped=lambda: True)


def test_the_state_of_another_model_is_a_sentence(whole_run, tmp_path):
    sitting(tmp_path, 4)
    kept = (tmp_path / "state.safetensors").read_bytes()
    other = tmp_path / "other"
    sitting(other, 0, recipe=replace(TINY, channels=(8, 24)))
    (other / "state.safetensors").write_bytes(kept)
    with pytest.raises(EmuEditError, match=r"begun with another model.*another --run"):
        sitting(other, 8, recipe=replace(TINY, channels=(8, 24)))
    kept_there = (other / "state.safetensors").read_bytes()
    assert kept_there == kept
    assert (tmp_path / "state.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    "name, other",
    [
        ("most noise", {"beta_end": 0.012}),
        ("grids", {"channels": (8, 32)}),
        ("layers", {"layers": (1, 1)}),
        ("waves of position", {"position_frequencies": 2}),
    ],
)
def test_a_run_of_another_recipe_is_not_gone_on_with(tmp_path, name, other):
    sitting(tmp_path, 4)
    kept = (tmp_path / "state.safetensors").read_bytes()
    with pytest.raises(EmuEditError, match=f"begun with {name} .*another --run"):
        sitting(tmp_path, 8, recipe=replace(TINY, **other))
    assert (tmp_path / "state.safetensors").read_bytes() == kept


def test_a_stop_while_beginning_is_heeded(tmp_path, monkeypatch):
    begin = train_module.first_editor

    def stopped_meanwhile(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return begin(*arguments)

    monkeypatch.setattr(train_module, "first_editor", stopped_meanwhile)
    monkeypatch.setattr(start_module, "teach", lambda *_, **__: None)
    with pytest.raises(EmuEditError, match="stopped before the first picture"):
        sitting(tmp_path, 4)
    assert not (tmp_path / "start").exists()


def test_places_that_are_no_editors_are_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "mine_base").mkdir()
    (tmp_path / "mine_base" / "novel.txt").write_text("It was a dark night.")
    said = "mine_base exists and is not an editor's folder"
    export = ["--run", str(tmp_path / "run"), "--export", str(tmp_path / "mine")]
    assert train_module.main(export) == 1 and said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert reading.main(["--out", str(tmp_path / "mine_base")]) == 1 and said in capsys.readouterr().err
    lost = str(tmp_path / "mine_base" / "novel.txt" / "editor")
    assert train_module.main([*export[:2], "--export", lost]) == 1
    assert f"{lost} could not be written" in capsys.readouterr().err


def test_bfloat16_computes_nearly_what_float32_does():
    editor = build_editor(TINY, ["red"], torch.rand(8, 3, 64, 64) * 2 - 1)
    torch.nn.init.normal_(editor.unet.conv_out.weight, std=0.1)
    generator = torch.Generator().manual_seed(6)
    z, image = torch.randn(2, 2, TINY.latent_channels, 8, 8, generator=generator)
    t, ids, task = torch.tensor([999, 500]), torch.ones(2, 32, dtype=torch.long), torch.tensor([0, 3])
    exact, fast = (Trainee(editor, TINY, bf16) for bf16 in (False, True))
    seen = torch.zeros(2, layout.ANSWERS, 8, 8, dtype=torch.uint8)
    seen[:, :: len(layout.QUESTIONS)] = 255
    for trainee in (exact, fast):
        for output in (trainee.fine_mask, trainee.coarse_mask):
            torch.nn.init.ones_(output.weight)
    pairs = [
        (*trainee(z, t, ids, image, task), trainee.layout_loss(seen, seen), trainee.pictures(z, t, ids))
        for trainee in (exact, fast)
    ]
    for one, other in zip(*pairs, strict=True):
        assert other.dtype == torch.float32 and not torch.equal(one, other)
        assert (one - other).norm() < 0.03 * one.norm()
    weights = [weight for weight in editor.unet.parameters() if weight.requires_grad]
    slopes = [
        torch.cat([slope.flatten() for slope in torch.autograd.grad(found[0].square().mean(), weights)])
        for found in pairs
    ]
    assert (slopes[0] - slopes[1]).norm() < 0.1 * slopes[0].norm()


def test_a_run_in_bfloat16_keeps_float32_and_goes_on_exactly(tmp_path):
    sitting(tmp_path / "one", 12, precision="bf16")
    for samples in (4, 12):
        sitting(tmp_path / "two", samples, precision="bf16")
    sitting(tmp_path / "exact", 12)
    one, two, exact = (load_file(tmp_path / run / "state.safetensors") for run in ("one", "two", "exact"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert {name: tensor.dtype for name, tensor in one.items()} == {
        name: tensor.dtype for name, tensor in exact.items()
    }
    name = "unet.mid_block.resnets.0.conv1.weight"
    began = load_editor(tmp_path / "one" / "start").unet.state_dict()[name.removeprefix("unet.")]
    moved = [(state[f"model.{name}"] - began).flatten() for state in (one, exact)]
    assert torch.cosine_similarity(*moved, dim=0) > 0.9 and not torch.equal(*moved)


def test_muons_update_is_nearly_orthogonal():
    for shape in ((16, 40), (40, 16)):
        values = torch.linalg.svdvals(
            orthogonalised(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
        )
        assert values.min() > 0.6 and values.max() < 1.3


def test_muons_rounds_are_the_papers():
    for shape in ((16, 40), (40, 16), (24, 24)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        x = matrix / matrix.norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        assert torch.allclose(orthogonalised(matrix), x, atol=1e-6)


def test_the_weights_are_split_between_the_optimisers():
    editor = build_editor(TINY, ["red"], torch.rand(8, 3, 64, 64) * 2 - 1)
    trainee = Trainee(editor, TINY)
    hidden, rest = split_parameters(trainee)
    assert len(hidden) + len(rest) == sum(weight.requires_grad for weight in trainee.parameters())
    assert all(weight.ndim >= 2 for weight in hidden)
    outer = (editor.unet.conv_in, editor.unet.conv_out, editor.conditioner.table, trainee.input_layout[1])
    assert all(any(layer.weight is weight for weight in rest) for layer in outer)


def test_the_base_is_the_editor_without_picture_and_task(whole_run, tmp_path):
    editor = load_editor(whole_run / "editor")
    base = load_editor(whole_run / "editor_base", kind="text-to-image")
    assert (
        not base.takes_image and base.latent_input == "estimate" and base.schedule.prediction_type == "sample"
    )
    assert base.defaults["steps"] == TINY.base_defaults["steps"]
    generator = torch.Generator().manual_seed(5)
    for t in (999, 300):
        z = torch.randn(2, 24, 8, 8, generator=generator)
        context = torch.randn(2, 32, TINY.text_width, generator=generator)
        with torch.no_grad():
            where = positions(TINY.position_frequencies, 8, 8, z).expand(2, -1, -1, -1)
            found = base.unet(torch.cat([z, where], 1), t, encoder_hidden_states=context).sample
            silent = editor.unet.add_embedding.register_forward_hook(lambda _, __, pooled: 0 * pooled)
            expected = editor.unet(
                torch.cat([z, torch.zeros_like(z), where], 1),
                t,
                encoder_hidden_states=context,
                class_labels=torch.zeros(2, TINY.text_width),
            ).sample[:, :24]
            silent.remove()
        assert torch.allclose(found, expected, atol=2e-3)  # both were stored as float16
    exact = base_of(editor, TINY)
    with torch.no_grad():
        trainee = Trainee(editor, TINY).eval()
        ids = torch.randint(4, (2, 32))
        noisy = trainee.pictures(z, torch.full((2,), t), ids)
        read = exact.unet_input(z, t, None)
        drawn = exact.unet(read, t, encoder_hidden_states=editor.text_encoder(ids)[0]).sample
        assert torch.allclose(drawn, noisy, atol=1e-5)
        clean = torch.cat([z, where], 1)
        assert torch.allclose(exact.unet(clean, t, encoder_hidden_states=context).sample, expected, atol=1e-5)
