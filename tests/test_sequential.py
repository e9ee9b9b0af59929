"""Registration, colour, change masks, composite, history and the keep step on small drawn pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import emu_edit.core.sequential.register as register_module
from emu_edit.benchmarks.editor import Slips, degrade, draw, first_scene, next_scene
from emu_edit.core.errors import EmuEditError
from emu_edit.core.sequential.change import ChangeSettings, change_mask
from emu_edit.core.sequential.colour import match_colour, to_space
from emu_edit.core.sequential.composite import composite, feather
from emu_edit.core.sequential.fit import choose_fit, fit_map
from emu_edit.core.sequential.geometry import compose, displacement, inverse, sample, scaling, similarity
from emu_edit.core.sequential.history import begin, from_json
from emu_edit.core.sequential.keep import PLAIN, KeepSettings, keep_edit
from emu_edit.core.sequential.register import register
from emu_edit.core.thresholding import sequential_threshold

SIZE = 160


@pytest.fixture(scope="module")
def turn():
    """(picture, truly edited, the editor's output, its motion map)."""
    rng = np.random.default_rng(3)
    scene = first_scene(rng)
    after, _ = next_scene(scene, rng)
    before, edited = draw(scene, SIZE), draw(after, SIZE)
    output, map_ = degrade(edited, rng)
    return before, edited, output, map_


def one(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([v]) for v in values]


def test_maps_compose_and_invert():
    map_ = similarity(*one(0.7, -0.4, 1.02, 0.03), 90, 120)
    back = compose(map_, inverse(map_))
    assert float(displacement(back, 90, 120)) < 1e-4
    assert float(displacement(scaling(1, 1, 1), 90, 120)) == 0


def test_sampling_by_the_identity_and_by_whole_pixels():
    picture = torch.rand(1, 30, 20, 3)
    assert torch.allclose(sample(picture, scaling(1, 1, 1), 30, 20), picture, atol=1e-5)
    moved = sample(picture, similarity(*one(2.0, 1.0, 1.0, 0.0), 30, 20), 30, 20)
    assert torch.allclose(moved[:, :29, :18], picture[:, 1:, 2:], atol=1e-4)


def test_a_ramp_is_sampled_where_it_lies():
    ramp = torch.arange(40.0).expand(1, 30, 40)[..., None].contiguous()
    for shift in (0.1, 0.25, 0.5, 0.8):
        moved = sample(ramp, similarity(*one(shift, 0.0, 1.0, 0.0), 30, 40), 30, 40)
        assert torch.allclose(moved[:, 3:-3, 3:-3], ramp[:, 3:-3, 3:-3] + shift, atol=1e-3)


@pytest.mark.parametrize("waves", [4, 7])  # 4: the border tells more than the picture does
@pytest.mark.parametrize("shift", [(2, 1), (-3, 2), (1, -5)])
def test_a_smooth_picture_much_larger_than_what_is_worked_at(monkeypatch, shift, waves):
    monkeypatch.setattr(register_module, "WORKING_SIDE", 128)
    rng = np.random.default_rng(0)
    spectrum = np.zeros((3, 288, 257), complex)
    some = 3, waves, waves
    spectrum[:, :waves, :waves] = rng.normal(size=some) + 1j * rng.normal(size=some)
    values = np.fft.irfft2(spectrum, s=(288, 512))
    values = (values - values.min()) / (values.max() - values.min())
    picture = torch.from_numpy(values.astype(np.float32)).movedim(0, -1)[None].contiguous()
    found = register(picture, torch.roll(picture, (shift[1], shift[0]), (1, 2)))  # it wraps round
    assert bool(found.found.all())
    assert abs(float(found.x) - shift[0]) < 0.1 and abs(float(found.y) - shift[1]) < 0.1


def test_registration_is_known_to_a_tenth_of_a_pixel(turn):
    before, _, output, map_ = turn
    found = register(before, output)
    assert bool(found.found.all()) and found.reasons == ("",)
    assert float(displacement(map_, SIZE, SIZE)) > 0.9
    assert float(displacement(compose(map_, found.map), SIZE, SIZE)) < 0.1


@pytest.mark.parametrize("motion", [(9.0, -5.0, 1.0, 0.0), (0.0, 0.0, 1.06, 0.0), (2.0, 1.0, 0.98, 0.05)])
def test_larger_motions(turn, motion):
    before, edited, _, _ = turn
    map_ = similarity(*one(*motion), SIZE, SIZE)
    found = register(before, sample(edited, map_, SIZE, SIZE).clamp(0, 1))
    assert float(displacement(compose(map_, found.map), SIZE, SIZE)) < 0.15
    if motion[3]:
        without = register(before, sample(edited, map_, SIZE, SIZE).clamp(0, 1), rotation=False)
        assert float(without.angle) == 0


def test_what_cannot_be_registered_stays_and_says_so(turn):
    before, *_ = turn
    black = torch.zeros_like(before)
    noise = torch.rand(before.shape, generator=torch.Generator().manual_seed(1))
    pictures = torch.cat([black, before, before, before])
    others = torch.cat([black, black, noise, before])
    found = register(pictures, others)
    assert not bool(found.found.any())
    assert float(displacement(found.map, SIZE, SIZE).max()) == 0
    texture, same = "there is no texture to register on", "the pictures already lie on each other"
    assert found.reasons[0] == found.reasons[1] == texture and found.reasons[3] == same
    assert "too little in common" in found.reasons[2]


def test_colour_drift_is_measured_beside_an_edit():
    before = draw(first_scene(np.random.default_rng(8)), 96)
    drifted = (before * torch.tensor([1.02, 0.98, 0.99]) + 0.01).clamp(0, 1)
    drifted[:, 20:50, 30:60] = torch.tensor([0.1, 0.9, 0.3])
    for mode in ("gain", "matrix"):
        match = match_colour(before, drifted, mode=mode)
        assert bool(match.found.all())
        untouched = torch.ones(96, 96, dtype=torch.bool)
        untouched[20:50, 30:60] = False
        untouched &= (drifted[0] > 0.02).all(-1) & (drifted[0] < 0.98).all(-1)
        assert float((match.apply(drifted) - before)[0][untouched].abs().max()) < 0.008
    same = match_colour(before, before)
    assert same.reasons == ("the colours already agree",) and same.apply(before) is before
    far = match_colour(before, (before * 0.3).clamp(0, 1))
    assert not bool(far.found.any()) and far.reasons[0]
    with pytest.raises(EmuEditError, match="no way to match"):
        match_colour(before, before, mode="vivid")


def test_spaces():
    assert torch.allclose(to_space(torch.ones(1, 3), "perceptual"), torch.tensor([1.0, 0, 0]), atol=1e-4)
    assert float(to_space(torch.full((1, 3), 0.5), "linear")[0, 0]) == pytest.approx(0.21404, abs=1e-4)
    with pytest.raises(EmuEditError, match="no space"):
        to_space(torch.ones(1, 3), "cmyk")


def test_hysteresis_draws_the_border_where_it_is():
    before = torch.full((1, 64, 64, 3), 0.4)
    edited = before.clone()
    edited[:, 20:44, 16:40] = 0.9
    edited[:, 5, 5] = 0.75  # a speck, nowhere clear once smoothed
    truth = torch.zeros(1, 64, 64, dtype=torch.bool)
    truth[:, 20:44, 16:40] = True
    paper = change_mask(before, edited, ChangeSettings())
    strict = change_mask(before, edited, ChangeSettings("hysteresis", sigma=1.0))
    assert int((paper & ~truth).sum()) > 250 and not bool((~paper & truth).any())
    assert int((strict ^ truth).sum()) <= 100 and not bool(strict[:, :12].any())
    assert torch.equal(paper, sequential_threshold(before, edited)[1] > 0)
    for space in ("linear", "perceptual"):
        assert bool(change_mask(before, edited, ChangeSettings(space=space))[0, 30, 30])


@pytest.mark.parametrize(
    "settings",
    [
        ChangeSettings("other"),
        ChangeSettings(space="cmyk"),
        ChangeSettings(alpha=-1),
        ChangeSettings(detail=-1.0),
        ChangeSettings(specks=float("nan")),
    ],
)
def test_bad_settings_are_a_sentence(settings):
    with pytest.raises(EmuEditError):
        settings.check()


def test_feathering_stays_inside_and_composites_are_exact():
    changed = torch.zeros(1, 40, 40, dtype=torch.bool)
    changed[:, 10:30, 10:30] = True
    soft = feather(changed, 5.0)
    assert bool((soft[~changed] == 0).all()) and float(soft[0, 20, 20]) == 1
    assert 0 < float(soft[0, 10, 20]) < 0.5 and bool((soft[changed] > 0).all())
    assert torch.equal(feather(changed, 0.0), changed.float())
    before, edited = torch.rand(2, 40, 40, 3), torch.rand(2, 40, 40, 3)
    made = composite(before, edited, soft.expand(2, -1, -1))
    assert torch.equal(made[:, ~changed[0]], before[:, ~changed[0]])
    assert torch.equal(made[:, 20, 20], edited[:, 20, 20])


def test_history_goes_back_to_the_first_picture_and_through_json():
    first = torch.rand(2, 12, 10, 3)
    changed = torch.zeros(2, 12, 10, dtype=torch.bool)
    changed[0, 2:5, 3:7] = True
    changed[1, 0, 0] = True
    kept, history = begin(first).restore(first + 0.001, changed, {"alpha": 0.03})
    assert torch.equal(kept[~changed], first[~changed])
    assert torch.equal(kept[changed], (first + 0.001)[changed])
    kept, history = history.restore(first + 0.002, torch.zeros_like(changed), {})
    assert torch.equal(kept[changed], (first + 0.002)[changed])
    again = from_json(json.loads(json.dumps(history.to_json())), first)
    assert torch.equal(again.changed, changed) and again.turns == ({"alpha": 0.03}, {})
    with pytest.raises(EmuEditError, match="another first picture"):
        from_json(history.to_json(), first + 0.1)
    with pytest.raises(EmuEditError, match="no turn history"):
        from_json({}, first)


def test_keep_takes_the_edit_and_nothing_else(turn):
    before, edited, output, _ = turn
    settings = KeepSettings(change=ChangeSettings("hysteresis", sigma=1.0, specks=16, holes=16))
    result = keep_edit(before, output, settings=settings, history=begin(before))
    taken, visible = result.mask > 0, (edited - before).abs().mean(-1) >= 0.03
    assert torch.equal(result.kept[~taken], before[~taken])
    assert float((taken & visible).sum() / (taken | visible).sum()) > 0.85
    far = torch.nn.functional.max_pool2d((edited != before).any(-1).float()[:, None], 9, 1, 4)[:, 0] == 0
    assert torch.equal(result.kept[far], before[far])
    entry = result.report["pictures"][0]
    assert entry["registration"]["moved"] and entry["colour"]["moved"]
    assert json.loads(json.dumps(result.report)) == result.report
    assert result.history is not None and len(result.history.turns) == 1


def test_plain_keep_is_the_papers_rule_bit_for_bit(turn):
    before, _, output, _ = turn
    kept, mask = sequential_threshold(before, output)
    result = keep_edit(before, output, settings=PLAIN)
    assert torch.equal(result.kept, kept) and torch.equal(result.mask, mask)
    same = keep_edit(before, before, settings=KeepSettings(change=ChangeSettings(alpha=0.0)))
    assert torch.equal(same.kept, before)  # registered, matched and compared, and not a bit has moved


def test_mask_and_batches(turn):
    before, _, output, _ = turn
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, : SIZE // 2] = 1
    result = keep_edit(before, output.repeat(2, 1, 1, 1), mask, KeepSettings(register=False, colour="none"))
    assert result.kept.shape == (2, SIZE, SIZE, 3) and len(result.report["pictures"]) == 2
    assert torch.equal(result.kept[:, SIZE // 2 :], before.expand(2, -1, -1, -1)[:, SIZE // 2 :])
    with pytest.raises(EmuEditError, match="3 previous pictures against 2"):
        keep_edit(before.repeat(3, 1, 1, 1), output.repeat(2, 1, 1, 1))
    with pytest.raises(EmuEditError, match="began with a picture of 8x8"):
        keep_edit(before, output, history=begin(torch.rand(1, 8, 8, 3)))


def test_a_large_batch_is_worked_on_in_parts(turn, monkeypatch):
    before, edited, output, _ = turn
    pair = torch.cat([output, edited, before])
    mask = torch.ones(3, SIZE, SIZE)
    whole = keep_edit(before, pair, mask, history=begin(before.repeat(3, 1, 1, 1)))
    told = []
    monkeypatch.setattr("emu_edit.core.sequential.keep.AT_A_TIME", 1)
    parts = keep_edit(
        before, pair, mask, history=begin(before.repeat(3, 1, 1, 1)), on_part=lambda *a: told.append(a)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert parts.report["size"] == whole.report["size"] and len(parts.report["pictures"]) == 3
    assert parts.registration.reasons == whole.registration.reasons
    assert parts.kept.shape == whole.kept.shape and len(parts.history.turns) == 1
    # Alone, a picture's registration may stop a step earlier: the same but for hundredths of a pixel.
    assert (
        float(
            displacement(compose(parts.registration.map, inverse(whole.registration.map)), SIZE, SIZE).max()
        )
        < 0.05
    )
    assert float((parts.mask != whole.mask).float().mean()) < 0.002
    assert torch.equal(parts.kept[2], before[0]) and torch.equal(whole.kept[2], before[0])


def test_an_edit_that_changed_everything_is_taken_whole(turn):
    before, *_ = turn
    edited = 1 - before * 0.5
    result = keep_edit(before, torch.full_like(before, 0.0) + torch.tensor([0.9, 0.0, 0.9]))
    assert not result.report["pictures"][0]["registration"]["moved"]
    assert float(keep_edit(before, edited, settings=PLAIN).mask.mean()) > 0.9
    black = keep_edit(torch.zeros_like(before), torch.zeros_like(before))
    assert float(black.mask.sum()) == 0 and torch.equal(black.kept, torch.zeros_like(before))


@pytest.mark.parametrize("how", ["stretch", "crop", "pad"])
def test_an_editors_resize_is_found_and_undone(turn, how):
    before, edited, *_ = turn
    size = (128, 192)
    back = inverse(fit_map(how, (SIZE, SIZE), size, 1))
    output = sample(edited, back, *size).clamp(0, 1)
    assert choose_fit("auto", (SIZE, SIZE), size) == ("stretch", "crop", "pad")
    settings = KeepSettings(change=ChangeSettings("hysteresis", sigma=1.0))
    result = keep_edit(before, output, settings=settings)
    assert result.report["size"]["fit"] == how
    assert result.kept.shape == before.shape
    taken, visible = result.mask > 0, (edited - before).abs().mean(-1) >= 0.03
    assert torch.equal(result.kept[~taken], before[~taken])
    shown = slice(30, 130)  # the rows that a crop leaves
    both, any_ = (taken & visible)[:, shown].sum(), (taken | visible)[:, shown].sum()
    assert float(both / any_.clamp(min=1)) > 0.6


def test_the_simulated_editor_does_what_it_says(turn):
    before, edited, *_ = turn
    output, map_ = degrade(edited, np.random.default_rng(0), Slips(0.0, 0.0, 0.0, 1.0, 100))
    assert float(displacement(map_, SIZE, SIZE)) < 1e-4
    assert float((output - edited).abs().mean()) < 0.01
    assert bool((before != edited).any())
