"""Pairs from attention control under soft masks: what must hold whatever the network has learnt."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import SD_SCHEDULE, toy_backbone

from emu_edit.core.attention.local_blend import blend_mask, words_mask
from emu_edit.core.attention.record import MapRecorder
from emu_edit.core.backbone import TextContext
from emu_edit.core.edit import starting_noise
from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import generate
from emu_edit.core.pairs.generate import PairSettings, generate_pair
from emu_edit.core.sampling import sample

FREE = PairSettings(steps=2, self_fraction=0.0, cross_fraction=0.0, blend=0.0)
SOURCE, TARGET = ["a red ball", "a cat"], ["a blue ball", "a dog, bar"]


@pytest.fixture(scope="module")
def backbone():
    return toy_backbone(in_channels=4)


def make(backbone, chosen, captions=(SOURCE, TARGET), masks=None, seeds=(1, 2), **options):
    return generate_pair(backbone, *captions, masks, chosen, list(seeds), **options)


def uncontrolled(backbone, caption, seed, steps, guidance, size=64):
    """Plain text-to-image sampling, written out."""
    text = backbone.encode_text([caption, ""])
    noise = starting_noise((4, size // 8, size // 8), seed)[None]

    def predict(z, t, index):
        full, none = backbone.predict(torch.cat([z, z]), t, text).chunk(2)
        return none + guidance * (full - none)

    with torch.inference_mode():
        return sample(predict, backbone.schedule, noise, steps)


few = settings(max_examples=4)


@few
@given(st.integers(0, 2**63), st.sampled_from(["refine", "swap"]), st.sampled_from(["ddim", "dpmpp_2m"]))
def test_equal_captions_under_full_injection_are_one_picture(backbone, seed, alignment, sampler):
    chosen = PairSettings(
        steps=2, self_fraction=1.0, cross_fraction=1.0, blend=0.0, alignment=alignment, sampler=sampler
    )
    result = make(backbone, chosen, (["a cat sat"], ["a cat sat"]), seeds=[seed])
    assert torch.equal(result.source, result.target)
    assert torch.equal(result.source_latents, result.target_latents)


@few
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.booleans())
def test_a_zero_mask_keeps_the_source(backbone, self_fraction, cross_fraction, blend, control):
    chosen = PairSettings(steps=3, self_fraction=self_fraction, cross_fraction=cross_fraction, blend=blend)
    result = make(backbone, chosen, masks=torch.zeros(64, 64), control=control)
    assert torch.equal(result.source_latents, result.target_latents)
    assert torch.equal(result.source, result.target)


def test_no_control_is_plain_sampling(backbone):
    for control in (True, False):
        chosen = [replace(FREE, guidance=3.0), replace(FREE, guidance=1.0)]
        result = make(backbone, chosen, control=control)
        for pair, guidance in enumerate((3.0, 1.0)):
            for captions, latents in ((SOURCE, result.source_latents), (TARGET, result.target_latents)):
                expected = uncontrolled(backbone, captions[pair], pair + 1, 2, guidance)
                torch.testing.assert_close(latents[pair], expected[0], rtol=1e-4, atol=1e-4)
    # The source is never changed by what is done to the target.
    tied = make(backbone, [replace(one, self_fraction=1.0, cross_fraction=1.0) for one in chosen])
    torch.testing.assert_close(tied.source_latents, result.source_latents, rtol=1e-4, atol=1e-4)
    assert float((tied.target_latents - result.target_latents).abs().max()) > 1e-3


def test_a_batch_equals_its_pairs_alone(backbone):
    """Pairs of different windows, masks, alignments and even steps in one call."""
    chosen = [
        PairSettings(steps=3, self_fraction=0.3, cross_fraction=0.9, blend=0.4, alignment="swap"),
        PairSettings(steps=3, self_fraction=0.9, cross_fraction=0.1, blend=0.0, guidance=5.0),
        PairSettings(steps=2, blend=0.0, reweight={"tree": 2.0}, sampler="dpmpp_2m"),
    ]
    captions = (["a red ball", "a cat", "a bar"], ["a blue ball", "a dog, bar", "a tree"])
    masks = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks[:, :32] = 0.0
    words = ["ball", "cat", "bar"]
    whole = make(backbone, chosen, captions, masks, seeds=(7, 8, 9), record_words=words)
    assert whole.maps["cat"].shape == (3, 8, 8) and whole.maps["ball"][1].max() == 0
    for pair in range(3):
        alone = make(
            backbone,
            chosen[pair],
            ([captions[0][pair]], [captions[1][pair]]),
            masks[pair : pair + 1],
            seeds=[7 + pair],
            record_words=words,
        )
        for name in ("source", "target", "source_latents", "target_latents"):
            ours, one = getattr(whole, name)[pair], getattr(alone, name)[0]
            torch.testing.assert_close(ours, one, rtol=1e-4, atol=1e-4)
        for word in words:
            torch.testing.assert_close(whole.maps[word][pair], alone.maps[word][0], rtol=1e-4, atol=1e-5)
        assert alone.parameters[0] == whole.parameters[pair]


def test_equal_calls_are_equal_bits_and_parameters_make_the_pair_again(backbone):
    chosen = PairSettings(
        steps=2, self_fraction=0.5, reweight={"ball": 1.5}, word_windows={"blue": (0.5, 1.0)}
    )
    first = make(backbone, chosen, (SOURCE[:1], TARGET[:1]), seeds=[5])
    told = json.loads(json.dumps(first.parameters[0]))
    again = generate_pair(
        backbone,
        [told["source_caption"]],
        [told["target_caption"]],
        None,
        PairSettings.from_json(told),
        [told["seed"]],
        control=told["control"],
    )
    assert torch.equal(again.target, first.target) and torch.equal(again.source, first.source)
    assert again.parameters == first.parameters and told["masked"] is False and told["backbone"] == "toy"
    other = make(backbone, chosen, (SOURCE[:1], TARGET[:1]), seeds=[6])
    assert not torch.equal(other.source, first.source)


def test_recording_changes_nothing(backbone):
    chosen = PairSettings(steps=2, blend=0.0)
    plain, recorded = make(backbone, chosen), make(backbone, chosen, record_words=["dog", "ball"])
    assert torch.equal(plain.target, recorded.target)
    # A word of the target alone is found there, without its comma; maps are probabilities.
    assert recorded.maps["dog"][0].max() == 0 and recorded.maps["dog"][1].min() > 0
    assert max(float(shown.max()) for shown in recorded.maps.values()) < 1


def test_windows_and_blending_step_by_step(backbone):
    """Reading R1: a copy for the first `blend` of the steps, then the mask after every step."""
    seen, calls = [], []
    mask = torch.linspace(0, 1, 8).expand(8, 8)
    chosen = PairSettings(steps=5, self_fraction=0.7, cross_fraction=0.3, blend=0.4)
    predict = backbone.predict

    def watched(latents, timestep, text, image=None, task=None, control=None):
        calls.append(
            (len(latents), control and bool(control.self_loans), control and bool(control.cross_loans))
        )
        return predict(latents, timestep, text, image, task, control)

    backbone.predict = watched
    try:
        make(
            backbone,
            chosen,
            (SOURCE[:1], TARGET[:1]),
            mask,
            [3],
            on_step=lambda info: seen.append(info.latents),
        )
    finally:
        del backbone.predict
    # Steps 0 and 1 copy, so only the source is computed; up to 3 k/5 < 0.7, up to 1 k/5 < 0.3.
    assert calls == [(2, None, None), (2, None, None), (4, True, False), (4, True, False), (4, None, None)]
    for index, latents in enumerate(seen):
        source, target = latents
        assert torch.equal(source[..., 0], target[..., 0])  # the mask is 0 there
        assert torch.equal(source, target) == (index < 2)


def test_a_soft_mask_is_taken_as_it_is(backbone):
    """With the last step's weight m the target is m * its own + (1 - m) * source."""
    one = replace(FREE, steps=1)
    free, half = (make(backbone, one, masks=torch.full((8, 8), m)) for m in (1.0, 0.25))
    expected = 0.25 * free.target_latents + 0.75 * free.source_latents
    torch.testing.assert_close(half.target_latents, expected, rtol=1e-5, atol=1e-5)


