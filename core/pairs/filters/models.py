"""Depth estimators and readers from local transformers folders; nothing is downloaded.

Pictures are prepared here, as core.masks.detect does, because releases of transformers want different
packages for their image processors. What a folder's preprocessor_config.json says is heeded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import EmuEditError
from ...packages import need_class

# Whose networks give metres by their nature. DepthPro is not among them: its network gives the inverse of
# depth, and only the post-processing of transformers, which is not used here, makes metres of it.
METRIC = ("glpn", "tipsv2_dpt", "zoedepth")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Preparation:
    """Sides in pixels (a multiple of `multiple`), whether the proportions are kept, what 1.0 becomes, and the
    mean and deviation of that.
    """

    height: int
    width: int
    multiple: int = 1
    keep_ratio: bool = False
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    white: float = 1.0

    @classmethod
    def read(cls, folder: Path, size: int) -> Preparation:
        """What preprocessor_config.json says; `size` pixels a side where there is none."""
        path = folder / "preprocessor_config.json"
        try:
            told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError) as problem:
            raise EmuEditError(f"{path} cannot be read ({problem}); get the folder again.") from problem
        sides = told.get("size", size)
        if isinstance(sides, Mapping):
            short = sides.get("shortest_edge", size)
            height, width = sides.get("height", short), sides.get("width", short)
        else:
            height = width = sides
        # A processor that knows no mean, such as GLPN's, does not normalise.
        normalised = told.get("do_normalize", "image_mean" in told or not told)
        rescaled = told.get("do_rescale", True)
        return cls(
            int(height),
            int(width),
            int(told.get("ensure_multiple_of") or told.get("size_divisor") or 1),
            bool(told.get("keep_aspect_ratio", False)),
            tuple(told.get("image_mean") or IMAGENET[0]) if normalised else (0.0, 0.0, 0.0),
            tuple(told.get("image_std") or IMAGENET[1]) if normalised else (1.0, 1.0, 1.0),
            255 * float(told.get("rescale_factor") or 1 / 255) if rescaled else 255.0,
        )

    def __call__(self, images: Tensor) -> Tensor:
        """[B,H,W,3] in 0..1 -> [B,3,h,w] as the model wants it."""
        height, width = images.shape[1:3]
        tall, wide = self.height / height, self.width / width
        if self.keep_ratio:  # as DPT: the scale that changes the picture least
            tall = wide = tall if abs(1 - tall) < abs(1 - wide) else wide
        size = [
            max(self.multiple, round(n / self.multiple) * self.multiple)
            for n in (tall * height, wide * width)
        ]
        planes = images.movedim(-1, 1).float().clamp(0, 1)
        planes = F.interpolate(planes, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        planes = planes * self.white
        shape = (1, 3, 1, 1)
        return (planes - planes.new_tensor(self.mean).view(shape)) / planes.new_tensor(self.std).view(shape)


@dataclass(frozen=True, eq=False)
class TransformersDepth:
    """DPT, Depth Anything, ZoeDepth ... as filters.depth.DepthEstimator and, in grey, as an annotator."""

    model: Any
    preparation: Preparation
    name: str
    metric: bool = False

    @torch.inference_mode()
    def depth(self, images: Tensor) -> Tensor:
        """[B,h,w] float32 on the CPU, at the model's own size."""
        parameter = next(self.model.parameters())
        planes = self.preparation(images).to(parameter.device, parameter.dtype)
        return self.model(pixel_values=planes).predicted_depth.float().cpu()


@dataclass(frozen=True, eq=False)
class TrOcr:
    """A TrOCR (an image encoder with a text decoder) as a reader of one line of lettering."""

    model: Any
    tokenizer: Any
    preparation: Preparation
    name: str
    longest: int = 24
    wants_crop = True

    @torch.inference_mode()
    def read(self, picture: Tensor) -> list[Line]:
        """The one line that a crop [H,W,3] holds."""
        parameter = next(self.model.parameters())
        planes = self.preparation(picture[None]).to(parameter.device, parameter.dtype)
        tokens = self.model.generate(pixel_values=planes, max_new_tokens=self.longest, do_sample=False)
        text = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        return [Line(text)] if text else []


@dataclass(frozen=True)
class Line:
    """Lettering without a place."""

    text: str


def load_depth(folder: str | Path, device: str = "cpu") -> TransformersDepth:
    """A depth estimator's folder: config.json, safetensors weights, preprocessor_config.json."""
    folder = Path(folder)
    model = _loaded(folder, "AutoModelForDepthEstimation", "depth estimator", device)
    return TransformersDepth(model, Preparation.read(folder, 384), folder.name, is_metric(model.config))


def is_metric(config: Any) -> bool:
    """Whether a network of this transformers config gives distances, large where far, not nearness."""
    # Depth Anything comes in both kinds. A DPT with a projection is DINOv2's, trained on metres (NYU, KITTI).
    return (
        config.model_type in METRIC
        or getattr(config, "depth_estimation_type", "relative") == "metric"
        or (config.model_type == "dpt" and bool(getattr(config, "add_projection", False)))
    )


def load_reader(folder: str | Path, device: str = "cpu") -> TrOcr:
    """A TrOCR's folder, with its tokenizer."""
    folder = Path(folder)
    model = _loaded(folder, "VisionEncoderDecoderModel", "reader of lettering", device)
    tokenizers: Any = need_class("transformers", "AutoTokenizer", "to read lettering")
    try:
        tokenizer = tokenizers.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as problem:
        raise _unreadable(folder, "reader of lettering", problem) from problem
    preparation = Preparation.read(folder, 384)
    if not (folder / "preprocessor_config.json").is_file():
        half = (0.5, 0.5, 0.5)
        preparation = Preparation(384, 384, mean=half, std=half)  # TrOCR's own
    return TrOcr(model, tokenizer, preparation, folder.name)


def _loaded(folder: Path, kind: str, what: str, device: str) -> Any:
    if not (folder / "config.json").is_file():
        raise EmuEditError(f"{what}: {folder} holds no config.json; give the folder of a transformers model.")
    models: Any = need_class("transformers", kind, f"to load a {what}")
    try:
        model = models.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
        raise _unreadable(folder, what, problem) from problem
    return model.eval().to(device)


def _unreadable(folder: Path, what: str, problem: Exception) -> EmuEditError:
    line = (str(problem).splitlines() or ["no reason told"])[0]
    return EmuEditError(f"{what}: {folder} cannot be read ({line}); give a complete local folder.")
