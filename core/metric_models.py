"""CLIP and DINO networks for scoring edits, read from local transformers folders and never downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import EmuEditError
from .metric_presets import Shape
from .model_parts import load_tokenizer
from .packages import need_class
from .weights import check_safetensors, find_weights, read_json

WHY = "to score edits by CLIP and DINO"
DINO_CLASSES = {
    "vit": "ViTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}


@dataclass(frozen=True, eq=False)
class ScoringModel:
    """One network with what identifies it in results."""

    model: Any
    folder: Path
    shape: Shape
    size: int  # pixels of the square it looks at
    tokenizer: Any = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def ident(self) -> str:
        """Such as "CLIP ViT-L/14 (clip-vit-large-patch14)"."""
        return f"{self.shape.label} ({self.folder.name})"


def read_shape(folder: Path, kind: str) -> Shape | None:
    """What a transformers folder holds if it is a usable CLIP (kind "clip") or DINO ("dino"); None if not."""
    if not (folder / "config.json").is_file():
        return None
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    if kind == "clip":
        if model_type != "clip":
            return None
        vision: Any = config.get("vision_config")
        vision = vision if isinstance(vision, dict) else {}
        # Transformers leaves out of the file what equals its defaults, which are those of ViT-B/32.
        told, patch = vision, 32
    elif model_type in DINO_CLASSES:
        told, patch = config, 14 if model_type.startswith("dinov2") else 16
    else:
        return None
    width, layers = told.get("hidden_size", 768), told.get("num_hidden_layers", 12)
    patch = told.get("patch_size", patch)
    letter = {384: "S", 768: "B", 1024: "L", 1280: "H"}.get(width, str(width))
    names = {"clip": "CLIP", "vit": "DINO", "dinov3_vit": "DINOv3"}
    label = f"{names.get(str(model_type), 'DINOv2')} ViT-{letter}/{patch}"
    return Shape(label, width, layers, patch)


def load_clip(folder: Path, device: torch.device | str = "cpu") -> ScoringModel:
    """A CLIP folder as transformers saves it: config.json, model.safetensors and the tokenizer's files."""
    shape = read_shape(folder, "clip")
    if shape is None:
        raise EmuEditError(
            f"{folder} holds no CLIP model that transformers reads (config.json of model_type clip); "
            "take the whole folder of openai/clip-vit-large-patch14 or a relative."
        )
    model = _loaded(folder, "CLIPModel", device)
    tokenizer = load_tokenizer(folder, model.text_model)
    return ScoringModel(model, folder, shape, int(model.config.vision_config.image_size), tokenizer)


def load_dino(folder: Path, device: torch.device | str = "cpu") -> ScoringModel:
    """A DINO, DINOv2 or DINOv3 vision transformer folder: config.json and model.safetensors."""
    shape = read_shape(folder, "dino")
    if shape is None:
        raise EmuEditError(
            f"{folder} holds no DINO model that transformers reads (config.json of model_type "
            f"{', '.join(DINO_CLASSES)}); take the folder of facebook/dino-vits16 or a relative."
        )
    kind = DINO_CLASSES[read_json(folder / "config.json")["model_type"]]
    options = {"add_pooling_layer": False} if kind == "ViTModel" else {}
    model = _loaded(folder, kind, device, **options)
    return ScoringModel(model, folder, shape, int(model.config.image_size))


def _loaded(folder: Path, kind: str, device: torch.device | str, **options: Any) -> Any:
    """A transformers model in float32, whole: no missing weight may stay random."""
    for file in find_weights(folder, "model"):
        check_safetensors(file)
    found: Any = need_class("transformers", kind, WHY)
    try:
        model, report = found.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as problem:  # each release of transformers has exceptions of its own
        raise EmuEditError(f"{folder} could not be loaded ({problem}); download it again.") from problem
    missing = sorted(report["missing_keys"])
    if missing:
        raise EmuEditError(
            f"{folder} lacks {len(missing)} weights of a {kind} (such as {missing[0]!r}); download it again."
        )
    return nn.Module.to(model.float(), device).eval()
