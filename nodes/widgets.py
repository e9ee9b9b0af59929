"""Inputs of a node as ComfyUI wants them described, each with the tooltip that no input may lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Input = tuple[Any, dict[str, Any]]


def socket(kind: str, tooltip: str, **more: Any) -> Input:
    """An input that only a wire can fill."""
    return kind, {"tooltip": tooltip, **more}


def choice(options: Sequence[str], default: str, tooltip: str) -> Input:
    """A menu."""
    return list(options), {"default": default, "tooltip": tooltip}


def whole(default: int, low: int, high: int, tooltip: str, **more: Any) -> Input:
    """A whole number in low..high."""
    return "INT", {"default": default, "min": low, "max": high, "tooltip": tooltip, **more}


def number(default: float, low: float, high: float, step: float, tooltip: str) -> Input:
    """A number in low..high; `step` is what one click adds, finer values can be typed."""
    return "FLOAT", {
        "default": default,
        "min": low,
        "max": high,
        "step": step,
        "round": 0.0001,
        "tooltip": tooltip,
    }


def text(default: str, tooltip: str) -> Input:
    """A box of several lines of text."""
    return "STRING", {"default": default, "multiline": True, "tooltip": tooltip}
