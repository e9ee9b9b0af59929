"""Task inversion on toy editors: it learns, repeats itself, touches nothing else, and stops when told."""

from __future__ import annotations

import pytest
import torch
from toy_models import SD_SCHEDULE, toy_backbone, toy_pictures

from emu_edit.core.edit import edit
from emu_edit.core.errors import EmuEditError
from emu_edit.core.example_latents import SHOWN_FLOOR, encode_examples, one_step, reads_no_noise
from emu_edit.core.task_examples import TaskExample
from emu_edit.core.task_files import load_task, save_task
from emu_edit.core.task_inversion import InversionSettings, invert_task

ONE_STEP = {
    "predicts": "change",
    "image_condition": "scaled",
    "latent_input": "estimate",
    "scheduler": SD_SCHEDULE
    | {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "set_alpha_to_one": True,
    },
    "defaults": {"steps": 1, "text_guidance": 1.0, "image_guidance": 1.0, "size": 64},
}
QUICK = InversionSettings(steps=4, batch=2, check_every=2, rate=0.3, size=64, start="none")


def trained_toy(**options):
    """A toy editor whose output depends on the task, as after training."""
    editor = toy_backbone(task_width=12, **options)
    torch.manual_seed(3)
    torch.nn.init.normal_(editor.unet.class_embedding.weight, std=0.3)
    torch.nn.init.normal_(editor.conditioner.to_context.weight, std=0.3)
    return editor


@pytest.fixture(scope="module")
def editor():
    return trained_toy()


def examples(count=6, size=(64, 64)):
    pictures = toy_pictures(2 * count, *size)
    return [
        TaskExample(pictures[2 * i : 2 * i + 1], pictures[2 * i + 1 : 2 * i + 2], f"do {'ab'[i % 2]}")
        for i in range(count)
    ]


def state_of(editor):
    modules = (editor.unet, editor.conditioner, editor.vae, editor.text_encoder)
    return [p.detach().clone() for m in modules for p in m.parameters()]


def trainable_of(editor):
    modules = (editor.unet, editor.conditioner, editor.vae, editor.text_encoder)
    return [p.requires_grad for m in modules for p in m.parameters()]


@pytest.mark.parametrize(
    "kind",
    [{}, {"predicts": "v_prediction"}, {"predicts": "change", "image_condition": "scaled"}, ONE_STEP],
    ids=str,
)
def test_only_the_vector_is_trained_and_the_held_out_loss_falls(kind):
    editor = trained_toy(**kind)
    before, trainable = state_of(editor), trainable_of(editor)
    settings = InversionSettings(steps=16, batch=4, check_every=4, rate=0.3, size=64, start="none")
    result = invert_task(editor, examples(), "mine", settings)
    assert result.held_out == 1 and result.learnt_from == 5
    assert all(torch.equal(a, b) for a, b in zip(before, state_of(editor), strict=True))
    assert trainable_of(editor) == trainable
    assert all(p.grad is None for p in editor.unet.parameters())
    assert result.best_step > 0 and min(loss for _, loss in result.history) < result.history[0][1]
    assert result.task.vector.shape == (12,) and bool(result.task.vector.any())
    assert result.preview.shape == (1, 64, 192, 3)


def test_the_same_seed_gives_the_same_vector_whatever_random_state(editor):
    torch.manual_seed(1)
    first = invert_task(editor, examples(), "mine", QUICK)
    state = torch.manual_seed(2).get_state()
    second = invert_task(editor, examples(), "mine", QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.task.vector, second.task.vector)
    other = invert_task(editor, examples(), "mine", InversionSettings(**vars(QUICK) | {"seed": 1}))
    assert not torch.equal(first.task.vector, other.task.vector)


def test_the_start_is_the_best_of_nothing_the_mean_and_every_known_task(editor):
    result = invert_task(editor, examples(), "mine", InversionSettings(**vars(QUICK) | {"start": "auto"}))
    assert set(result.starts) == {"none", "mean", *editor.task_names}
    assert result.starts[result.start] == min(result.starts.values()) == result.history[0][1]
    picked = invert_task(editor, examples(), "mine", InversionSettings(**vars(QUICK) | {"start": "add"}))
    assert set(picked.starts) == {"add"}
    assert picked.starts["add"] == pytest.approx(result.starts["add"])


