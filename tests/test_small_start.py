"""What a new run of the bundled editor takes over from an earlier editor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_recipe import TINY

from emu_edit.core.checkpoints import load_editor, save_editor
from emu_edit.core.errors import EmuEditError
from emu_edit.training.small.models import build_editor
from emu_edit.training.small.start import layers_of, taken_over


def test_a_run_takes_over_what_an_editor_knows(tmp_path):
    pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    old = build_editor(TINY, ["red", "ball"], pictures, seed=1)
    torch.nn.init.normal_(old.unet.conv_out.weight, std=0.1)
    words = ["ball", "blue", "red"]

    stored = load_editor(save_editor(old, tmp_path / "old"))
    again = taken_over(stored, build_editor(TINY, words, pictures * 0.5, seed=2), TINY)
    assert torch.equal(again.vae.analysis.weight, old.vae.analysis.weight)
    for name, weight in old.unet.state_dict().items():
        assert torch.equal(again.unet.state_dict()[name], weight), name
    assert again.task_base == old.task_base
    for word in ("red", "ball"):
        vectors = [
            e.text_encoder.get_input_embeddings().weight[e.tokenizer.get_vocab()[word]] for e in (old, again)
        ]
        assert torch.equal(*vectors)

    bare = build_editor(replace(TINY, position_frequencies=0), words, pictures, seed=6)
    told = taken_over(bare, build_editor(TINY, words, pictures, seed=7), TINY)
    first = told.unet.conv_in.weight
    assert torch.equal(first[:, : 2 * TINY.latent_channels], bare.unet.conv_in.weight)
    assert not first[:, 2 * TINY.latent_channels :].any()
    fewer = replace(TINY, position_frequencies=2)
    cut = taken_over(told, build_editor(fewer, words, pictures, seed=8), fewer).unet.conv_in.weight
    assert torch.equal(cut, first[:, : cut.shape[1]]) and cut.shape[1] == 2 * TINY.latent_channels + 8

    finer = replace(TINY, patch=4, latent_channels=12, channels=(4, 8, 16))
    finer = replace(finer, layers=(1, 1, 1), words_on=(False, True, True))
    deeper = taken_over(old, build_editor(finer, words, pictures, seed=3), finer)
    known, found = old.unet.state_dict(), deeper.unet.state_dict()
    for name in ("mid_block.resnets.0.conv1.weight", "up_blocks.0.resnets.0.conv1.weight"):
        assert torch.equal(known[name], found[name]), name
    for name in ("0.resnets.0.conv2.weight", "1.resnets.0.conv1.weight"):  # one grid farther in now
        level, _, rest = name.partition(".")
        assert torch.equal(known[f"down_blocks.{name}"], found[f"down_blocks.{int(level) + 1}.{rest}"]), name
    assert found["conv_out.weight"].abs().max() == 0
    # New attention changes nothing at first: the same pictures as without it.
    plain = build_editor(replace(TINY, words_on=(False, True)), words, pictures, seed=4)
    torch.nn.init.normal_(plain.unet.conv_out.weight, std=0.1)
    attentive = taken_over(plain, build_editor(TINY, words, pictures, seed=5), TINY)
    inputs = torch.randn(2, plain.unet.config.in_channels, 8, 8), 500, torch.randn(2, 32, 16)
    with torch.no_grad():
        before, after = (e.unet(*inputs, class_labels=torch.ones(2, 16)).sample for e in (plain, attentive))
    assert torch.allclose(before, after, atol=1e-5)
    with pytest.raises(EmuEditError, match=r"tasks have width 16, not 8"):
        other = replace(TINY, text_width=8)
        taken_over(old, build_editor(other, words, pictures), other)


def test_further_layers_begin_by_doing_nothing():
    pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    inputs = torch.randn(2, build_editor(TINY, ["red"], pictures).unet.config.in_channels, 8, 8), 500
    shapes = {2: TINY, 3: replace(TINY, patch=8, channels=(4, 8, 16))}
    for attention, was, now in (
        ((False, True), (1, 1), (3, 1)),
        ((True, True), (1, 1), (2, 3)),
        ((True, True), (2, 1), (3, 2)),
        ((False, True, True), (1, 1, 1), (3, 1, 1)),
    ):
        shape = shapes[len(was)]
        small, large = (replace(shape, layers=layers, words_on=attention) for layers in (was, now))
        old = build_editor(small, ["red"], pictures, seed=1)
        torch.nn.init.normal_(old.unet.conv_out.weight, std=0.1)
        grown = taken_over(old, build_editor(large, ["red"], pictures, seed=2), large)
        assert layers_of(grown.unet) == now
        said = {"encoder_hidden_states": torch.randn(2, 32, 16), "class_labels": torch.ones(2, 16)}
        with torch.no_grad():
            before, after = (e.unet(*inputs, **said).sample for e in (old, grown))
        assert before.std() > 0.1 and torch.allclose(before, after, atol=1e-5)
        back = taken_over(grown, build_editor(small, ["red"], pictures, seed=3), small).unet.state_dict()
        assert all(torch.equal(back[name], weight) for name, weight in old.unet.state_dict().items())
        # And yet they learn: what they hand on is the first to move.
        grown.unet(*inputs, **said).sample.square().mean().backward()
        for block in (grown.unet.down_blocks[0].resnets[-1], grown.unet.up_blocks[-1].resnets[1]):
            assert not block.conv2.weight.any() and block.conv2.weight.grad.abs().max() > 0
