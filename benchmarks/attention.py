"""Attention control without maps beside the same with every map in memory, on this machine in one run.

    python -m emu_edit.benchmarks.attention [--json] [--quick] [--threads N] [--unet-tokens N ...]

By number of tokens (latent cells), float32, random numbers:
self_time_ratio    the peer's time over ours for self-attention injection into one pair under guidance (four
                   rows, 8 heads of width 40, as the largest layers of Stable Diffusion 1.5)
self_memory_ratio  the peer's extra memory over ours for the same: the peak of what torch's allocator holds
                   beyond queries, keys and values, the result included, from its profiler's record
unet_overhead      time of a whole U-Net step with self- and cross-attention injected in every layer over that
                   of the uncontrolled step of the same batch (Stable Diffusion 1.5 at a quarter of its width)
max_error          the largest absolute difference between our self-attention and the peer's

The peer computes softmax(q k^T), overwrites the target's map, and multiplies with the values; each of its
maps is freed as soon as it can be. Contestants take turns and the best time of each counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.attention.algebra import inject_self
from ..core.attention.alignment import refinement_tables
from ..core.attention.control import Loan, PairPlan, control_at
from ..core.attention.hook import attached
from ..core.packages import need_class

TOKENS, QUICK = (256, 1024, 4096), (64, 256)
UNET_TOKENS = (1024, 4096)
ROWS, HEADS, WIDTH, WORDS = 4, 8, 40, 77


def peer(q: Tensor, k: Tensor, v: Tensor, source: int, target: int, scale: float) -> Tensor:
    """Self-attention injection by way of the maps."""
    maps = torch.matmul(q, k.transpose(-1, -2)).mul_(scale).softmax(dim=-1)
    maps[target] = maps[source]
    return torch.matmul(maps, v)


def peak_memory(work: Callable[[], Any]) -> int:
    """The most bytes that torch's CPU allocator held at once during `work`, beyond what it held before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as record:
        kept = work()
    del kept
    with tempfile.TemporaryDirectory() as folder:
        record.export_chrome_trace(str(Path(folder) / "trace.json"))
        trace = json.loads((Path(folder) / "trace.json").read_text())
    held = peak = 0
    for event in sorted(
        (e for e in trace["traceEvents"] if e.get("name") == "[memory]"), key=lambda e: float(e["ts"])
    ):
        held += int(event["args"]["Bytes"])
        peak = max(peak, held)
    return peak


def best_times(contestants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Seconds of each, the best of `repeats` turns after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, work in contestants.items():
            started = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: min(found) for name, found in times.items()}


def measure_self(tokens: int, repeats: int) -> dict[str, float]:
    """One layer's record."""
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = (torch.randn(ROWS, tokens, HEADS, WIDTH, generator=generator).transpose(1, 2) for _ in range(3))
    scale = WIDTH**-0.5

    def ours() -> Tensor:
        return inject_self(q, k, v, [0], [1], scale)

    def theirs() -> Tensor:
        return peer(q, k, v, 0, 1, scale)

    error = float((ours() - theirs()).abs().max())
    times = best_times({"ours": ours, "peer": theirs}, repeats)
    memory = {"ours": peak_memory(ours), "peer": peak_memory(theirs)}
    return {
        "ours_s": times["ours"],
        "maps_s": times["peer"],
        "time_ratio": times["peer"] / times["ours"],
        "ours_bytes": memory["ours"],
        "maps_bytes": memory["peer"],
        "memory_ratio": memory["peer"] / memory["ours"],
        "max_error": error,
    }


def make_unet(channels: Sequence[int]) -> Any:
    """A random U-Net of Stable Diffusion 1.5's layers."""
    unet: Any = need_class("diffusers", "UNet2DConditionModel", "to measure a whole step")
    torch.manual_seed(0)
    made = unet(
        sample_size=64,
        block_out_channels=tuple(channels),
        norm_num_groups=16,
        attention_head_dim=8,
        cross_attention_dim=4 * channels[0],
    )
    return made.eval()


def measure_unet(unet: Any, tokens: int, repeats: int) -> dict[str, float]:
    """A whole step of one pair under guidance, controlled and not."""
    side = round(tokens**0.5)
    generator = torch.Generator().manual_seed(tokens)
    latents = torch.randn(ROWS, 4, side, side, generator=generator)
    text = torch.randn(ROWS, WORDS, unet.config.cross_attention_dim, generator=generator)
    # Captions of eight words, one of them exchanged for two.
    mapper, common = refinement_tables(
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 10, 11, 4, 5, 6, 7, 8, 9], WORDS
    )
    plan = PairPlan(self_steps=(0, 1), alphas=torch.ones(1, WORDS), mapper=mapper, common=common)
    control = control_at(0, [plan], [Loan(0, 0, 1)])

    def plain() -> None:
        unet(latents, 500, encoder_hidden_states=text)

    def controlled() -> None:
        with attached(unet, control, (side, side)):
            unet(latents, 500, encoder_hidden_states=text)

    times = best_times({"plain": plain, "controlled": controlled}, repeats)
    return {
        "plain_s": times["plain"],
        "controlled_s": times["controlled"],
        "overhead": times["controlled"] / times["plain"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="attention", description="Attention control against explicit maps.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="few tokens, to see that it runs")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads (default 2)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of each (default 5)")
    parser.add_argument(
        "--unet-tokens", type=int, nargs="*", metavar="N", help="square numbers of latent cells"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    wanted = QUICK if options.quick else TOKENS
    steps = (
        options.unet_tokens if options.unet_tokens is not None else (QUICK if options.quick else UNET_TOKENS)
    )
    layers: dict[str, dict[str, float]] = {}
    whole: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        for tokens in wanted:
            found = layers[str(tokens)] = measure_self(tokens, options.repeats)
            if not options.json:
                print(
                    f"self-attention, {tokens:5} tokens: {found['time_ratio']:.1f} times as fast as maps, "
                    f"{found['memory_ratio']:.0f} times less memory, error {found['max_error']:.1e}",
                    flush=True,
                )
        unet = make_unet((32, 32, 32, 32) if options.quick else (80, 160, 320, 320)) if steps else None
        for tokens in steps:
            found = whole[str(tokens)] = measure_unet(unet, tokens, options.repeats)
            if not options.json:
                print(
                    f"U-Net step, {tokens:5} tokens: {found['overhead']:.2f} times the uncontrolled step",
                    flush=True,
                )
    if options.json:
        report = {
            "benchmark": "attention",
            "peer": "softmax(q k^T) in memory, the target's map overwritten",
            "threads": options.threads,
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "self_time_ratio": {tokens: found["time_ratio"] for tokens, found in layers.items()},
            "self_memory_ratio": {tokens: found["memory_ratio"] for tokens, found in layers.items()},
            "unet_overhead": {tokens: found["overhead"] for tokens, found in whole.items()},
            "max_error": {tokens: found["max_error"] for tokens, found in layers.items()},
            "results": {"self": layers, "unet": whole},
        }
        print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
