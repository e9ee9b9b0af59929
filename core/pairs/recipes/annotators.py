"""Maps of real pictures, for translation: depth, normals, segmentation, pose, sketch (appendix 7.2.5 uses
ControlNet's annotators). Networks come from local transformers folders, if asked for; the sketch needs none.

Conventions, which the procedural world shares: depth is white near and black far; normals are (right, up,
towards the viewer) mapped from -1..1 to 0..1; a class has one flat colour; skeletons are OpenPose's on black.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...filters import gaussian_low_pass
from ...masks.phrases import Phrase
from ...masks.sources import DetectSettings, Source
from ..filters.depth import DepthEstimator
from ..filters.models import Preparation, _loaded
from .base import NoCandidate

GREY = (0.299, 0.587, 0.114)
LEAST_METRES = 0.1  # nearer is an estimator's slip, and its inverse would take the whole range for itself


def nearness(depth: DepthEstimator, picture: Tensor) -> Tensor:
    """[H,W] in 0..1, 1 nearest, of a picture [H,W,3].

    Metres are inverted, not negated: the inverse is what relative estimators give (disparity), so maps of
    both kinds are alike; and in a perspective picture it is the inverse that is linear over a plane, so that
    a floor has one normal from the feet to the horizon.
    """
    found = depth.depth(picture[None]).float()
    if getattr(depth, "metric", False):
        found = found.clamp_min(LEAST_METRES).reciprocal()
    plane = F.interpolate(found[:, None], picture.shape[:2], mode="bicubic", align_corners=False)[0, 0]
    low, high = plane.aminmax()
    return (plane - low) / (high - low).clamp_min(1e-6)


@dataclass(frozen=True, eq=False)
class DepthAnnotator:
    """base.Annotator of depth, as a grey picture."""

    depth: DepthEstimator

    def annotate(self, picture: Tensor) -> Tensor:
        return nearness(self.depth, picture)[..., None].expand(-1, -1, 3).contiguous()


@dataclass(frozen=True, eq=False)
class NormalAnnotator:
    """base.Annotator of normals, from the slope of estimated depth; `relief`: how deep the scene is taken to
    be, in widths of the picture."""

    depth: DepthEstimator
    relief: float = 1.0

    def annotate(self, picture: Tensor) -> Tensor:
        return normals(nearness(self.depth, picture), self.relief)


def normals(near: Tensor, relief: float = 1.0) -> Tensor:
    """Normals [H,W,3] in 0..1 of a height field [H,W] (1 = near), smoothed a little first."""
    side = max(near.shape)
    smooth = gaussian_low_pass(near, side / 256)
    down, right = torch.gradient(smooth * side * relief)
    vectors = F.normalize(torch.stack([-right, down, torch.ones_like(near)], dim=-1), dim=-1)
    return vectors * 0.5 + 0.5


@dataclass(frozen=True, eq=False)
class SegmentationAnnotator:
    """base.Annotator of classes, by a semantic segmenter of transformers (SegFormer, UperNet, ...)."""

    model: Any
    preparation: Preparation

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> SegmentationAnnotator:
        """From a local folder."""
        model = _loaded(Path(folder), "AutoModelForSemanticSegmentation", "segmenter of classes", device)
        return cls(model, Preparation.read(Path(folder), 512))

    @torch.inference_mode()
    def annotate(self, picture: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        planes = self.preparation(picture[None]).to(parameter.device, parameter.dtype)
        logits = self.model(pixel_values=planes).logits.float().cpu()
        logits = F.interpolate(logits, picture.shape[:2], mode="bilinear", align_corners=False)
        return palette(logits.shape[1])[logits[0].argmax(dim=0)]


def palette(count: int) -> Tensor:
    """A colour for each of `count` classes [count,3]: hues a golden angle apart, at three brightnesses."""
    golden = (math.sqrt(5) - 1) / 2
    rows = [
        colorsys.hsv_to_rgb(k * golden % 1.0, (0.85, 0.55)[k % 2], (1.0, 0.75, 0.5)[k % 3])
        for k in range(count)
    ]
    return torch.tensor(rows, dtype=torch.float32)


class SketchAnnotator:
    """base.Annotator of lines: an extended difference of Gaussians (Winnemoeller 2011), black on white.

    fine: sigma in parts of the longer side; sharp: weight of the difference; level: below it a line is drawn.
    """

    def __init__(self, fine: float = 1 / 320, sharp: float = 18.0, level: float = 0.62) -> None:
        self.fine, self.sharp, self.level = fine, sharp, level

    def annotate(self, picture: Tensor) -> Tensor:
        grey = (picture * picture.new_tensor(GREY)).sum(-1)
        sigma = max(0.6, self.fine * max(grey.shape))
        near, far = gaussian_low_pass(grey, sigma), gaussian_low_pass(grey, 1.6 * sigma)
        # 1 on even ground, whatever its grey; less on the dark side of an edge.
        even = 1.0 + self.sharp * (near - far).clamp(max=0)
        lines = torch.where(
            even >= self.level, torch.ones_like(even), 1 + torch.tanh(6 * (even - self.level))
        )
        return lines.clamp(0, 1)[..., None].expand(-1, -1, 3).contiguous()


#: COCO's 17 joints -> OpenPose's limbs: (joint, joint, colour); -1 is the neck, between the shoulders.
LIMBS: tuple[tuple[int, int, tuple[int, int, int]], ...] = (
    (-1, 6, (255, 0, 0)),
    (-1, 5, (255, 85, 0)),
    (6, 8, (255, 170, 0)),
    (8, 10, (255, 255, 0)),
    (5, 7, (170, 255, 0)),
    (7, 9, (85, 255, 0)),
    (-1, 12, (0, 255, 0)),
    (12, 14, (0, 255, 85)),
    (14, 16, (0, 255, 170)),
    (-1, 11, (0, 255, 255)),
    (11, 13, (0, 170, 255)),
    (13, 15, (0, 85, 255)),
    (-1, 0, (0, 0, 255)),
)


@dataclass(frozen=True, eq=False)
class PoseAnnotator:
    """base.Annotator of skeletons: people by a detector, their joints by a ViTPose of transformers."""

    model: Any
    people: Source
    settings: DetectSettings = field(default_factory=DetectSettings)
    least: float = 0.3

    @classmethod
    def load(cls, folder: Path, people: Source, device: str = "cpu") -> PoseAnnotator:
        """From a local folder."""
        return cls(_loaded(Path(folder), "VitPoseForPoseEstimation", "pose estimator", device), people)

    @torch.inference_mode()
    def annotate(self, picture: Tensor) -> Tensor:
        boxes = self.people.detect(picture[None], [Phrase("person", "person")], self.settings)[0].boxes
        if not len(boxes):
            raise NoCandidate("there is nobody in the picture whose pose could be drawn.")
        out = torch.zeros_like(picture)
        for box in boxes.tolist():
            joints, sure = self._joints(picture, box)
            out = skeleton(out, joints, sure >= self.least)
        return out

    def _joints(self, picture: Tensor, box: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Joints [17,2] as (x, y) in pixels, and how sure each is [17]."""
        height, width = 256, 192
        left, top, right, bottom = box
        tall = 1.25 * max(bottom - top, (right - left) * height / width)
        wide = tall * width / height
        x0, y0 = (left + right - wide) / 2, (top + bottom - tall) / 2
        columns = x0 + (torch.arange(width) + 0.5) / width * wide
        rows = y0 + (torch.arange(height) + 0.5) / height * tall
        at = torch.stack(
            [
                (columns / picture.shape[1] * 2 - 1).expand(height, width),
                (rows / picture.shape[0] * 2 - 1)[:, None].expand(height, width),
            ],
            dim=-1,
        )
        crop = F.grid_sample(picture.movedim(-1, 0)[None], at[None], align_corners=False)
        parameter = next(self.model.parameters())
        planes = Preparation(height, width)(crop.movedim(1, -1)).to(parameter.device, parameter.dtype)
        heat = self.model(pixel_values=planes).heatmaps[0].float().cpu()
        sure, place = heat.flatten(1).max(dim=1)
        y, x = place // heat.shape[2], place % heat.shape[2]
        joints = torch.stack(
            [x0 + (x + 0.5) / heat.shape[2] * wide, y0 + (y + 0.5) / heat.shape[1] * tall], dim=-1
        )
        return joints, sure


def skeleton(canvas: Tensor, joints: Tensor, seen: Tensor) -> Tensor:
    """A copy of [H,W,3] with the limbs between seen joints [17,2] of one person drawn in."""
    height, width = canvas.shape[:2]
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    radius = max(1.0, max(height, width) / 100)
    places = {-1: (joints[5] + joints[6]) / 2} | {k: joints[k] for k in range(len(joints))}
    there = {-1: bool(seen[5] and seen[6])} | {k: bool(seen[k]) for k in range(len(joints))}
    out = canvas.clone()
    for one, other, colour in LIMBS:
        if not (there[one] and there[other]):
            continue
        (ax, ay), (bx, by) = places[one].tolist(), places[other].tolist()
        dx, dy = bx - ax, by - ay
        square = max(dx * dx + dy * dy, 1e-6)
        along = (((columns - ax) * dx)[None] + ((rows - ay) * dy)[:, None]).div(square).clamp(0, 1)
        far = torch.hypot(columns[None] - ax - along * dx, rows[:, None] - ay - along * dy)
        weight = (radius + 0.5 - far).clamp(0, 1)[..., None]
        out = out + weight * (torch.tensor(colour, dtype=torch.float32) / 255 - out)
    return out
