"""How a pair is generated, and the attention plan that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..attention.alignment import equalizer, refine, word_tokens
from ..attention.alignment import replace as word_swap
from ..attention.control import NEVER, PairPlan
from ..attention.local_blend import THRESHOLD
from ..attention.windows import Window, check_fraction, emu_alphas, steps_below
from ..backbone import Backbone, TextContext
from ..errors import EmuEditError
from ..sampling import METHODS

ALIGNMENTS = ("refine", "swap")
# Of a plain Stable Diffusion, as in Prompt-to-Prompt; a backbone may recommend others.
FALLBACKS = {"steps": 50, "guidance": 7.5, "size": 512}
_RECOMMENDED = {"steps": "steps", "guidance": "text_guidance", "size": "size"}


@dataclass(frozen=True)
class PairSettings:
    """How to make a source and a target picture together. None means what the backbone recommends.

    steps, sampler (one of sampling.METHODS), size (pixels along the side of a square, or (height, width);
    rounded to what the backbone can take). guidance: the classifier-free scale of both captions; 1 = off.
    self_fraction, cross_fraction: Emu Edit's N_s and N_c. At the steps k with k / steps < N_s the target's
    self-attention is the source's, over all tokens or in layers of at most `self_most_tokens` (Prompt-to-
    Prompt: 256); with k / steps < N_c its cross-attention is, at the tokens that correspond. Defaults: the
    middle of the published range 0.3 to 0.9.
    blend: while k / steps < blend the target's latents are the source's; afterwards they are blended with
    them under the mask (arXiv 2311.10089, section 7.2.1).
    alignment: "refine" ties common tokens (Emu Edit; captions of any length), "swap" ties words by place.
    word_windows: words of the target caption with cross-attention windows of their own, (start, end)
    fractions, (0, 0) for never. reweight: words of the target caption and factors of their attention
    (2208.01626 suggests -2 to 2).
    blend_words: (words of the source, words of the target) whose maps make a mask besides (local blend), from
    the step `blend_start` on, at `blend_threshold`.
    Raises EmuEditError for values out of range.
    """

    steps: int | None = None
    guidance: float | None = None
    self_fraction: float = 0.6
    cross_fraction: float = 0.6
    blend: float = 0.1
    sampler: str = "ddim"
    size: int | tuple[int, int] | None = None
    alignment: str = "refine"
    self_most_tokens: int | None = None
    word_windows: Mapping[str, Window] = field(default_factory=dict)
    reweight: Mapping[str, float] = field(default_factory=dict)
    blend_words: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    blend_threshold: float = THRESHOLD
    blend_start: float = 0.2

    def __post_init__(self) -> None:
        for name in ("self_fraction", "cross_fraction", "blend", "blend_threshold", "blend_start"):
            check_fraction(name, getattr(self, name))
        for word, window in self.word_windows.items():
            for value in window:
                check_fraction(f"the window of the word {word!r}", value)
            start, end = window
            if 0 < start >= end:  # (0, 0) is never, on purpose
                raise EmuEditError(
                    f"pair settings: the window of the word {word!r} begins at {start:g} and ends at {end:g} "
                    "of the steps, so it holds none; give its beginning before its end."
                )
        for name, number in (("guidance", self.guidance), *self.reweight.items()):
            if number is not None and not math.isfinite(number):
                raise EmuEditError(f"pair settings: {name} is {number}; give a finite number.")
        if self.guidance is not None and self.guidance < 0:
            raise EmuEditError(f"pair settings: guidance is {self.guidance}; give a number of 0 or more.")
        for name, choice, known in (
            ("sampler", self.sampler, METHODS),
            ("alignment", self.alignment, ALIGNMENTS),
        ):
            if choice not in known:
                raise EmuEditError(
                    f"pair settings: {name} {choice!r} is not known; choose {' or '.join(known)}."
                )

    def turned(self) -> PairSettings:
        """For a pair that is made from its end: source and target of the local blend change places."""
        return self if self.blend_words is None else replace(self, blend_words=self.blend_words[::-1])

    def filled(self, backbone: Backbone) -> PairSettings:
        """These settings with every None that a backbone recommends replaced, `size` as (height, width)."""
        empty = {
            name: backbone.defaults.get(theirs, FALLBACKS[name])
            for name, theirs in _RECOMMENDED.items()
            if getattr(self, name) is None
        }
        whole = replace(self, **empty)
        sides = whole.size if isinstance(whole.size, (tuple, list)) else (whole.size, whole.size)
        multiple = backbone.size_multiple
        height, width = (max(1, round(float(side or 0) / multiple)) * multiple for side in sides)
        return replace(whole, size=(height, width))

    def check_windows(self) -> None:
        """Raise EmuEditError when a word's window holds none of the steps, which must be filled.

        For new work: what was made and recorded with such a window is made again as it was.
        """
        steps = int(self.steps or 0)
        for word, (start, end) in self.word_windows.items():
            if end > 0 and steps_below(start, steps) >= steps_below(end, steps):  # (0, 0) is never
                raise EmuEditError(
                    f"pair settings: the window of the word {word!r}, {start:g} to {end:g}, holds none of "
                    f"the {steps} steps; widen it, or take more steps."
                )

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON's own types."""
        found = asdict(self)
        found["size"] = list(self.size) if isinstance(self.size, (tuple, list)) else self.size
        found["word_windows"] = {word: list(window) for word, window in self.word_windows.items()}
        found["blend_words"] = (
            None if self.blend_words is None else [list(words) for words in self.blend_words]
        )
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> PairSettings:
        """The settings that `to_json` wrote; other entries are ignored."""
        known = {f.name: found[f.name] for f in fields(cls) if f.name in found}
        if isinstance(known.get("size"), list):
            known["size"] = tuple(known["size"])
        if "word_windows" in known:
            known["word_windows"] = {word: tuple(window) for word, window in known["word_windows"].items()}
        if known.get("blend_words") is not None:
            source, target = known["blend_words"]
            known["blend_words"] = (tuple(source), tuple(target))
        return cls(**known)


def plan_of(settings: PairSettings, source: TextContext, target: TextContext, row: int) -> PairPlan:
    """The attention plan of pair `row`; `settings` are filled, the captions encoded.

    Raises EmuEditError for captions or words that do not fit the settings.
    """
    steps, length = int(settings.steps or 0), target.hidden.shape[1]
    tokens = {word: _tokens(target, row, word) for word in settings.word_windows}
    alphas = emu_alphas(settings.cross_fraction, settings.word_windows, tokens, steps, length)
    swap = settings.alignment == "swap"
    mapper, common = (None, None) if swap else refine(source, target, row)
    return PairPlan(
        self_steps=(0, steps_below(settings.self_fraction, steps)) if settings.self_fraction else NEVER,
        self_most_tokens=settings.self_most_tokens,
        alphas=alphas if bool(alphas.any()) else None,
        mapper=mapper,
        common=common,
        # Checked also when the window is empty, so that a caption that does not fit shows at once.
        replacement=word_swap(source, target, row) if swap else None,
        factors=equalizer(target, row, settings.reweight) if settings.reweight else None,
    )


def _tokens(target: TextContext, row: int, word: str) -> list[int]:
    places = word_tokens(target, row, word)
    if not places:
        raise EmuEditError(
            f"pair settings: the caption {' '.join(target.words[row])!r} does not hold the word {word!r}; "
            "name one of its words."
        )
    return places
