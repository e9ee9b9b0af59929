"""The bundled predictor: hashed words, kinds of words and pieces of words, and one linear softmax over them.

`models/predictor` holds predictor.json (format, lexicon, scales, temperature, threshold) and
weights.safetensors (int8 [buckets, 16]); `python -m emu_edit.training.train_predictor bundled` makes both.
Numpy alone: reading an instruction takes a few hundred hashes and one small sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EmuEditError
from .base import TASKS, THRESHOLD, TaskPredictor
from .files import read_arrays, read_settings
from .reading import LONGEST, MOST_CHARACTERS, Lexicon, hashed, words_of

WEIGHTS = "weights.safetensors"


class NgramPredictor(TaskPredictor):
    """A linear softmax over hashed features: logits = sum of the features' rows / sqrt(their number).

    weights: float32 [buckets, 16], one row for each bucket. temperature: divides the logits; fitted so that
    the confidence is the share of right answers.
    """

    name = "bundled"

    def __init__(
        self, weights: np.ndarray, lexicon: Lexicon, temperature: float = 1.0, threshold: float = THRESHOLD
    ):
        self.weights = weights
        self.lexicon = lexicon
        self.temperature = temperature
        self.threshold = threshold

    @classmethod
    def load(cls, folder: Path) -> NgramPredictor:
        """From a folder as the trainer writes it; EmuEditError says what is missing or damaged."""
        settings = read_settings(folder, "ngrams")
        arrays = read_arrays(folder / WEIGHTS)
        table, scale = arrays.get("table"), arrays.get("scale")
        if (
            table is None or scale is None or table.dtype != np.int8 or table.ndim != 2
            or table.shape[1] != len(TASKS) or scale.shape != (len(TASKS),) or not np.isfinite(scale).all()
        ):  # fmt: skip
            raise EmuEditError(
                f"{folder / WEIGHTS} does not hold the predictor's tensors (table int8 [buckets, 16] and "
                "scale [16]); take it from the repository again."
            )
        weights = table.astype(np.float32) * scale.astype(np.float32)
        return cls(weights, _lexicon(settings, folder), settings["temperature"], settings["threshold"])

    def logits(self, text: str) -> np.ndarray:
        """float64 [16] before the temperature."""
        rows = hashed(text, self.lexicon, len(self.weights))
        return self.weights[rows].sum(0, dtype=np.float64) / len(rows) ** 0.5

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        return softmax(np.stack([self.logits(text) for text in texts]) / self.temperature)

    def remark(self, text: str) -> str:
        if len(text) > MOST_CHARACTERS or len(words_of(text)) >= LONGEST:
            return f"the instruction is long: its first {LONGEST} words were read"
        return ""


def _lexicon(settings: Mapping[str, Any], folder: Path) -> Lexicon:
    listed = settings.get("lexicon")
    if not isinstance(listed, dict) or not all(isinstance(line, str) for line in listed.values()):
        raise EmuEditError(f"{folder}: predictor.json has no lexicon; take it from the repository again.")
    return Lexicon.of(listed)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
