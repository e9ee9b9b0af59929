"""What instructions say is labelled as their words have it, and the text encoder learns to tell it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_recipe import TINY as SMALLEST

from emu_edit.core.checkpoints import load_editor
from emu_edit.core.errors import EmuEditError
from emu_edit.training.small import reading
from emu_edit.training.small.facts import MENTIONS, SLOTS, told
from emu_edit.training.small.models import build_editor
from emu_edit.training.small.wording import NAMES, vocabulary, words_of

TINY = replace(SMALLEST, text_width=32)  # wide enough to learn to read


def labels_of(index, split="train"):
    text, labels, mentions = told(np.random.default_rng((3, index)), split)
    said = {slot: options[k] for (slot, options), k in zip(SLOTS.items(), labels, strict=True) if k}
    return text, said, [MENTIONS[k] for k in np.flatnonzero(mentions)]


def names(text, key):
    return any(f" {word} " in f" {' '.join(words_of(text))} " for word in NAMES.get(key, (key,)))


def test_what_is_labelled_stands_in_the_words():
    seen = set()
    for index in range(400):
        text, said, mentioned = labels_of(index)
        seen |= said.keys()
        for slot in ("who", "whose look", "new shape", "beside", "word", "word's colour"):
            if slot in said:
                assert names(text, said[slot]), (text, said)
        if said["kind"] == "local recolour":
            assert names(text, said["new look"]), text
        for thing in mentioned:
            adjective, _, shape = thing.partition(" ")
            assert names(text, adjective) and names(text, shape), (text, mentioned)
        if said["kind"].endswith(" back") or said["kind"] == "caption":
            assert "backdrop" in said and "who" not in said
    assert seen == SLOTS.keys()


@pytest.mark.parametrize("split", ["test", "pairs", "wordings"])
def test_every_split_has_texts(split):
    assert labels_of(1, split) == labels_of(1, split)
    assert all(labels_of(index, split)[0] for index in range(20))


def test_places_are_told_from_relations():
    places = {}
    for index in range(3000):
        text, said, _ = labels_of(index)
        if "place" in said:
            places.setdefault(said["place"], []).append((text, said.get("beside")))
    assert all("of the picture" not in text for text, _ in places["left of"] + places["right of"])
    assert all(f" {NAMES['top left'][0]} " in f" {t} " or "corner" in t for t, _ in places["top left"])
    assert any(beside for _, beside in places["on"])


def test_deeper_encoders_read_as_before_and_shallower_ones_are_refused():
    editor = build_editor(TINY, vocabulary(), torch.rand(8, 3, 64, 64) * 2 - 1)
    before = editor.encode_text(["make the red ball blue"]).hidden
    reading.deepened(editor, 3)
    assert editor.text_encoder.config.num_hidden_layers == 3
    assert torch.allclose(before, editor.encode_text(["make the red ball blue"]).hidden, atol=1e-6)
    with pytest.raises(EmuEditError, match="reads with 3 layers, and the recipe has 1"):
        reading.deepened(editor, 1)


def test_reading_is_learnt(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "BATCH", 16)
    editor = build_editor(TINY, vocabulary(), torch.rand(8, 3, 64, 64) * 2 - 1)
    reader = reading.Reader(editor, TINY).eval()
    words, slots, mentions = next(iter(reading._loader(reading.Texts(9, 128), 0)))
    with torch.no_grad():
        fresh = float(reader.loss(words, slots, mentions))
    taught = reading.teach(editor, TINY, 1280, workers=0)
    with torch.no_grad():
        assert float(taught.loss(words, slots, mentions)) < 0.8 * fresh
    monkeypatch.setattr(reading, "Recipe", lambda: TINY)
    monkeypatch.setattr(reading, "TEST_TEXTS", 128)
    source = reading.save_editor(editor, tmp_path / "editor")
    assert (
        reading.main(
            ["--from", str(source), "--out", str(tmp_path / "out"), "--texts", "32", "--workers", "0"]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert printed.count("'kind'") == 2 and "wordings" in printed
    before, after = load_editor(source), load_editor(tmp_path / "out")
    assert torch.equal(before.unet.conv_in.weight, after.unet.conv_in.weight)
    moved = (
        before.text_encoder.get_input_embeddings().weight != after.text_encoder.get_input_embeddings().weight
    )
    assert bool(moved.any())
    assert reading.main(["--from", str(tmp_path / "no"), "--out", str(tmp_path / "x")]) == 1
