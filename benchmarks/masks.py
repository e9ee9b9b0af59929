"""How fast masks grow and blur, beside OpenCV on the same machine in the same run, and whether both agree.

    python -m emu_edit.benchmarks.masks [--json] [--quick] [--threads N]

Each job grows a black and white mask by a disc, or grows it and then blurs it by a Gaussian of the same size.
The peer is the direct way with OpenCV: cv2.dilate with the same disc as its kernel, then cv2.GaussianBlur.
Both start from bytes (our bools, OpenCV's uint8, its fastest type); our blur returns floats, OpenCV's bytes.
The two take turns. `ratio` is OpenCV's best time over our best: above 1 we are faster. `median_ratio` is the
median over the rounds of OpenCV's time over ours in the same round, which a program that takes a core away
for some of the time moves less. `cpu_ratio` compares processor time over all threads. `float_ratio` is the
ratio for masks in float32 in and out, as ComfyUI passes them, OpenCV still on bytes. `load` is the machine's
load average before and after: above 0 before, other programs were running.

The outputs are compared: dilations must be equal pixel for pixel, and both blurs are held against
scipy.ndimage.gaussian_filter in double precision on a smaller picture (`error_ours`, `error_opencv`, as
fractions of white), because neither is exact.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..core.errors import EmuEditError
from ..core.masks.blur import gaussian_blur
from ..core.masks.morphology import dilate, disc
from ..core.masks.soft_mask import soft_mask

# (picture's side, radius and sigma, whether it is blurred too)
JOBS = ((1024, 16, False), (1024, 16, True), (1024, 64, True), (4096, 16, True), (4096, 64, True))
QUICK = ((256, 8, False), (256, 16, True))
CHECKED_SIDE = 512  # scipy's own direct way takes minutes on large pictures


def example_mask(side: int) -> np.ndarray:
    """A mask like a segmenter's, uint8 [side,side] of 0 and 255: some blobs, a frame's edge, a few specks."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    mask = np.zeros((side, side), bool)
    for _ in range(6):
        cx, cy, rx, ry = random.uniform((0.1, 0.1, 0.02, 0.02), (0.9, 0.9, 0.12, 0.12))
        mask |= ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    mask[:, : side // 50] = True
    specks = random.integers(0, side, (12, 2))
    mask[specks[:, 0], specks[:, 1]] = True
    return mask.astype(np.uint8) * 255


def kernel_of(radius: int) -> np.ndarray:
    """Our disc as a structuring element for OpenCV, uint8 [2r+1,2r+1]."""
    widths = disc(radius)
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.uint8)
    for dy in range(-radius, radius + 1):
        half = widths[abs(dy)]
        kernel[radius + dy, radius - half : radius + half + 1] = 1
    return kernel


