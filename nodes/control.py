"""Attention Control: how closely the picture after an edit follows the one before while both are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import EmuEditError
from . import host
from .widgets import choice, number, text, whole

if TYPE_CHECKING:
    from ..core.pairs.pair_settings import PairSettings


@dataclass(frozen=True)
class ControlChoice:
    """What goes over the EMU_CONTROL wire: settings (no size, steps or guidance), and whether it is on."""

    settings: PairSettings
    on: bool = True


class AttentionControl:
    """core.pairs.pair_settings as a node."""

    ID = "EmuEditAttentionControl"
    DISPLAY_NAME = "Attention Control"
    CATEGORY = "Emu Edit/Pairs"
    DESCRIPTION = (
        "Ties the picture after the edit to the one before while Make Pair generates both: for how much of "
        "the steps it takes over self-attention (shape and place) and the attention to common words, how "
        "much is copied whole, and which words count more. Without this node Make Pair draws these numbers "
        "for each candidate in the ranges of the Emu Edit paper."
    )
    SEARCH_ALIASES = ["prompt to prompt", "p2p", "attention injection", "reweight", "local blend", "pairs"]
    FUNCTION = "choose"
    RETURN_TYPES = ("EMU_CONTROL",)
    RETURN_NAMES = ("control",)
    OUTPUT_TOOLTIPS = ("For Make Pair.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..core.pairs.pair_settings import ALIGNMENTS

        return {
            "required": {
                "enabled": (
                    "BOOLEAN",
                    {"default": True, "tooltip": "Off leaves attention alone, to see what it is good for."},
                ),
                "self_fraction": number(
                    0.6,
                    0.0,
                    1.0,
                    0.05,
                    "Share of the steps with the self-attention of the picture before (N_s). More keeps "
                    "shapes; less lets them change. The paper draws 0.3 to 0.9.",
                ),
                "cross_fraction": number(
                    0.6,
                    0.0,
                    1.0,
                    0.05,
                    "Share of the steps in which words common to both captions are looked at in the same "
                    "places (N_c). The paper draws 0.3 to 0.9.",
                ),
                "blend": number(
                    0.1,
                    0.0,
                    1.0,
                    0.02,
                    "Share of the first steps in which the pictures are one and the same; after it only the "
                    "mask ties them. The paper draws 0.02 to 0.2.",
                ),
                "alignment": choice(
                    ALIGNMENTS,
                    ALIGNMENTS[0],
                    "refine: captions of any length, tied at their common words. swap: captions of as many "
                    "words, tied word by word.",
                ),
                "self_most_tokens": whole(
                    0,
                    0,
                    65536,
                    "Take over self-attention only in layers of at most so many tokens. 0: in all. "
                    "Prompt-to-Prompt took 256.",
                ),
                "reweight": text(
                    "",
                    "Words of the caption after the edit that count more or less, one a line: 'snowy: 2'. "
                    "Below 0 a word is turned against. The caption must hold them. For add, which makes "
                    "the picture after first: words of the caption before.",
                ),
                "word_windows": text(
                    "",
                    "Words of the caption after the edit with a share of their own instead of "
                    "cross_fraction, one a line: 'red: 0.2' or 'red: 0.1-0.5'. For add: of the caption "
                    "before.",
                ),
                "blend_before": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Local blend: words of the caption before the edit, with commas. Only "
                        "where these and blend_after are looked at may the pictures differ. Empty: off.",
                    },
                ),
                "blend_after": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Local blend: words of the caption after the edit, with commas.",
                    },
                ),
                "blend_threshold": number(
                    0.3, 0.0, 1.0, 0.05, "Local blend: how strongly a place must be looked at, 0 to 1."
                ),
            }
        }

    def choose(
        self,
        enabled: bool,
        self_fraction: float,
        cross_fraction: float,
        blend: float,
        alignment: str,
        self_most_tokens: int,
        reweight: str,
        word_windows: str,
        blend_before: str,
        blend_after: str,
        blend_threshold: float,
    ) -> tuple[ControlChoice]:
        from ..core.pairs.pair_settings import PairSettings

        with host.slips_of(self):
            before, after = listed(blend_before), listed(blend_after)
            if bool(before) != bool(after):
                raise EmuEditError(
                    "local blend has words for one caption only; fill blend_before and blend_after, or "
                    "neither."
                )
            settings = PairSettings(
                self_fraction=self_fraction,
                cross_fraction=cross_fraction,
                blend=blend,
                alignment=alignment,
                self_most_tokens=self_most_tokens or None,
                reweight={word: numbers(told, "reweight", 1)[0] for word, told in rows(reweight, "reweight")},
                word_windows={word: window(told) for word, told in rows(word_windows, "word_windows")},
                blend_words=(before, after) if before else None,
                blend_threshold=blend_threshold,
            )
        return (ControlChoice(settings, enabled),)


def listed(words: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(word.strip() for word in words.split(",") if word.strip())


def rows(lines: str, name: str) -> list[tuple[str, str]]:
    """(word, what is said of it) of each line 'word: number'."""
    found = []
    for line in lines.splitlines():
        if not line.strip():
            continue
        word, colon, told = line.rpartition(":")
        if not colon or not word.strip():
            raise EmuEditError(f"{name}: the line {line.strip()!r} is not 'word: number'; write it so.")
        found.append((word.strip(), told.strip()))
    return found


def numbers(told: str, name: str, most: int) -> list[float]:
    """One number, or two with a dash between."""
    try:
        # A dash that begins a number is its sign, so only one that stands behind a digit divides.
        divided = told.replace(" ", "")
        cut = divided.find("-", 1) if most == 2 else -1
        return [float(part) for part in ([divided] if cut < 0 else [divided[:cut], divided[cut + 1 :]])]
    except ValueError:
        shape = "a number such as 1.5" if most == 1 else "a share such as 0.4, or two such as 0.1-0.5"
        raise EmuEditError(f"{name}: {told!r} is not {shape}; write it so.") from None


def window(told: str) -> tuple[float, float]:
    """(start, end) shares of the steps; one number alone is the end."""
    found = numbers(told, "word_windows", 2)
    return (0.0, found[0]) if len(found) == 1 else (found[0], found[1])