def test_pictures_and_words_go_through_the_encoders_once(editor, monkeypatch):
    calls = {"image": 0, "text": []}
    encode_image, encode_text = editor.encode_image, editor.encode_text

    def image(pictures):
        calls["image"] += len(pictures)
        return encode_image(pictures)

    def text(texts):
        calls["text"].append(list(texts))
        return encode_text(texts)

    monkeypatch.setattr(editor, "encode_image", image)
    monkeypatch.setattr(editor, "encode_text", text)
    encode_examples(editor, examples(4), 64, lambda *_: None)
    assert calls == {"image": 4, "text": [["do a", "do b", ""]]}


def test_examples_of_mixed_sizes_give_the_gradient_of_their_mean(editor):
    mixed = examples(2, (128, 128)) + examples(2, (64, 128))
    data = encode_examples(editor, mixed, 128, lambda *_: None)
    views = data.noised([0, 3, 1], torch.Generator().manual_seed(0), 0.0)
    assert [tuple(view.z.shape) for view in views] == [(2, 4, 16, 16), (1, 4, 8, 16)]
    alone = data.noised([0], torch.Generator().manual_seed(0), 0.0)
    assert torch.equal(views[0].image[:1], alone[0].image)
    result = invert_task(editor, mixed, "mine", InversionSettings(**vars(QUICK) | {"size": 128}))
    assert len(result.history) == 3


def test_an_editor_of_one_step_learns_by_the_error_of_its_edits():
    toy = trained_toy(**ONE_STEP)
    shown = examples(4)
    settings = InversionSettings(steps=40, batch=4, check_every=10, rate=0.3, size=64, start="add")
    result = invert_task(toy, shown, "mine", settings)

    def error(task):
        parts = []
        for e in shown:
            made = edit(toy, e.source, e.instruction, task).images
            varied = (e.target - e.target.mean((1, 2), keepdim=True)).square().mean()
            drawn = min((e.target - e.source).square().mean(), varied) + SHOWN_FLOOR
            parts.append(float((made - e.target).square().mean() / drawn))
        return sum(parts) / len(parts)

    assert result.starts["add"] == pytest.approx(error("add"), rel=1e-4)
    assert min(loss for _, loss in result.history) == pytest.approx(error(result.task), rel=1e-4)
    assert error(result.task) < error("add")


def test_pixels_beyond_black_are_led_back():
    toy, (example,) = trained_toy(**ONE_STEP), examples(1)
    with torch.no_grad():
        made = toy.decode_beyond(edit(toy, example.source, example.instruction, "add").latents)
        toy.vae.decoder.conv_out.bias -= 2 * made.max() + 0.02
    result = invert_task(toy, [example], "mine", QUICK)  # refuses an editor from which no gradient comes
    assert bool((edit(toy, example.source, example.instruction).images == 0).all()) and result.history[1:]


@pytest.mark.parametrize(
    "other",
    [
        {"defaults": {"steps": 1, "size": 64}},
        {"defaults": {"steps": 1, "text_guidance": 1.5, "image_guidance": 1.0}},
        {"defaults": {"steps": 2, "text_guidance": 1.0, "image_guidance": 1.0}},
        {"predicts": "v_prediction"},
    ],
    ids=str,
)
def test_guidance_and_further_steps_make_another_edit_than_the_prediction(other):
    assert one_step(trained_toy(**ONE_STEP))
    assert not one_step(trained_toy(**ONE_STEP | other))


def test_an_editor_that_reads_no_noise_sees_each_example_once_a_step():
    toy, sizes = trained_toy(**ONE_STEP), []
    assert reads_no_noise(toy)
    assert not reads_no_noise(trained_toy(**ONE_STEP | {"latent_input": "noisy"}))
    early = ONE_STEP["scheduler"] | {"timestep_spacing": "leading"}  # its one step is no pure noise
    assert not reads_no_noise(trained_toy(**ONE_STEP | {"scheduler": early}))

    def tell(step):
        if step.phase == "learn" and not step.check:
            sizes.append(len(seen))
        seen.clear()

    seen = []
    toy.unet.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    settings = InversionSettings(**vars(QUICK) | {"batch": 8, "check_every": 4})
    invert_task(toy, examples(3), "mine", settings, tell)
    assert sizes == [3, 3, 3]


