"""How the bundled predictor reads an instruction: words, kinds of words, and features made of both.

Plain Python, no torch: a command that predicts tasks starts at once. Everything is a pure function of the
text and the lexicon, and bounded: at most LONGEST words are read, so no text takes long.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

LONGEST = 48
"""Words read of an instruction; what comes later is not read."""
MOST_CHARACTERS = 1000
LONGEST_WORD = 24
PHRASE_WORDS = 3
"""The longest entry of a lexicon that is looked for, in words."""

_STRAIGHT = str.maketrans(
    {"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "`": "'"}
)
_QUOTED = re.compile(
    r"\"[^\"]{1,80}\"|(?<![a-zA-Z0-9])'[^']{1,80}'(?![a-zA-Z0-9])|\u00ab[^\u00bb]{1,80}\u00bb"
)
_TOKENS = re.compile(r"<quoted>|<caps>|[a-z]+(?:'[a-z]+)?|[0-9]+|->|=>|:=|[?:=]|[^\x00-\x7f\s]+")
_CAPITALS = re.compile(r"(?<![A-Za-z0-9<])[A-Z][A-Z0-9'&!-]*[A-Z0-9](?![A-Za-z0-9>])")
_SHORTENED = (
    ("can't", "can not"),
    ("won't", "will not"),
    ("n't", " not"),
    ("'d", " would"),
    ("'ll", " will"),
    ("'re", " are"),
)
_SMALL = {
    "the",
    "a",
    "an",
    "my",
    "our",
    "his",
    "her",
    "their",
    "its",
    "your",
    "this",
    "that",
    "these",
    "those",
}


def words_of(text: str) -> list[str]:
    """Lower-case words and telling marks; quotations become <quoted>, shouted words <caps>, numbers <n>.

    Letters keep their accents off ("cafe"), other scripts stay as they are, one token each run.
    """
    text = unicodedata.normalize("NFKC", text[:MOST_CHARACTERS]).translate(_STRAIGHT)
    text = _QUOTED.sub(" <quoted> ", text)
    if not text.replace("<quoted>", "").isupper():
        text = _CAPITALS.sub(" <caps> ", text)
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    for short, full in _SHORTENED:
        plain = plain.replace(short, full)
    words = ["<n>" if w[0].isdigit() else w[:LONGEST_WORD] for w in _TOKENS.findall(plain)]
    return words[:LONGEST]


@dataclass(frozen=True)
class Lexicon:
    """Kinds of words: `kinds` maps a word or short phrase to the names of its kinds."""

    kinds: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, listed: Mapping[str, str]) -> Lexicon:
        """From {"animal": "dog, cat, ..."}: one line for each kind, entries separated by commas."""
        found: dict[str, list[str]] = {}
        for kind, line in listed.items():
            for entry in line.split(","):
                phrase = " ".join(word for word in words_of(entry) if word not in _SMALL)
                if phrase and kind not in found.setdefault(phrase, []):
                    found[phrase].append(kind)
        return cls({phrase: tuple(names) for phrase, names in found.items()})

    def read(self, words: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """The words as (entry, kinds), longest entries first, words of no kind alone with ()."""
        read, at = [], 0
        while at < len(words):
            for length in range(min(PHRASE_WORDS, len(words) - at), 0, -1):
                phrase = " ".join(words[at : at + length])
                kinds = self.kinds.get(phrase) or (self._plural(phrase) if length == 1 else ())
                if kinds or length == 1:
                    read.append((phrase, kinds))
                    at += length
                    break
        return read

    def _plural(self, word: str) -> tuple[str, ...]:
        """The kinds of "dog" for "dogs", "dog's"; of "box" for "boxes"."""
        for ending in ("'s", "s", "es"):
            if word.endswith(ending) and len(word) > len(ending) + 2:
                kinds = self.kinds.get(word.removesuffix(ending))
                if kinds:
                    return kinds
        return ()


def features_of(text: str, lexicon: Lexicon) -> Iterator[str]:
    """What the classifier sees of a text: words, runs of words and of kinds, pieces of words, the ends.

    Runs mix words with the kinds of their neighbours ("make the <animal> <colour>"), so that a wording is
    known again around another thing.
    """
    read = lexicon.read(words_of(text))
    words = [word for word, _ in read]
    shapes = [kinds[0] if kinds else word for word, kinds in read]
    yield "bias"
    for word, kinds in read:
        yield f"w {word}"
        for kind in kinds:
            yield f"k {kind}"
        if not kinds and len(word) > 3 and word[0] != "<":
            yield "k ?"
        yield from _pieces(word)
    yield from _runs("w", ["^", *words, "$"], 3)
    yield from _runs("s", ["^", *shapes, "$"], 4)
    short = [shape for shape in shapes if shape not in _SMALL]
    yield from _runs("t", ["^", *short, "$"], 3)
    for first, second in zip(short, short[2:], strict=False):
        yield f"g {first} {second}"
    for shape in short[1:]:
        yield f"f {short[0]} {shape}"
    if len(short) <= 2:
        yield f"short {' '.join(short)}"
    yield f"n {min(len(words), 12)}"


def _pieces(word: str) -> Iterator[str]:
    """Runs of 3 to 5 letters of the word with its ends marked: misspelt and unknown words keep most."""
    for part in word.split():
        marked = f"<{part}>"
        if len(part) > 3 and part[0] != "<":
            for size in (3, 4, 5):
                for at in range(len(marked) - size + 1):
                    yield f"c {marked[at : at + size]}"


def _runs(name: str, tokens: Sequence[str], longest: int) -> Iterator[str]:
    for size in range(2, longest + 1):
        for at in range(len(tokens) - size + 1):
            yield f"{name}{size} {' '.join(tokens[at : at + size])}"


def hashed(text: str, lexicon: Lexicon, buckets: int) -> list[int]:
    """The text's features as numbers below `buckets`, each once, ascending (CRC-32 of UTF-8)."""
    return sorted({zlib.crc32(feature.encode()) % buckets for feature in features_of(text, lexicon)})
