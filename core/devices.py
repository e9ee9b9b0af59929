"""Names of devices, as commands take them."""

from __future__ import annotations

import torch

from .errors import EmuEditError


def usable_device(device: str) -> str:
    """The device that `device` means ("auto": CUDA, else the CPU), or EmuEditError if nothing runs on it."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()  # read back: the meta device makes tensors that hold nothing
    except (RuntimeError, AssertionError, ModuleNotFoundError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise EmuEditError(f"device {device!r} cannot be used ({reason}); choose auto or cpu.") from problem
    return device
