"""The paper's predictor: a fine-tuned Flan-T5 that answers an instruction with the task's name.

Emu Edit, section 1.9: Flan-T5-XL; whether it had a classification head is not said, so the plainest reading
is taken: text to text. Instead of generating freely, every task's name is scored as the answer (the sum of
its tokens' log-probabilities), so the answer is always a task and comes with a ranking. Any size of T5 works.
The folder is the model's (config.json, model.safetensors, tokenizer) with predictor.json beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EmuEditError
from .base import TASKS, THRESHOLD, TaskPredictor
from .files import read_settings
from .ngrams import softmax

QUESTION = "Which editing task does this instruction ask for? "
LONGEST = 128  # tokens read of a question
BATCH = 8


class TextToTextPredictor(TaskPredictor):
    """softmax over log p(task's name | QUESTION + instruction) / temperature."""

    name = "text-to-text"

    def __init__(self, tokenizer: Any, model: Any, temperature: float = 1.0, threshold: float = THRESHOLD):
        self.tokenizer = tokenizer
        self.model = model.eval()
        self.temperature = temperature
        self.threshold = threshold

    @classmethod
    def load(cls, folder: Path) -> TextToTextPredictor:
        """A folder as the trainer writes it; no network."""
        settings = read_settings(folder, "text-to-text")
        tokenizer, model = load_parts(folder)
        return cls(tokenizer, model, settings["temperature"], settings["threshold"])

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        labels = answers(self.tokenizer)
        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                part = texts[start : start + BATCH]
                read = asked(self.tokenizer, part)
                hidden = self.model.get_encoder()(**read)[0]
                many = len(labels)
                logits = self.model(
                    encoder_outputs=(hidden.repeat_interleave(many, 0),),
                    attention_mask=read["attention_mask"].repeat_interleave(many, 0),
                    labels=labels.repeat(len(part), 1),
                ).logits
                tokens = labels.repeat(len(part), 1)
                chances = logits.double().log_softmax(-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
                rows.append((chances * (tokens >= 0)).sum(1).reshape(len(part), many).numpy())
        return softmax(np.concatenate(rows) / self.temperature)


def asked(tokenizer: Any, texts: Sequence[str]) -> Any:
    """Token ids and mask of the questions."""
    questions = [QUESTION + text for text in texts]
    return tokenizer(questions, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")


def answers(tokenizer: Any) -> Any:
    """Token ids [16, L] of the tasks' names, -100 behind their ends."""
    read = tokenizer(list(TASKS), padding=True, return_tensors="pt")
    return read["input_ids"].masked_fill(read["attention_mask"] == 0, -100)


def load_parts(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and T5 of a local folder; EmuEditError for what is none."""
    from ..packages import need_class

    why = "to load the text-to-text predictor"
    tokenizer: Any = need_class("transformers", "AutoTokenizer", why)
    model: Any = need_class("transformers", "T5ForConditionalGeneration", why)
    if not (folder / "config.json").is_file():
        raise EmuEditError(f"{folder} holds no config.json; give the folder of a Flan-T5.")
    try:
        return (
            tokenizer.from_pretrained(str(folder), local_files_only=True),
            model.from_pretrained(str(folder), local_files_only=True, use_safetensors=True),
        )
    except (OSError, ValueError, KeyError) as problem:
        line = str(problem).splitlines()[0]
        raise EmuEditError(
            f"{folder} cannot be read as a T5 ({line}); give a complete local folder."
        ) from problem