def test_few_examples_are_measured_on_themselves(editor):
    result = invert_task(editor, examples(1), "mine", QUICK)
    assert (result.learnt_from, result.held_out) == (1, 0)
    assert "none held out" in result.report()


@pytest.mark.parametrize("kind", [{}, ONE_STEP], ids=["four steps", "one step"])
def test_every_phase_is_told_and_an_exception_leaves_all_as_it_was(kind):
    editor, seen = trained_toy(**kind), []

    class Stop(Exception):
        pass

    def tell(step):
        seen.append((step.phase, step.index, step.total))
        if step.check:
            assert step.preview().shape == (1, 64, 192, 3)
            raise Stop

    before, trainable = state_of(editor), trainable_of(editor)
    with pytest.raises(Stop):
        invert_task(editor, examples(), "mine", QUICK, tell)
    assert seen == [
        *(("encode", i, 6) for i in range(6)),
        ("start", 0, 1),
        ("learn", 0, 4),
        ("learn", 1, 4),
    ]
    assert all(torch.equal(a, b) for a, b in zip(before, state_of(editor), strict=True))
    assert trainable_of(editor) == trainable and all(trainable)


@pytest.mark.parametrize("kind", [{}, ONE_STEP], ids=["four steps", "one step"])
def test_it_works_inside_inference_mode_on_weights_loaded_there(kind):
    with torch.inference_mode():
        editor = trained_toy(**kind)
        pairs = examples()
        assert editor.unet.conv_in.weight.is_inference()
        inside = invert_task(editor, pairs, "mine", QUICK)
    outside = invert_task(trained_toy(**kind), examples(), "mine", QUICK)
    assert torch.equal(inside.task.vector, outside.task.vector)
    assert not inside.task.vector.is_inference()


def test_patience_ends_learning_early(editor):
    eager = InversionSettings(**vars(QUICK) | {"steps": 40, "rate": 1e4, "patience": 2})
    result = invert_task(editor, examples(), "mine", eager)
    assert result.history[-1][0] < 40
    assert result.starts[result.start] >= min(loss for _, loss in result.history)


def test_the_file_is_small_and_loads_for_its_editor_only(editor, tmp_path):
    task = invert_task(editor, examples(), "outline", QUICK).task
    path = save_task(tmp_path / "outline.safetensors", task)
    assert path.stat().st_size < 4096
    loaded = load_task(path, editor)
    assert torch.equal(loaded.vector, task.vector)
    assert (loaded.name, loaded.examples) == ("outline", 5)
    assert loaded.metadata["made_by"] == "task inversion" and loaded.metadata["start"]
    with pytest.raises(EmuEditError, match="was made for the editor"):
        other = trained_toy()
        torch.nn.init.ones_(other.conditioner.table.weight)
        load_task(path, other)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: toy_backbone(), "has no task embeddings"),
        (lambda: toy_backbone(in_channels=4, task_width=12), "cannot see a picture"),
        (lambda: toy_backbone(task_width=12), "does not depend on the task at all"),
    ],
)
def test_editors_that_cannot_learn_are_told(make, words):
    with pytest.raises(EmuEditError, match=words):
        invert_task(make(), examples(), "mine", QUICK)


def test_a_loss_that_is_no_number_is_told():
    editor = trained_toy()
    with torch.no_grad():
        editor.unet.conv_out.weight.fill_(torch.nan)
    with pytest.raises(EmuEditError, match="the loss is nan at step 1"):
        invert_task(editor, examples(), "mine", QUICK)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"held_out": 0.9}, "held_out is 0.9"),
        ({"patience": -1}, "patience is -1"),
    ],
)
def test_settings_out_of_range_are_told(bad, words):
    with pytest.raises(EmuEditError, match=words):
        InversionSettings(**bad)


def test_names_are_told(editor):
    with pytest.raises(EmuEditError, match="the task's name is 'none'"):
        invert_task(editor, examples(), "none", QUICK)
    with pytest.raises(EmuEditError, match="start is 'fly'; choose auto, none, mean, local"):
        invert_task(editor, examples(), "mine", InversionSettings(start="fly"))
