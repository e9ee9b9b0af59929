"""A baseline for the change mask: keypoints, optical flow and LAB colours, as public compositing nodes do it.

SIFT matches fit a homography (RANSAC), DIS optical flow aligns the rest, colours are matched by the mean and
deviation of each LAB channel, and a pixel has changed where the LAB difference, blurred, exceeds a threshold;
opening and closing clean the mask. Written anew from that description; needs OpenCV, which this pack does
not.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

DELTA = 10.0  # LAB units (0..255 each): a plainly visible difference


def baseline_mask(before: np.ndarray, after: np.ndarray, delta: float = DELTA) -> np.ndarray:
    """uint8 [H,W,3] twice -> bool [H,W], True = changed."""
    cv2 = import_module("cv2")  # its type stubs lack half of it
    height, width = before.shape[:2]
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (before, after)]
    matrix = _homography(cv2, *greys)
    if matrix is not None:
        after = cv2.warpPerspective(
            after, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        greys[1] = cv2.cvtColor(after, cv2.COLOR_RGB2GRAY)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*greys, None)
    # Only small residues are motion; a large flow is the edit, and following it would hide it.
    flow[np.linalg.norm(flow, axis=-1) > 3] = 0
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    after = cv2.remap(
        after, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    lab = [cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32) for picture in (before, after)]
    mean = [plane.mean(axis=(0, 1)) for plane in lab]
    spread = [plane.std(axis=(0, 1)) + 1e-6 for plane in lab]
    matched = (lab[1] - mean[1]) * (spread[0] / spread[1]) + mean[0]
    difference = cv2.GaussianBlur(np.linalg.norm(matched - lab[0], axis=-1), (0, 0), 2.0)
    mask = (difference > delta).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc), cv2.MORPH_CLOSE, disc)
    return mask.astype(bool)


def _homography(cv2: Any, before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """From `after` to `before`, or None with too few matches."""
    sift = cv2.SIFT_create(2000)
    points, features = zip(*(sift.detectAndCompute(grey, None) for grey in (before, after)), strict=True)
    if any(found is None or len(found) < 8 for found in features):
        return None
    pairs = cv2.BFMatcher().knnMatch(features[1], features[0], k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.75 * pair[1].distance]
    if len(good) < 8:
        return None
    source = np.array([points[1][match.queryIdx].pt for match in good], np.float32)
    target = np.array([points[0][match.trainIdx].pt for match in good], np.float32)
    matrix, _ = cv2.findHomography(source, target, cv2.RANSAC, 2.0)
    return matrix
