"""Train the bundled editor and the text-to-image base within it, or go on from where that was stopped.

    python -m emu_edit.training.small.train --run runs/small --minutes 60

Stop it at any time; the same command goes on. (Only the reading of a new run, some twenty minutes before the
first picture, then begins anew: see reading.py.) `--export runs/editor` writes the editor that nodes load,
and the base beside it, in runs/editor_base.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...core.checkpoints import load_editor, save_editor
from ...core.devices import usable_device
from ...core.editor_folder import check_destination
from ...core.errors import EmuEditError
from ...core.locks import only_one
from ..arguments import above_zero, at_least
from .base import base_of, picture_loss
from .data import Pairs, Pictures, batches
from .edits import TASK_WEIGHTS
from .journal import Journal, asked_to_stop
from .muon import Muon, split_parameters
from .objective import Trainee, batch_loss
from .recipe import Recipe
from .start import check_recipe, first_editor
from .state import load_state, save_state
from .stored import StoredPairs

ENDLESS = 10**9


def main(arguments: list[str] | None = None) -> int:
    """The command; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", type=Path, default=Path("runs/small"), help="folder of the run's state and log"
    )
    parser.add_argument(
        "--size", type=at_least(1), default=128, help="side of the training pictures in pixels"
    )
    parser.add_argument("--samples", type=at_least(1), help="stop when this many samples were seen in all")
    parser.add_argument(
        "--minutes",
        type=above_zero,
        default=1e9,
        help="stop after this long in this sitting; a new run's reading is not counted",
    )
    parser.add_argument("--rate", type=above_zero, help="learning rate instead of the recipe's")
    parser.add_argument(
        "--anneal",
        type=at_least(0),
        default=0,
        metavar="N",
        help="lower the rate to zero over the last N of --samples",
    )
    parser.add_argument("--from", dest="start", type=Path, help="begin a new run with this editor's weights")
    parser.add_argument(
        "--export",
        type=Path,
        help="write the averaged weights at the end: the editor here, the base beside it",
    )
    parser.add_argument("--threads", type=at_least(1), help="CPU threads")
    parser.add_argument("--workers", type=at_least(0), default=1, help="processes that draw pictures")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, or auto")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of the arithmetic; weights stay in fp32. bf16 is faster where the processor multiplies in it "
        "(AVX-512 BF16, AMX, recent GPUs)",
    )
    parser.add_argument(
        "--first-sample",
        type=at_least(0),
        default=0,
        help="where in the stream of pairs a new run begins; go past what --from has seen",
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        metavar="DIR",
        help="train on the pairs of training.build_pairs, not on the world",
    )
    parser.add_argument(
        "--redrawn", action="store_true", help="with --pairs: the same jobs as the world draws them, exactly"
    )
    parser.add_argument(
        "--pictures-every",
        type=at_least(0),
        metavar="N",
        help="every N-th batch trains the base; 0: none does",
    )
    chosen = parser.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    recipe = Recipe() if chosen.rate is None else replace(Recipe(), rate=chosen.rate)
    if chosen.pictures_every is not None:
        recipe = replace(recipe, pictures_every=chosen.pictures_every)
    multiple = recipe.patch * 2 ** (len(recipe.channels) - 1)
    try:
        chosen.device = usable_device(chosen.device)
        if chosen.anneal and chosen.samples is None:
            raise EmuEditError(
                "training: --anneal lowers the rate towards the last sample; say with --samples which it is."
            )
        chosen.samples = chosen.samples or ENDLESS
        if chosen.size % multiple:
            raise EmuEditError(f"training: --size {chosen.size} is no multiple of {multiple}; give one.")
        if chosen.export is not None:  # now, not after hours
            check_destination(chosen.export)
            check_destination(_beside(chosen.export))
        with only_one(chosen.run, "training"):
            train(recipe, chosen)
    except EmuEditError as slip:
        print(slip, file=sys.stderr)
        return 1
    return 0


