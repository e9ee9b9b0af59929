"""Which token of the source caption each token of the target caption corresponds to.

Prompt-to-Prompt (2208.01626, section 3 and its published `seq_aligner`): refinement aligns token ids with
Needleman and Wunsch's algorithm, word swap pairs words by their place. The tables here equal the published
ones entry for entry, oddities included.
"""

from __future__ import annotations

import string
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from ..backbone import TextContext
from ..errors import EmuEditError

GAP, MATCH, MISMATCH = 0, 1, -1
MARKS = string.punctuation + "\u201c\u201d\u2018\u2019\u2026"  # what a caption may write a word between


def needleman_wunsch(source: Sequence[Hashable], target: Sequence[Hashable]) -> list[int]:
    """For each symbol of `target` the index of its partner in `source`, or -1 for an insertion.

    Gap 0, match 1, mismatch -1. Among equal scores an insertion goes before a deletion, and a deletion before
    a pairing, when read from the end: the published order.
    """
    rows, columns = len(source) + 1, len(target) + 1
    score = [[GAP * (i + j) if i == 0 or j == 0 else 0 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            score[i][j] = max(_options(score, source, target, i, j))
    partner = [-1] * len(target)
    i, j = len(source), len(target)
    while j > 0:
        if i == 0:
            break
        insert, delete, _ = _options(score, source, target, i, j)
        if score[i][j] == insert:
            j -= 1
        elif score[i][j] == delete:
            i -= 1
        else:
            i, j = i - 1, j - 1
            partner[j] = i
    return partner


def _options(
    score: list[list[int]], source: Sequence[Hashable], target: Sequence[Hashable], i: int, j: int
) -> tuple[int, int, int]:
    """Scores of reaching (i, j) by an insertion, by a deletion, and by pairing the two symbols."""
    pair = MATCH if source[i - 1] == target[j - 1] else MISMATCH
    return score[i][j - 1] + GAP, score[i - 1][j] + GAP, score[i - 1][j - 1] + pair


def refinement_tables(
    source: Sequence[Hashable], target: Sequence[Hashable], length: int
) -> tuple[Tensor, Tensor]:
    """(mapper [length] int64, alphas [length] float32) of two captions' tokens, without their padding.

    mapper[n] is the source position that target position n takes its attention from, -1 for a token of its
    own; alphas[n] is 1 where there is one. Padding positions map to themselves with alpha 1.
    """
    partner = needleman_wunsch(source, target)
    mapper = torch.arange(length)
    mapper[: len(partner)] = torch.tensor(partner, dtype=torch.int64)
    return mapper, (mapper != -1).float()


def replacement_table(
    source_words: Sequence[str],
    target_words: Sequence[str],
    source_tokens: Sequence[Sequence[int]],
    target_tokens: Sequence[Sequence[int]],
    length: int,
) -> Tensor:
    """The matrix [length,length] of a word swap: entry (s, t) is how much of source token s target t takes.

    Words as split at spaces, and for each the positions of its tokens in its caption. Tokens of a swapped
    word map one to one when there are as many of them, else every source token goes in equal parts to all the
    target's. Behind the last swapped word position t maps to position t, even when the captions' lengths
    differ; the published code does so.
    Raises EmuEditError when the captions differ in their number of words or a swapped word was cut off.
    """
    if len(source_words) != len(target_words):
        raise EmuEditError(
            f"word swap: the captions have {len(source_words)} and {len(target_words)} words; give captions "
            "of equally many words, or use refinement."
        )
    swaps = [index for index, word in enumerate(target_words) if word != source_words[index]]
    for index in swaps:
        if not source_tokens[index] or not target_tokens[index]:
            raise EmuEditError(
                f"word swap: {source_words[index]!r} or {target_words[index]!r} lies beyond the length that "
                "the text encoder reads; shorten the captions."
            )
    table = torch.zeros(length, length)
    source_at = target_at = 0
    for index in swaps:
        old, new = list(source_tokens[index]), list(target_tokens[index])
        between = old[0] - source_at
        places = torch.arange(min(between, length - target_at))
        table[source_at + places, target_at + places] = 1.0
        if len(old) == len(new):
            table[old, new] = 1.0
        else:
            table[torch.tensor(old)[:, None], torch.tensor(new)] = 1.0 / len(new)
        source_at, target_at = old[0] + len(old), target_at + between + len(new)
    # The published loop ends when either caption does.
    rest = torch.arange(target_at, target_at + max(0, length - max(source_at, target_at)))
    table[rest, rest] = 1.0
    return table


def symbols(text: TextContext, row: int) -> list[Hashable]:
    """One caption's tokens from begin to end of text, without padding, as things to compare.

    Token ids where the backbone tells them; else each token as (its word, its number in the word), which
    cannot see that different words share a piece.
    """
    if row < len(text.ids) and text.ids[row]:
        return list(text.ids[row])
    owners, words = text.token_words[row], text.words[row]
    last = max((place for place, owner in enumerate(owners) if owner >= 0), default=0)
    found: list[Hashable] = []
    for place, owner in enumerate(owners[: last + 1]):
        piece = sum(1 for other in owners[:place] if other == owner)
        found.append((words[owner], piece) if owner >= 0 else ("", piece))
    return [*found, "end"][: len(owners)]


def spelt(word: str, words: Sequence[str]) -> list[int]:
    """Numbers of the `words`, a caption split at spaces, that are spelt as `word` is.

    Punctuation at the ends of either does not count: "ball" and "ball," mean every ball.
    """
    bare = word.strip(MARKS)
    return [
        i for i, found in enumerate(words) if word and (found == word or found.strip(MARKS) == bare != "")
    ]


def word_tokens(text: TextContext, row: int, word: str | int) -> list[int]:
    """Positions of a word's tokens in caption `row`: of the word with that number, or of all `spelt` so."""
    wanted = [word] if isinstance(word, int) else spelt(word, text.words[row])
    return [place for place, owner in enumerate(text.token_words[row]) if owner in wanted]


def refine(source: TextContext, target: TextContext, row: int) -> tuple[Tensor, Tensor]:
    """`refinement_tables` of caption `row` of two batches of equal token length."""
    return refinement_tables(symbols(source, row), symbols(target, row), source.hidden.shape[1])


def replace(source: TextContext, target: TextContext, row: int) -> Tensor:
    """`replacement_table` of caption `row` of two batches of equal token length."""
    old, new = (
        [word_tokens(text, row, index) for index in range(len(text.words[row]))] for text in (source, target)
    )
    return replacement_table(source.words[row], target.words[row], old, new, source.hidden.shape[1])


def equalizer(text: TextContext, row: int, scales: Mapping[str, float]) -> Tensor:
    """Factors [L] float32 of caption `row`'s attention: scales[word] at a word's tokens, 1 elsewhere.

    Raises EmuEditError for a word that the caption does not hold.
    """
    factors = torch.ones(text.hidden.shape[1])
    for word, scale in scales.items():
        places = word_tokens(text, row, word)
        if not places:
            raise EmuEditError(
                f"re-weighting: the caption {' '.join(text.words[row])!r} does not hold the word {word!r}; "
                "name one of its words."
            )
        factors[places] = float(scale)
    return factors
