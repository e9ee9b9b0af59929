"""Structure kept: the L1 distance of the depth maps of source and target (Emu Edit, section on filtering).

Estimators tell relative depth, up to scale and shift, so the target's map is first fitted to the source's by
least squares (Ranftl et al., "Towards robust monocular depth estimation", TPAMI 2022), and the distance is
told as a share of the source's range. Where an edit may change shapes, it is taken outside its mask. The
estimator, the threshold and the tasks are not told by the paper: these are ours. Weather, hour and style
change what an estimator sees, and maps are no photographs, so those tasks are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..records import Candidate
from .base import Finding, at_most, batches, check_share, not_run, unconcerned

OUTSIDE = ("local", "remove", "add", "background")
WHOLE = ("texture", "text", "color")
FLAT = 1e-9  # a range below this share of the values is rounding
LEAST_SEEN = 0.02  # share of the picture that must lie outside the mask to compare anything


class DepthEstimator(Protocol):
    """Depth, near or far bright, [B,h,w] of pictures [B,H,W,3] in 0..1; h, w may be others.

    An estimator of distances in metres, large where far, has an attribute `metric = True`; any other's values
    are relative and grow towards the viewer, wherever that matters (it does not to the filter below).
    """

    @property
    def name(self) -> str: ...

    def depth(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DepthFilter:
    """The distance, as a share of the source's depth range, at most `most`."""

    estimator: DepthEstimator
    most: float = 0.1
    name = "depth"

    def __post_init__(self) -> None:
        check_share("the depth difference", self.most)

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        findings = [unconcerned(self.name, one.task) for one in candidates]
        concerned = [one.task in (*OUTSIDE, *WHOLE) for one in candidates]
        for places, source, target in batches(candidates, concerned):
            near, far = (self.estimator.depth(pictures).cpu().double() for pictures in (source, target))
            for row, place in enumerate(places):
                one = candidates[place]
                mask = one.mask if one.task in OUTSIDE else None
                weights = torch.ones_like(near[row])
                if mask is not None:
                    sized = torch.nn.functional.interpolate(
                        mask[None, None].cpu().double(), near.shape[1:], mode="area"
                    )
                    weights = 1 - sized[0, 0].clamp(0, 1)
                if float(weights.mean()) < LEAST_SEEN:
                    findings[place] = not_run(self.name, "the mask leaves nothing to compare")
                    continue
                value = depth_distance(near[row], far[row], weights)
                told = "the depth maps differ: the structure was not kept"
                findings[place] = Finding((at_most(self.name, value, self.most, told),))
        return findings


def depth_distance(source: Tensor, target: Tensor, weights: Tensor) -> float:
    """Weighted L1 of depth maps [h,w], the target's fitted to the source's by scale (not below 0) and shift,
    as a share of the source's range; 0 for equal maps, also for flat ones."""
    w = weights / weights.sum()
    mean_s, mean_t = (w * source).sum(), (w * target).sum()
    s, t = source - mean_s, target - mean_t
    spread = (w * t * t).sum()
    scale = ((w * s * t).sum() / spread).clamp_min(0) if spread > 0 else torch.zeros_like(spread)
    extent = source.max() - source.min()
    if (
        extent <= FLAT * source.abs().max()
    ):  # a flat source: any shape in the target is a change, told in the target's range
        extent = target.max() - target.min()
        if extent <= FLAT * target.abs().max():
            return 0.0
        return float((w * t.abs()).sum() / extent)
    return float((w * (s - scale * t).abs()).sum() / extent)