def train(recipe: Recipe, chosen: argparse.Namespace) -> None:
    """One sitting. The counters alone decide what is seen next, so a resumed run repeats nothing.

    Raises EmuEditError when the loss is no number; the state last saved stays.
    """
    pairs = _pairs(recipe, chosen)
    chosen.run.mkdir(parents=True, exist_ok=True)
    state_file = chosen.run / "state.safetensors"
    folder = chosen.run / "start"
    if (folder / "model_index.json").is_file():
        if chosen.start is not None:
            print(f"{chosen.run} goes on from its own state; --from is for a new run.", flush=True)
    else:
        with asked_to_stop() as stop:
            first = first_editor(recipe, chosen.start, chosen.workers, stop.is_set)
            if stop.is_set():
                raise EmuEditError("training: stopped before the first picture; start it again.")
        save_editor(first, folder)
    editor = load_editor(folder, chosen.device)
    check_recipe(editor, recipe, chosen.run)
    editor.unet.to(memory_format=torch.channels_last)
    if editor.device.type == "cpu":  # where the backward pass of fused attention is slow at these sizes
        editor.unet.set_default_attn_processor()
    trainee = Trainee(editor, recipe, bf16=chosen.precision == "bf16").train()
    trainee.to(chosen.device)
    hidden, rest = split_parameters(trainee)
    optimisers = [
        torch.optim.AdamW(
            rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
        ),
        Muon(hidden, recipe.rate * recipe.matrix_rate, weight_decay=recipe.weight_decay),
    ]
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    ema = {name: value.detach().clone() for name, value in trainee.state_dict().items()}
    progress: dict[str, Any] = {"samples": 0, "steps": 0, "pair": chosen.first_sample, "picture": 0}
    if state_file.is_file():
        progress = load_state(state_file, trainee, ema, optimisers)
    _keep_to(pairs, progress, chosen.run)
    shown: dict[str, Pairs | Pictures | StoredPairs] = {"pair": pairs}
    if recipe.pictures_every:
        shown["picture"] = Pictures(recipe.world_seed, chosen.size, layouts=True)
    streams = {
        kind: batches(samples, progress[kind], recipe.batch, chosen.workers)
        for kind, samples in shown.items()
    }
    journal = Journal(chosen.run / "log.jsonl", chosen.size)
    began = saved = time.monotonic()
    with asked_to_stop() as stop:
        while (
            not stop.is_set()
            and progress["samples"] < chosen.samples
            and time.monotonic() - began < 60 * chosen.minutes
        ):
            generator = torch.Generator().manual_seed(recipe.world_seed * 1_000_003 + progress["steps"])
            every = recipe.pictures_every
            kind = "picture" if every and (progress["steps"] + 1) % every == 0 else "pair"
            batch, measured = next(streams[kind]), batch_loss if kind == "pair" else picture_loss
            loss, seen = measured(trainee, editor, batch, recipe, generator)
            if not torch.isfinite(loss):
                raise EmuEditError(
                    f"training: the loss is {float(loss.detach())} at sample {progress['samples']}; the "
                    f"state saved last is kept in {state_file}; go on with a --rate below {recipe.rate}."
                )
            trainee.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainee.parameters(), recipe.clip)
            factor = _rate_factor(recipe, progress, chosen)
            for optimiser, rate in zip(optimisers, rates, strict=True):
                optimiser.param_groups[0]["lr"] = rate * factor
                optimiser.step()
            progress["steps"] += 1
            progress["samples"] += recipe.batch
            progress[kind] += recipe.batch
            _average(ema, trainee, min(recipe.ema, (1 + progress["steps"]) / (10 + progress["steps"])))
            tasks = batch.get("task", ["picture"] * recipe.batch)
            journal.note(float(loss.detach()), seen, tasks, seen["t"] == recipe.train_steps - 1)
            journal.speak(progress)
            if time.monotonic() - saved > 300:
                save_state(state_file, trainee, ema, optimisers, progress)
                saved = time.monotonic()
    save_state(state_file, trainee, ema, optimisers, progress)
    if chosen.export:
        trainee.load_state_dict(ema)
        save_editor(editor, chosen.export, dtype=torch.float16)
        if recipe.pictures_every:
            save_editor(base_of(editor, recipe), _beside(chosen.export), dtype=torch.float16)


def _beside(export: Path) -> Path:
    """Where the base goes when the editor goes to `export`."""
    return export.with_name(export.name + "_base")


def _pairs(recipe: Recipe, chosen: argparse.Namespace) -> Pairs | StoredPairs:
    """What is learnt from: the world's endless pairs, or those of a folder."""
    folder, redrawn = getattr(chosen, "pairs", None), getattr(chosen, "redrawn", False)
    if folder is not None:
        return StoredPairs(folder, chosen.size, recipe.world_seed, redrawn)
    if redrawn:
        raise EmuEditError("training: --redrawn needs --pairs, the folder whose jobs are redrawn.")
    return Pairs(recipe.world_seed, chosen.size, weights=TASK_WEIGHTS, layouts=True)


def _keep_to(pairs: Pairs | StoredPairs, progress: dict[str, Any], run: Path) -> None:
    """A run keeps to the pairs that it began with, or it would not be what it says."""
    identity = pairs.identity() if isinstance(pairs, StoredPairs) else None
    if progress["steps"] and progress.get("pairs") != identity:
        raise EmuEditError(
            f"training: {run} was begun with other pairs than these; give the same --pairs and --redrawn, or "
            "another --run with --from."
        )
    if identity is not None:
        progress["pairs"] = identity


def _rate_factor(recipe: Recipe, progress: dict[str, Any], chosen: argparse.Namespace) -> float:
    rise = min(1.0, (progress["steps"] + 1) / recipe.warm_up)
    left = chosen.samples - progress["samples"]
    return rise * (min(1.0, left / chosen.anneal) if chosen.anneal else 1.0)


@torch.no_grad()
def _average(ema: dict[str, torch.Tensor], trainee: torch.nn.Module, keep: float) -> None:
    now = trainee.state_dict()
    names = [name for name, value in now.items() if value.is_floating_point()]
    torch._foreach_lerp_([ema[name] for name in names], [now[name] for name in names], 1 - keep)


if __name__ == "__main__":
    sys.exit(main())