class Stopwatch:
    """The wall and processor times of a call that is repeated, in seconds."""

    def __init__(self, call: Callable[[], Any]):
        self._call = call
        self.walls: list[float] = []
        self.cpus: list[float] = []
        self.result: Any = None

    def run(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.result = self._call()
        self.cpus.append(time.process_time() - cpu)
        self.walls.append(time.perf_counter() - wall)

    @property
    def wall(self) -> float:
        """The best."""
        return min(self.walls)

    @property
    def cpu(self) -> float:
        """The best."""
        return min(self.cpus)


def median_ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """The median over the rounds of how many times as long the others took."""
    return statistics.median(peer / own for peer, own in zip(theirs, ours, strict=True))


def load_average() -> float | None:
    """Of the last minute, programs that want a core; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def blur_errors(radius: int, cv2: Any) -> tuple[float, float]:
    """Largest errors of our and of OpenCV's blur against scipy in double precision, 1 = white."""
    from scipy import ndimage

    mask = example_mask(CHECKED_SIDE)
    exact = ndimage.gaussian_filter((mask > 0).astype(np.float64), radius, mode="reflect")
    ours = gaussian_blur(torch.from_numpy(mask > 0).float(), radius).double().numpy()
    theirs = cv2.GaussianBlur(mask, (0, 0), radius, borderType=cv2.BORDER_REFLECT) / 255.0
    return float(np.abs(ours - exact).max()), float(np.abs(theirs - exact).max())


def run_job(side: int, radius: int, blurred: bool, repeats: int, cv2: Any) -> dict[str, Any]:
    """All ways in turn, `repeats` times; a record with times, ratios and agreement."""
    mask = example_mask(side)
    white, kernel = torch.from_numpy(mask > 0), kernel_of(radius)
    floats = white.float()[None]

    def ours() -> tuple[torch.Tensor, torch.Tensor | None]:
        grown = dilate(white, radius)
        return grown, gaussian_blur(grown, radius) if blurred else None

    def ours_on_floats() -> torch.Tensor:
        return soft_mask(floats, radius, radius) if blurred else dilate(floats, radius)

    def theirs() -> tuple[np.ndarray, np.ndarray | None]:
        grown = cv2.dilate(mask, kernel)
        if not blurred:
            return grown, None
        return grown, cv2.GaussianBlur(grown, (0, 0), radius, borderType=cv2.BORDER_REFLECT)

    own, own_floats, peer = Stopwatch(ours), Stopwatch(ours_on_floats), Stopwatch(theirs)
    for _ in range(repeats):
        for way in (peer, own, own_floats):
            way.run()
    record = {
        "side": side, "radius": radius, "sigma": radius if blurred else 0,
        "ours_s": round(own.wall, 5), "opencv_s": round(peer.wall, 5),
        "ratio": round(peer.wall / own.wall, 2),
        "median_ratio": round(median_ratio(peer.walls, own.walls), 2),
        "float_ratio": round(peer.wall / own_floats.wall, 2),
        "cpu_ratio": round(peer.cpu / own.cpu, 2),
        "dilation_equal": bool(np.array_equal(own.result[0].numpy(), peer.result[0] > 0)),
    }  # fmt: skip
    if blurred:
        difference = np.abs(own.result[1].numpy() - peer.result[1] / 255.0).max()
        record["blur_difference"] = round(float(difference), 5)
        record["error_ours"], record["error_opencv"] = (round(e, 6) for e in blur_errors(radius, cv2))
    return record


def run(jobs: tuple[tuple[int, int, bool], ...] = JOBS, threads: int = 2, repeats: int = 5) -> dict[str, Any]:
    """All jobs on `threads` threads for both libraries; the report that --json prints."""
    try:
        import cv2
        import scipy
    except ImportError as problem:
        raise EmuEditError(
            f"the peer of this benchmark could not be imported ({problem}); "
            "run: pip install opencv-python-headless scipy"
        ) from problem
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    dilate(torch.zeros(64, 64, dtype=torch.bool), 2.0)  # both libraries wake up
    cv2.dilate(np.zeros((64, 64), np.uint8), kernel_of(2))
    report: dict[str, Any] = {
        "peer": "opencv-python-headless: cv2.dilate with the same disc, then cv2.GaussianBlur, on uint8",
        "versions": {"opencv": cv2.__version__, "torch": torch.__version__, "scipy": scipy.__version__},
        "machine": platform.machine(), "threads": threads, "repeats": repeats,
        "how": "in turns; ratio: best time over best time; median_ratio: median over the rounds",
        "load": [load_average()], "ratios": {}, "jobs": {},
    }  # fmt: skip
    for side, radius, blurred in jobs:
        name = f"{side}x{side} dilate r={radius}" + (f" + blur sigma={radius}" if blurred else "")
        record = run_job(side, radius, blurred, repeats * (4 if side < 2048 and radius < 64 else 1), cv2)
        report["ratios"][name] = record["ratio"]
        report["jobs"][name] = record
    report["load"].append(load_average())
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="masks", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--quick", action="store_true", help="two small jobs, to see that it runs")
    parser.add_argument("--threads", type=int, default=2, help="threads for both libraries (default 2)")
    chosen = parser.parse_args(arguments)
    if chosen.threads < 1:
        parser.error(f"--threads must be 1 or more, got {chosen.threads}")
    try:
        report = run(QUICK if chosen.quick else JOBS, chosen.threads)
    except EmuEditError as slip:
        print(slip, file=sys.stderr)
        return 1
    if chosen.json:
        print(json.dumps(report, indent=1))
        return 0
    print(f"peer: {report['peer']}")
    for name, record in report["jobs"].items():
        print(
            f"{name:40} ours {record['ours_s']:8.3f} s  OpenCV {record['opencv_s']:8.3f} s  "
            f"{record['ratio']:6.1f} times as fast (median {record['median_ratio']:.1f}, "
            f"processor time {record['cpu_ratio']:.1f}, "
            f"on floats {record['float_ratio']:.1f}), "
            f"dilations {'equal' if record['dilation_equal'] else 'DIFFER'}"
            + (f", blur within {record['error_ours'] * 512:.2f}/512" if "error_ours" in record else "")
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