def test_local_blend(backbone, monkeypatch):
    """Outside of where the words look the target is the source; the mask is the published one."""
    recorder = MapRecorder(torch.ones(1, 1, 3), torch.ones(1, 1, 3))
    recorder.sums = {(8, 8): torch.ones(2, 1, 1, 8, 8), (4, 4): torch.zeros(2, 1, 1, 4, 4)}
    recorder.counts = {(8, 8): torch.ones(2, 1), (4, 4): torch.full((2, 1), 2.0)}
    recorder.sums[4, 4][0, 0, 0, 0, 0], recorder.sums[4, 4][1, 0, 0, 3, 3] = 5.0, 1.0
    looks = torch.zeros(16, 16)
    looks[:8, :8] = looks[8:, 8:] = 1.0  # a corner of each caption's map and its neighbours
    assert torch.equal(blend_mask(recorder, 0, 16, 16, 0.3), looks[None, None])
    half = torch.ones(1, 1, 8, 8)
    half[..., :4] = 0.0
    monkeypatch.setattr(generate, "blend_mask", lambda *given: half)
    chosen = replace(FREE, steps=3, blend_words=(("ball",), ("ball",)), blend_start=0.4)
    seen = []
    make(
        backbone, chosen, (SOURCE[:1], TARGET[:1]), seeds=[3], on_step=lambda info: seen.append(info.latents)
    )
    kept = [(source == target).all(dim=0) for source, target in seen]
    assert not bool(kept[0].any() or kept[1].any()) and torch.equal(kept[2].float(), 1 - half[0, 0])
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 1], maps[0, 3, 3] = 1.0, 0.2
    expected = torch.zeros(8, 8)
    expected[:6, :6] = 1.0
    assert torch.equal(words_mask(maps, 8, 8)[0], expected) and words_mask(maps, 8, 8)[1].sum() == 0
    with pytest.raises(EmuEditError, match="local blend: .*holds none of the words 'sky'"):
        make(
            backbone, replace(chosen, blend_words=(("ball",), ("sky",))), (SOURCE[:1], TARGET[:1]), seeds=[3]
        )


