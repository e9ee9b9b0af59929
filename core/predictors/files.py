"""A predictor's folder: predictor.json and safetensors, read without torch and refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..errors import EmuEditError
from .base import TASKS

FORMAT = "emu-edit-predictor"
SETTINGS = "predictor.json"


def read_settings(folder: Path, backend: str | None = None) -> dict[str, Any]:
    """predictor.json of a folder, checked: format, tasks, temperature, threshold, and `backend` if given."""
    path = folder / SETTINGS
    if not path.is_file():
        raise EmuEditError(f"{path} does not exist; give a folder that the predictor's trainer wrote.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise EmuEditError(f"{path} is not readable as JSON ({problem}); get it again.") from problem
    if not isinstance(settings, dict) or settings.get("format") != FORMAT or settings.get("version") != 1:
        raise EmuEditError(f"{path} is no predictor of version 1; give a folder that the trainer wrote.")
    if tuple(settings.get("tasks", ())) != TASKS:
        raise EmuEditError(f"{path} knows other tasks than the sixteen of this version; train it again.")
    if backend is not None and settings.get("backend") != backend:
        raise EmuEditError(f"{path} is for the backend {settings.get('backend')!r}, not {backend!r}.")
    for key, low, high in (("temperature", 1e-3, 1e3), ("threshold", 0.0, 1.0)):
        number = settings.get(key)
        if not isinstance(number, int | float) or not low <= number <= high:
            raise EmuEditError(f"{path}: {key} is {number!r}; it belongs in {low:g}..{high:g}.")
    return settings


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file as numpy arrays."""
    if not path.is_file():
        raise EmuEditError(f"{path} does not exist; the predictor's folder is not complete.")
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError, KeyError) as problem:
        raise EmuEditError(
            f"{path} ({path.stat().st_size} bytes) is truncated or damaged ({problem}); get it again."
        ) from problem


def settings_of(backend: str, temperature: float, threshold: float, **more: Any) -> dict[str, Any]:
    """What goes into predictor.json."""
    return {
        "format": FORMAT,
        "version": 1,
        "backend": backend,
        "tasks": list(TASKS),
        "temperature": temperature,
        "threshold": threshold,
        **more,
    }


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise EmuEditError unless every named file of the folder is there and has its SHA-256."""
    for name, wanted in digests.items():
        path = folder / name
        if not path.is_file():
            raise EmuEditError(f"{path} does not exist; the sentence encoder's folder is not complete.")
        found = sha256_of(path)
        if found != wanted:
            raise EmuEditError(
                f"{path} has SHA-256 {found}, not {wanted}: it is not the file the head was trained with; "
                "get the original all-MiniLM-L6-v2."
            )
