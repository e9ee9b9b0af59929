"""`emu-edit predict`: which task an instruction asks for, how surely, and what it is about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import EmuEditError
from ..core.predictor import Prediction, load_predictor


def read_lines(path: str) -> list[str]:
    """The lines of a text file (UTF-8). Blank lines at the end are left out; one before it is an error."""
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise EmuEditError(f"{file} cannot be read ({problem}); give a text file in UTF-8.") from problem
    if not lines:
        raise EmuEditError(f"{file} is empty; write one instruction on each line.")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise EmuEditError(f"{file}, line {number} is empty; write one instruction on each line.")
    return lines


def as_dict(text: str, prediction: Prediction) -> dict[str, Any]:
    """What --json prints of one instruction."""
    return {
        "instruction": text,
        "task": prediction.task,
        "confidence": round(prediction.confidence, 6),
        "ranking": [[task, round(p, 6)] for task, p in prediction.ranking],
        "target": prediction.target,
        "sure": prediction.sure,
        "note": prediction.note,
    }


def as_line(text: str, prediction: Prediction) -> str:
    """What people read of one instruction."""
    others = ", ".join(f"{task} {p:.0%}" for task, p in prediction.ranking[1:3] if p >= 0.005)
    parts = [f"{text.strip()}: {prediction.task} ({prediction.confidence:.0%})"]
    if prediction.target:
        parts.append(f"about {prediction.target!r}")
    if others:
        parts.append(f"next {others}")
    if prediction.note:
        parts.append(f"note: {prediction.note}")
    return "; ".join(parts)


def predict_lines(
    instructions: Sequence[str],
    file: str | None,
    as_json: bool,
    model: str | None = None,
    encoder: str | None = None,
    threshold: float | None = None,
    fallback: str | None = None,
) -> None:
    """Print the prediction of every instruction given or in `file`, one line each."""
    if file is not None and instructions:
        raise EmuEditError("instructions were given both as arguments and by --file; give one of the two.")
    texts = read_lines(file) if file is not None else list(instructions)
    if not texts:
        raise EmuEditError('no instruction was given; write one such as "make it night", or give --file.')
    found = load_predictor(model, encoder).predict(texts, threshold=threshold, fallback=fallback)
    for text, prediction in zip(texts, found, strict=True):
        print(
            json.dumps(as_dict(text, prediction), ensure_ascii=False)
            if as_json
            else as_line(text, prediction)
        )
