"""The original packages segment-anything and groundingdino-py, as references: imported here and nowhere else.

Nothing of ours needs them. Tests that compare with them skip when they are not installed:

    pip install --no-deps segment-anything groundingdino-py torchvision timm addict

Both import torchvision, whose wheels may be built for another torch than the one that is there; of what they
import from it only two operators' declarations are missing then, and no test calls these operators.
groundingdino-py also imports packages for drawing and scoring, which are stood in for, and was written for
transformers 4: three methods of BertModel that transformers 5 no longer has are supplied on the spot.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

# Imported by groundingdino-py at its top, for drawing, scoring and printing only.
STOOD_IN = (
    "cv2",
    "supervision",
    "pycocotools",
    "pycocotools.mask",
    "matplotlib",
    "matplotlib.pyplot",
    "matplotlib.collections",
    "matplotlib.patches",
    "yapf",
    "yapf.yapflib",
    "yapf.yapflib.yapf_api",
)
_kept: list[Any] = []


def _mend_torchvision() -> str:
    """Make `import torchvision` work if it is installed; why it does not, or ""."""
    try:
        importlib.import_module("torchvision")
    except ImportError as problem:
        return f"torchvision is not installed ({problem})"
    except RuntimeError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # a library that is collected takes its declarations with it
        importlib.import_module("torchvision")
    return ""


# At once: transformers, imported later, imports torchvision wherever it is installed.
NO_TORCHVISION = _mend_torchvision()


def _package(name: str, *modules: str) -> list[ModuleType]:
    try:
        if importlib.util.find_spec(name) is None:
            raise ImportError
    except ImportError:
        pytest.skip(f"{name} is not installed; see tests/peers.py")
    if NO_TORCHVISION:
        pytest.skip(NO_TORCHVISION)
    try:
        return [importlib.import_module(f"{name}.{module}") for module in modules]
    except ImportError as problem:
        pytest.skip(f"{name} is installed but could not be imported ({problem})")


def segment_anything() -> SimpleNamespace:
    """Its `modeling` classes, `build_sam` and `ResizeLongestSide`."""
    modeling, build, transforms = _package("segment_anything", "modeling", "build_sam", "utils.transforms")
    return SimpleNamespace(modeling=modeling, build=build, resize=transforms.ResizeLongestSide)


@contextmanager
def _standing_in():
    added = [name for name in STOOD_IN if name not in sys.modules]
    for name in added:
        sys.modules[name] = MagicMock()
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def grounding_dino() -> SimpleNamespace:
    """Its modules `dino` (the model), `backbone`, `swin`, `transformer`, `bert` (its wrapper), `misc`."""
    with _standing_in():
        names = (
            "groundingdino",
            "backbone.backbone",
            "backbone.swin_transformer",
            "transformer",
            "bertwarper",
        )
        found = _package(
            "groundingdino", *(f"models.GroundingDINO.{name}" for name in names), "util.misc", "util.box_ops"
        )
    keys = ("dino", "backbone", "swin", "transformer", "bert", "misc", "box_ops")
    return SimpleNamespace(**dict(zip(keys, found, strict=True)))


class OldBert(torch.nn.Module):
    """A BertModel with what groundingdino-py takes from one: as in transformers 4, its attention mask may be
    [B,L,L] and its layers take arguments that mean nothing at inference."""

    def __init__(self, bert: Any):
        super().__init__()
        self.config, self.pooler = bert.config, bert.pooler
        self.embeddings = _Tolerant(bert.embeddings, ("past_key_values_length",))
        self.encoder = _Tolerant(
            bert.encoder,
            ("head_mask", "past_key_values", "use_cache", "output_attentions", "output_hidden_states")
            + ("return_dict", "encoder_hidden_states", "encoder_attention_mask"),
        )

    def get_extended_attention_mask(self, mask: torch.Tensor, shape: Any, device: Any) -> torch.Tensor:
        wide = mask[:, None] if mask.ndim == 3 else mask[:, None, None]
        dtype = next(self.encoder.parameters()).dtype
        return (1.0 - wide.to(dtype)) * torch.finfo(dtype).min

    def invert_attention_mask(self, mask: torch.Tensor) -> torch.Tensor:
        return self.get_extended_attention_mask(mask, None, None)

    def get_head_mask(self, mask: Any, layers: int) -> list[None]:
        return [None] * layers


class _Tolerant(torch.nn.Module):
    """A module under its own names that drops arguments it no longer knows."""

    def __init__(self, inner: torch.nn.Module, dropped: tuple[str, ...]):
        super().__init__()
        self._modules.update(inner._modules)
        self._parameters.update(inner._parameters)
        self._buffers.update(inner._buffers)
        self.__dict__["inner"], self.__dict__["dropped"] = inner, dropped

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.inner(*arguments, **{k: v for k, v in options.items() if k not in self.dropped})