def test_interruption_leaves_nothing(backbone):
    def stop(info):
        raise KeyboardInterrupt

    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        make(backbone, PairSettings(steps=2), on_step=stop)
    assert torch.equal(torch.get_rng_state(), state)
    assert all("forward" not in module.__dict__ for module in backbone.unet.modules())


def test_zero_terminal_snr_and_half_precision():
    schedule = SD_SCHEDULE | {
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
    made = toy_backbone(in_channels=4, scheduler=schedule).to(dtype=torch.bfloat16)
    result = make(made, PairSettings(steps=2), record_words=["ball"])
    assert result.target.dtype == torch.float32 and bool(torch.isfinite(result.target).all())


def test_contexts_keep_their_token_ids(backbone):
    text = backbone.encode_text(["bar", "a bar", ""])
    begin, end = backbone.tokenizer.bos_token_id, backbone.tokenizer.eos_token_id
    assert [row[0] for row in text.ids] == [begin] * 3 and text.ids[2] == [begin, end]
    assert text[1:].ids == text.ids[1:] and text.repeat(2).ids == text.ids * 2
    assert TextContext.cat([text, text[:1]]).ids == [*text.ids, text.ids[0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(chosen=[FREE]), "1 settings for 2 pairs"),
        (dict(seeds=[1]), "2 source captions, 2 target captions and 1 seeds"),
        (dict(captions=("a cat", TARGET)), "source captions are 'a cat'; give a list"),
        (dict(chosen=[FREE, replace(FREE, size=128)]), "different sizes"),
        (dict(masks=torch.ones(3, 64, 64)), "pair's mask: holds 3 masks for 2 pictures"),
        (dict(chosen=replace(FREE, alignment="swap")), "captions have 2 and 3 words"),
        (dict(chosen=replace(FREE, word_windows={"sky": (0, 1)})), "does not hold the word 'sky'"),
    ],
)
def test_slips_are_told(backbone, change, said):
    with pytest.raises(EmuEditError, match=said):
        make(backbone, **{"chosen": FREE} | change)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(self_fraction=1.5), "self_fraction is 1.5; give a fraction of the steps in 0..1"),
        (dict(sampler="heun"), "sampler 'heun' is not known"),
        (dict(alignment="words"), "alignment 'words' is not known; choose refine or swap"),
        (dict(guidance=float("nan")), "guidance is nan"),
        (dict(word_windows={"a": (0, 2)}), "the window of the word 'a' is 2"),
        (dict(word_windows={"a": (0.5, 0.1)}), "'a' begins at 0.5 and ends at 0.1 .*so it holds none"),
        (dict(word_windows={"a": (0.5, 0.5)}), "so it holds none"),
    ],
)
def test_settings_out_of_range(options, said):
    with pytest.raises(EmuEditError, match=said):
        PairSettings(**options)
    assert PairSettings(word_windows={"a": (0.0, 0.0)}).word_windows  # never, on purpose


def test_words_to_record_and_to_weigh_are_found_alike(backbone):
    captions = (["a \u201cred\u201d ball"], ["a \u201cblue\u201d ball"])
    weighed = replace(FREE, reweight={"blue,": 2.0}, blend_words=(("red",), ("(blue)",)))
    maps = make(backbone, weighed, captions, seeds=[3], record_words=["red", "blue", "ball."]).maps
    assert all(float(shown.max()) > 0 for shown in maps.values())


def test_editors_make_no_pairs():
    with pytest.raises(EmuEditError, match="'toy' is an editor.*load a text-to-image"):
        make(toy_backbone(), FREE)
