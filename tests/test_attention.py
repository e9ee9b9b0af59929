"""Attention control without maps against the same with every map in memory, and against published tables."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from attention_peers import LongWay, copied, faded, outputs_of, refined, reweighted, swapped, the_long_way
from hypothesis import given
from hypothesis import strategies as st
from toy_models import TEXT_LENGTH, toy_backbone

from emu_edit.core.attention.algebra import attention, edit_cross, edit_tables, inject_self
from emu_edit.core.attention.alignment import (
    equalizer,
    needleman_wunsch,
    refine,
    refinement_tables,
    replace,
    replacement_table,
    symbols,
    word_tokens,
)
from emu_edit.core.attention.control import Loan, PairPlan, control_at
from emu_edit.core.attention.windows import emu_alphas, published_alphas, steps_below
from emu_edit.core.backbone import TextContext
from emu_edit.core.errors import EmuEditError

PUBLISHED = json.loads(Path(__file__).with_name("published_alignments.json").read_text())
LENGTH = PUBLISHED["length"]


@pytest.mark.parametrize("case", PUBLISHED["refinement"], ids=lambda case: case["target"])
def test_refinement_equals_the_published_tables(case):
    mapper, alphas = refinement_tables(case["source_ids"], case["target_ids"], LENGTH)
    count = len(case["mapper"])
    assert mapper[:count].tolist() == case["mapper"] and alphas[:count].tolist() == case["alphas"]
    assert mapper[count:].tolist() == list(range(count, LENGTH)) and bool((alphas[count:] == 1).all())


@pytest.mark.parametrize("case", PUBLISHED["swap"], ids=lambda case: case["target"])
def test_word_swap_equals_the_published_tables(case):
    expected = torch.eye(LENGTH)
    for source, target, weight in case["unlike_identity"]:
        expected[source, target] = weight
    words = case["source"].split(" "), case["target"].split(" ")
    found = replacement_table(*words, case["source_tokens"], case["target_tokens"], LENGTH)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", PUBLISHED["schedule"], ids=str)
def test_schedule_equals_the_published_tables(case):
    expected = torch.zeros(case["rows"], LENGTH)
    for token in range(LENGTH):
        first, end = case["other_ones"].get(str(token), case["ones"])
        expected[first:end, token] = 1
    found = published_alphas(case["window"], case["words"], case["tokens"], case["steps"], LENGTH)
    assert torch.equal(found, expected)


def test_emu_windows_are_exact():
    assert [steps_below(f, 10) for f in (0.0, 0.05, 0.1, 0.3, 0.31, 0.7, 0.9, 1.0)] == [
        0,
        1,
        1,
        3,
        4,
        7,
        9,
        10,
    ]
    for steps, tenths in itertools.product((1, 7, 10, 20, 50), range(11)):
        assert steps_below(tenths / 10, steps) == sum(10 * k < tenths * steps for k in range(steps))
    table = emu_alphas(0.5, {"lion": (0.2, 0.9)}, {"lion": [2, 3]}, 10, 6)
    assert table[:, 0].tolist() == [1] * 5 + [0] * 5 and torch.equal(table[:, 3], table[:, 2])
    assert table[:, 2].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 0]


letters = st.lists(st.sampled_from("abc"), max_size=5)


@given(letters, letters)
def test_alignment_is_optimal(source, target):
    """Its score, matches less mismatches, is the best of all monotone pairings."""
    partner = needleman_wunsch(source, target)
    pairs = [(i, j) for j, i in enumerate(partner) if i >= 0]
    assert [i for i, _ in pairs] == sorted({i for i, _ in pairs})
    best = 0
    for size in range(min(len(source), len(target)) + 1):
        for left in itertools.combinations(range(len(source)), size):
            for right in itertools.combinations(range(len(target)), size):
                best = max(
                    best, sum(1 if source[i] == target[j] else -1 for i, j in zip(left, right, strict=True))
                )
    assert sum(1 if source[i] == target[j] else -1 for i, j in pairs) == best


def test_words_stand_in_for_missing_token_ids():
    owners = [-1, 0, 1, 1, 2, -1, -1]
    source = TextContext(torch.zeros(1, 7, 3), [owners], [["a", "kitten", "sits"]])
    target = TextContext(torch.zeros(1, 7, 3), [[-1, 0, 1, 2, 2, 3, -1]], [["a", "red", "kitten", "sits"]])
    assert symbols(source, 0) == [("", 0), ("a", 0), ("kitten", 0), ("kitten", 1), ("sits", 0), "end"]
    assert refine(source, target, 0)[0].tolist() == [0, 1, -1, 2, 3, 4, 5]


def test_words_that_do_not_fit_are_told():
    text = toy_backbone(in_channels=4).encode_text(["a cat", "a red cat"])
    with pytest.raises(EmuEditError, match="captions have 2 and 3 words.*use refinement"):
        replace(text[:1], text[1:], 0)
    with pytest.raises(EmuEditError, match="'a cat' does not hold the word 'dog'"):
        equalizer(text, 0, {"dog": 2.0})
    with pytest.raises(EmuEditError, match="'b' lies beyond the length"):
        replacement_table(["a"], ["b"], [[1]], [[]], 4)
    assert word_tokens(text, 1, 1) == word_tokens(text, 1, "red") != []


def test_words_are_found_beside_punctuation():
    words = [["a", "(red)", "ball,", "a", "dog's", "\u201cball\u201d", "..."]]
    text = TextContext(torch.zeros(1, 9, 3), [[-1, 0, 1, 2, 3, 4, 5, 6, -1]], words)
    assert word_tokens(text, 0, "ball") == [3, 6] and word_tokens(text, 0, "red") == [2]
    assert word_tokens(text, 0, "ball,") == [3, 6] and word_tokens(text, 0, "...") == [7]
    assert word_tokens(text, 0, "dog's") == [5] and not word_tokens(text, 0, "dog")
    assert not word_tokens(text, 0, "")
    assert equalizer(text, 0, {"ball": 2.0}).tolist() == [1, 1, 1, 2, 1, 1, 2, 1, 1]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10_000), st.booleans(), st.booleans(), st.booleans())
def test_cross_algebra_equals_maps(seed, swap, weigh, apart):
    """For random tables, whichever rows the pairs are in; the remaining row is left alone."""
    q, k, v = (
        normal(5, 2, 6, 4, seed=seed),
        normal(5, 2, 3, 4, seed=seed + 1),
        normal(5, 2, 3, 4, seed=seed + 2),
    )
    generator = torch.Generator().manual_seed(seed)
    mapper = torch.randint(-1, 3, (3,), generator=generator)
    alpha, table = torch.rand(3, generator=generator), torch.rand(3, 3, generator=generator)
    factors = torch.tensor([1.0, -2.0, 0.5]) if weigh else None
    change = {"replacement": table} if swap else {"mapper": mapper, "common": (mapper >= 0).float()}
    mix, keep = edit_tables(alpha, factors=factors, **change)
    sources, targets = ([0, 3], [4, 1]) if apart else ([0, 1], [2, 3])
    found = edit_cross(q, k, v, sources, targets, mix.expand(2, 3, 3), keep.expand(2, 3), scale=0.5)
    edit = swapped(table) if swap else refined(mapper.tolist())
    edit = reweighted(edit, dict(enumerate(factors.tolist()))) if weigh else edit
    maps = torch.softmax(torch.einsum("bhnd,bhmd->bhnm", q, k) * 0.5, dim=-1)
    expected = maps.clone()
    for source, target in zip(sources, targets, strict=True):
        expected[target] = faded(edit, alpha)(maps[source], maps[target])
    torch.testing.assert_close(found, expected @ v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("sources", "targets"), [([0], [1]), ([0, 1], [2, 3]), ([0, 0, 3], [1, 4, 2])])
def test_self_injection_equals_maps(sources, targets):
    q, k, v = (normal(6, 2, 9, 4, seed=seed) for seed in range(3))
    maps = torch.softmax(torch.einsum("bhnd,bhmd->bhnm", q, k) * 0.5, dim=-1)
    maps[targets] = maps[sources]
    found = inject_self(q, k, v, sources, targets, scale=0.5)
    torch.testing.assert_close(found, maps @ v, rtol=1e-5, atol=1e-5)
    rest = [row for row in range(6) if row not in targets]
    torch.testing.assert_close(found[rest], attention(q, k, v, 0.5)[rest])


def test_algebra_takes_masks_and_gradients():
    q, k, v = (normal(4, 2, 5, 4, seed=seed).requires_grad_() for seed in range(3))
    mask = torch.zeros(4, 2, 1, 5).masked_fill(torch.arange(5) == 4, -torch.inf)
    found = inject_self(q, k, v, [0], [1], scale=0.5, mask=mask)
    short = inject_self(q, k[:, :, :4], v[:, :, :4], [0], [1], scale=0.5)
    torch.testing.assert_close(found, short)
    found.sum().backward()
    assert all(bool(torch.isfinite(part.grad).all()) for part in (q, k, v))


SOURCES = ["a red ball", "a cat sat"]
SWAPS = ["a bar ball", "a dog sat"]
REFINED = ["a red red ball", "cat and dog"]


@pytest.fixture(scope="module")
def backbone():
    return toy_backbone(in_channels=4)


def plan_and_peer(kind, source, target, row):
    """The same edit as tables for the control and as surgery for the peer, half way through its window."""
    alphas = torch.ones(TEXT_LENGTH)
    alphas[2:4] = 0.0  # some words' window is over
    alphas[4] = 0.25
    change, edit = {}, copied
    if kind.startswith("swap"):
        change = {"replacement": replace(source, target, row)}
        edit = swapped(change["replacement"])
    elif kind.startswith("refine"):
        mapper, common = refine(source, target, row)
        change = {"mapper": mapper, "common": common}
        edit = refined(mapper.tolist())
    if kind.endswith("reweight"):
        word = target.words[row][-1]
        change["factors"] = equalizer(target, row, {word: -1.5})
        edit = reweighted(edit, {token: -1.5 for token in word_tokens(target, row, word)})
    return PairPlan(self_steps=(0, 1), self_most_tokens=64, alphas=alphas[None], **change), faded(
        edit, alphas
    )


@pytest.mark.parametrize("kind", ["swap", "refine", "reweight", "swap+reweight", "refine+reweight"])
def test_all_layers_equal_explicit_maps(backbone, kind):
    """Two pairs and their unconditional half, random weights: every layer's output, and the prediction."""
    targets = REFINED if kind.startswith("refine") else SWAPS
    text = backbone.encode_text([*SOURCES, *targets, "", "", "", ""])
    made = [plan_and_peer(kind, text[:2], text[2:4], row) for row in range(2)]
    latents = normal(8, 4, 16, 16)
    control = control_at(0, [plan for plan, _ in made], [Loan(0, 0, 2), Loan(1, 1, 3)])
    way = LongWay(pairs=2, self_most_tokens=64, cross=[edit for _, edit in made])
    with torch.inference_mode():
        with outputs_of(backbone.unet) as found:
            ours = backbone.predict(latents, 500, text, control=control)
        with the_long_way(backbone.unet, way), outputs_of(backbone.unet) as expected:
            theirs = backbone.predict(latents, 500, text)
        plain = backbone.predict(latents, 500, text)
    assert set(found) == set(expected) and len(found) == 20
    for name, output in expected.items():
        torch.testing.assert_close(
            found[name], output, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    # The edit does something to the targets, and nothing to the other rows.
    assert float((ours - plain)[2:4].abs().max()) > 1e-4
    torch.testing.assert_close(ours[[0, 1, 4, 5, 6, 7]], plain[[0, 1, 4, 5, 6, 7]], rtol=1e-5, atol=1e-5)
