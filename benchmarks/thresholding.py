"""How fast sequential edit thresholding is, beside NumPy and SciPy on the same machine in the same run.

    python -m emu_edit.benchmarks.thresholding [--json] [--quick] [--threads N] [--sides 1024] [--batches 8]

Each job is a batch of pictures of one size with an edit of an eighth of the area and a drift everywhere,
float32, alpha 0.03, sigma 2. A faint drift stays below alpha, as where an editor kept its hands off, and
whole tiles are settled by their largest difference; a strong one does not. The peer is the formula written
down with `numpy` and `scipy.ndimage.gaussian_filter`, float32 too. The two take turns. `ratio` is the peer's
best time over our best, `median_ratio` the median over the rounds of the peer's time over ours in the same
round, `cpu_ratio` the ratio of processor times over all threads (the peer has one); `load` is the machine's
load average before and after. The peer in double precision runs once, picture by picture, since a batch of
large ones would not fit into most machines (`float64_s`; `float64_ratio`: over our best). The masks are
compared with its: `differ` counts pixels that are decided otherwise, which only ties within rounding are.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..core.thresholding import ALPHA, SIGMA, sequential_threshold
from .masks import Stopwatch, load_average, median_ratio

# Side, batch, and how far the drift goes: below alpha, or above it here and there in every corner.
SIZES = ((1024, 1), (1024, 8), (4096, 1), (4096, 8))
JOBS = tuple((*size, drift) for drift in ("faint", "strong") for size in SIZES)
QUICK = ((256, 1, "faint"), (256, 2, "strong"))
DRIFTS = {"faint": 0.01, "strong": 0.06}


def pictures(side: int, batch: int, drift: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth random pictures and an edit of each, [batch,side,side,3]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 17, 17, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    before = smooth.movedim(1, -1).contiguous()
    noise = torch.rand(1, side, side, 3, generator=generator)
    after = before.lerp(noise, DRIFTS[drift])
    top, left, size = side // 3, side // 4, int(side * 0.354)
    after[:, top : top + size, left : left + size] = 1 - after[:, top : top + size, left : left + size]
    return before, after


def reference(
    before: np.ndarray, after: np.ndarray, dtype: type = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """The paper's rule with NumPy and SciPy."""
    from scipy import ndimage

    distance = np.abs(after.astype(dtype, copy=False) - before.astype(dtype, copy=False)).mean(axis=-1)
    smooth = np.stack([ndimage.gaussian_filter(plane, SIGMA, mode="reflect") for plane in distance])
    changed = smooth >= ALPHA
    return np.where(changed[..., None], after, before), changed.astype(np.float32)


def measure(side: int, batch: int, drift: str, repeats: int) -> dict[str, Any]:
    """One job's record."""
    before, after = pictures(side, batch, drift)
    arrays = before.numpy(), after.numpy()
    own = Stopwatch(lambda: sequential_threshold(before, after))
    peer = Stopwatch(lambda: reference(*arrays))
    for _ in range(repeats):
        for way in (peer, own):
            way.run()
    mask = own.result[1].numpy()
    double, differ = 0.0, 0
    for index in range(batch):
        one = slice(index, index + 1)
        started = time.perf_counter()
        exact = reference(arrays[0][one], arrays[1][one], np.float64)[1]
        double += time.perf_counter() - started
        differ += int((mask[index] != exact[0]).sum())
    return {
        "side": side,
        "batch": batch,
        "drift": drift,
        "ours_s": own.wall,
        "numpy_scipy_s": peer.wall,
        "float64_s": double,
        "ratio": peer.wall / own.wall,
        "median_ratio": median_ratio(peer.walls, own.walls),
        "cpu_ratio": peer.cpu / own.cpu,
        "float64_ratio": double / own.wall,
        "differ": differ,
        "changed": float(mask.mean()),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="thresholding", description="Thresholding against NumPy and SciPy.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="small pictures, to see that it runs")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of ours (default 2)")
    parser.add_argument("--sides", type=int, nargs="+", metavar="PX", help="only pictures of these sides")
    parser.add_argument("--batches", type=int, nargs="+", metavar="B", help="only batches of these sizes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {}
    load = load_average()
    for side, batch, drift in QUICK if options.quick else JOBS:
        if side not in (options.sides or [side]) or batch not in (options.batches or [batch]):
            continue
        record = measure(side, batch, drift, repeats=7 if side * side * batch < 3e7 else 3)
        results[f"{side}x{side} batch {batch}, {drift} drift"] = record
        if not options.json:
            print(
                f"{side:5} px, batch {batch}, {drift} drift: ours {record['ours_s']:.4f} s, numpy+scipy "
                f"{record['numpy_scipy_s']:.4f} s, {record['ratio']:.1f} times as fast "
                f"(median {record['median_ratio']:.1f}, processor time {record['cpu_ratio']:.1f}, "
                f"against float64 {record['float64_ratio']:.1f}); {record['differ']} pixels differ",
                flush=True,
            )
    if options.json:
        report = {
            "benchmark": "thresholding",
            "peer": "numpy + scipy.ndimage.gaussian_filter, float32",
            "threads": options.threads,
            "how": "in turns; ratio: best time over best time; median_ratio: median over the rounds",
            "load": [load, load_average()],
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "ratios": {name: record["ratio"] for name, record in results.items()},
            "results": results,
        }
        print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
