"""The small CLIP of the world: trained a little, saved, read back by the scorer that people use."""

import pytest
import torch

from emu_edit.core.metric_models import load_clip
from emu_edit.core.metric_presets import preset
from emu_edit.core.scorer import Scorer
from emu_edit.training.small import clip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    said = []
    model, tokenizer = clip.train(
        96, batch=16, size=16, width=32, layers=2, speak=lambda line, flush: said.append(line)
    )
    folder = tmp_path_factory.mktemp("clip")
    clip.save(model, tokenizer, folder)
    return model, tokenizer, folder, said


def test_it_is_saved_as_the_scorer_reads_it(trained):
    model, tokenizer, folder, said = trained
    assert said and "step 6/6" in said[-1]
    loaded = load_clip(folder)
    assert loaded.size == 16 and len(loaded.tokenizer) == len(tokenizer)
    scorer = Scorer(preset("paper-like"), loaded)
    captions = ["a red ball in a meadow", "two blue cups on a beach at night"]
    told = scorer.text_embeddings(captions)
    alone = torch.cat([scorer.text_embeddings([caption]) for caption in captions])
    assert torch.allclose(told, alone, atol=1e-5)  # read at the end of the words, not of the padding
    assert not torch.allclose(told[0], told[1], atol=1e-3)
    one, other = torch.rand(1, 32, 32, 3), torch.rand(1, 32, 32, 3)
    row = scorer.scores(one, other, captions[:1], captions[1:])[0]
    assert {"clip_dir", "clip_im", "clip_out"} <= row.keys()
    assert all(-1 <= value <= 1 for value in row.values())


def test_training_is_repeatable(trained):
    again, _ = clip.train(96, batch=16, size=16, width=32, layers=2, speak=lambda *_, **__: None)
    for name, value in trained[0].state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_captions_fit_and_no_word_is_unknown(trained):
    tokenizer = trained[1]
    rows = tokenizer(["a red robot waving on the left in a forest"], return_tensors="pt")["input_ids"][0]
    assert rows[0] == 1 and rows[-1] == 3 and 2 not in rows.tolist()
    assert 0 <= clip.retrieval(trained[0], tokenizer, 8) <= 1
