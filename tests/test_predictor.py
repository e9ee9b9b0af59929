"""The bundled task predictor: how often it is right, what it costs, and what it does with strange input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from emu_edit.core import predictor as door
from emu_edit.core.errors import EmuEditError
from emu_edit.core.predictor import bundled_predictor, guess_task, load_predictor, predict_task, task_for
from emu_edit.core.predictors import base, ngrams, reading
from emu_edit.core.tasks import TASK_IDS
from emu_edit.training.predictor import corpus, learn, world

SAMPLE = 250  # training texts for each task whose skeletons are compared; `train_predictor check` takes all


@pytest.fixture(scope="module")
def predictor():
    return load_predictor()


def test_tasks_are_those_of_the_editor(predictor):
    assert base.TASKS == TASK_IDS
    assert isinstance(predictor, ngrams.NgramPredictor)


def test_held_out_templates_of_the_small_world(predictor):
    found = learn.judged(predictor, learn.held_out_templates())
    assert found["accuracy"] >= 0.95, found["confusion"]
    assert {t.task for t in world.templates() if t.held_out} <= set(found["tasks"])


def test_held_out_everyday_wordings(predictor):
    held_out = learn.everyday_held_out(0, SAMPLE)
    assert len(held_out) > 700 and {w.task for w in held_out} == set(TASK_IDS)
    found = learn.judged(predictor, held_out)
    assert found["accuracy"] >= 0.90, found["confusion"]
    assert min(found["tasks"].values()) >= 0.7, found["tasks"]
    # A confidence is worth something: what it is sure of is right more often than what it is not.
    assert found["accuracy_when_sure"] > found["accuracy"]


def test_held_out_and_tuned_on_are_not_trained_on():
    trained = {w.text.lower() for w in corpus.read_wordings("everyday")}
    dev = {w.text.lower() for w in corpus.read_wordings("dev")}
    held_out = corpus.read_wordings("held_out")
    assert len({(w.task, w.text.lower()) for w in held_out}) == len(held_out) > 800
    skeletons = {corpus.skeleton(text) for text in trained}
    new = corpus.without_known(held_out, skeletons)
    assert not {w.text.lower() for w in new} & (trained | dev)
    kept = {corpus.skeleton(text) for _, text in world.held_out(8, seed=1)}
    examples = corpus.training_examples(0, 20)
    assert {w.task for w in examples} == {*TASK_IDS, corpus.UNCLEAR}
    written = [w for w in corpus.plain_examples(0, 20) if w.voice != "world"]
    assert len(examples) < len(corpus.plain_examples(0, 20)) + 20
    assert any(corpus.skeleton(w.text) not in kept for w in written)


def test_skeletons_blank_what_a_wording_is_about():
    assert corpus.skeleton("Please remove the red ball") == corpus.skeleton("remove my trampoline")
    assert corpus.skeleton("make it winter") != corpus.skeleton("make it darker")
    assert corpus.skeleton("put a hat on the dog") != corpus.skeleton("put the dog away")


def test_work_is_small_and_bounded(predictor, monkeypatch):
    """Under 5 ms an instruction: a few hundred hashes of short strings and one row of 16 numbers for each."""
    seen = []
    real = reading.zlib.crc32
    monkeypatch.setattr(reading.zlib, "crc32", lambda data: seen.append(len(data)) or real(data))
    texts = [w.text for w in corpus.read_wordings("dev")]
    counts = []
    for text in [*texts, "make the ball blue " * 5000, "x" * 100_000]:
        seen.clear()
        predictor.logits(text)
        counts.append(len(seen))
        assert max(seen, default=0) < 150
    assert np.mean(counts[:-2]) < 250 and max(counts) < 2500
    assert predictor.weights.shape == (2**16, 16)


def test_same_every_time_alone_or_together(predictor):
    texts = ["make the ball blue", "remove the tree", "make it night"]
    together = predictor.predict(texts)
    assert together == predictor.predict(texts) == [predictor.predict([text])[0] for text in texts]
    assert together == ngrams.NgramPredictor.load(door.BUNDLED).predict(texts)
    assert [p.task for p in together] == ["local", "remove", "global"]


def test_a_prediction_is_whole(predictor):
    (found,) = predictor.predict(["make the red ball blue"])
    assert (found.task, found.target, found.note, found.sure) == ("local", "red ball", "", True)
    assert [task for task, _ in found.ranking][0] == found.task
    assert found.ranking[0][1] == found.confidence
    assert {task for task, _ in found.ranking} == set(TASK_IDS)
    chances = [p for _, p in found.ranking]
    assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("remove the old car on the left", "old car"),
        ("add a hat to the dog", "hat"),
        ("replace the cat with a fox", "cat"),
        ("draw a box around the traffic light", "traffic light"),
        ("make it winter", None),
        ("show the depth map", None),
        ("turn it into a watercolor", None),
    ],
)
def test_target_object(predictor, text, target):
    assert predictor.predict([text])[0].target == target


STRANGE = [
    "mach den Ball blau",
    "\U0001f600\U0001f600",
    "\u628a\u80cc\u666f\u6362\u6210\u6d77\u6ee9",
    "asdf qwer",
    "?!",
    "hello",
    "1234",
]


def test_strange_text_is_answered_and_unsure(predictor):
    found = predictor.predict(STRANGE, fallback="style")
    assert {p.task for p in found} == {"style"} and not any(p.sure for p in found)
    assert all("unsure" in p.note and "style is taken" in p.note for p in found)
    assert predictor.predict(["hello"])[0].task == predictor.predict(["hello"])[0].ranking[0][0]
    (long,) = predictor.predict(["remove the tree and " * 2000])
    assert "first 48 words" in long.note


def test_threshold_decides_when_to_fall_back(predictor):
    text = ["make the ball blue"]
    assert predictor.predict(text, threshold=1.0, fallback="none")[0].task == "none"
    assert predictor.predict(text, threshold=0.0, fallback="none")[0].task == "local"
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(EmuEditError, match="threshold"):
            predictor.predict(text, threshold=threshold)
    with pytest.raises(EmuEditError, match="juggle"):
        predictor.predict(text, fallback="juggle")


@pytest.mark.parametrize("nothing", ["", "   ", "\n"])
def test_nothing_is_refused(predictor, nothing):
    with pytest.raises(EmuEditError, match="empty"):
        predictor.predict([nothing])
    with pytest.raises(EmuEditError, match="empty"):
        predict_task(nothing)
    assert predictor.predict([]) == []
    with pytest.raises(EmuEditError, match="list"):
        predictor.predict("make it night")


def test_guesses_for_editors():
    assert guess_task("remove the tree").task == predict_task("remove the tree") == "remove"
    assert task_for("remove the tree", TASK_IDS).task == "remove"
    assert task_for("remove the tree", ("add",)).task == "none"
    assert "no tasks" in task_for("remove the tree", ()).reason
    assert "unsure" in guess_task("hello").reason


def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "p")
    return tmp_path / "p"


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / "weights.safetensors").write_bytes((p / "weights.safetensors").read_bytes()[:5000]),
        lambda p: (p / "weights.safetensors").write_bytes(b""),
        lambda p: (p / "weights.safetensors").unlink(),
        lambda p: (p / "predictor.json").write_text("{"),
        lambda p: (p / "predictor.json").write_text("[]"),
        lambda p: change(p, format="other"),
        lambda p: change(p, tasks=["local"]),
        lambda p: change(p, temperature="hot"),
        lambda p: change(p, threshold=7),
        lambda p: change(p, lexicon=None),
        lambda p: change(p, backend="crystal ball"),
        lambda p: (p / "predictor.json").unlink(),
    ],
)
def test_damaged_weights_are_one_sentence(tmp_path, damage):
    folder = copied(door.BUNDLED, tmp_path)
    damage(folder)
    with pytest.raises(EmuEditError) as slip:
        load_predictor(folder)
    assert "\n" not in str(slip.value) and str(folder) in str(slip.value)


def change(folder, **entries):
    path = folder / "predictor.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_foreign_tensors_are_refused(tmp_path):
    from safetensors.numpy import save_file

    folder = copied(door.BUNDLED, tmp_path)
    save_file(
        {"table": np.zeros((8, 3), np.int8), "scale": np.ones(3, np.float32)}, folder / "weights.safetensors"
    )
    with pytest.raises(EmuEditError, match="does not hold"):
        load_predictor(folder)


def test_without_weights_keywords_do_it_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "BUNDLED", tmp_path)
    (found,) = bundled_predictor().predict(["remove the tree"])
    assert found.task == "remove" and "by keywords" in found.note and found.confidence == pytest.approx(0.7)
    assert "weights are missing" in guess_task("remove the tree").reason
    assert not bundled_predictor().predict(["?!"])[0].sure


def test_bundle_is_small():
    assert sum(file.stat().st_size for file in door.BUNDLED.iterdir()) < 2_000_000


def test_learning_is_deterministic():
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.choice(64, 6, replace=False)) for _ in range(256)]
    wanted = torch.nn.functional.one_hot(torch.tensor([int(r[0]) % 16 for r in rows]), 16).float()
    first, second = (learn.learn_table(rows, wanted, 64, 2, 0.02, 0.2, 0) for _ in range(2))
    assert torch.equal(first, second) and first.abs().sum() > 0
    assert corpus.training_examples(3, 4) == corpus.training_examples(3, 4)
