"""The one place that opens a .pth file: tensors in plain containers, and nothing else.

SAM and GroundingDINO were published as pickles, and every user of theirs has them. A full unpickler runs code
when it opens a file. torch's restricted one (`weights_only=True`) rebuilds tensors, dicts, lists and numbers
and refuses any other class or function before it is called; what it refuses is refused here in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..weights import read_tensors

WRAPPERS = ("model", "state_dict", "ema", "module")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of an original checkpoint (.pth, .pt or .safetensors) on the CPU, under their names.

    A state dict inside "model" or "state_dict" is taken out, and "module." (of parallel training) from
    the names. Raises EmuEditError for a missing, damaged or foreign file, and for one that holds anything
    but tensors and plain values.
    """
    if not path.is_file():
        raise EmuEditError(f"{path} does not exist; check the spelling and the folder.")
    state: Any = read_tensors(path) if path.suffix.lower() == ".safetensors" else _opened(path)
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = {}
    if isinstance(state, Mapping):
        tensors = {
            str(name).removeprefix("module."): value
            for name, value in state.items()
            if isinstance(value, Tensor)
        }
    if not tensors:
        raise EmuEditError(f"{path} holds no weights by name; use the published checkpoint.")
    return tensors


def _opened(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # the restricted unpickler has a class of its own for each kind of damage
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        raise EmuEditError(
            f"{path} is damaged, or holds more than weights and was not opened for safety ({reason}); use "
            f"the "
            "published checkpoint, or its .safetensors file."
        ) from problem
