"""The training loop: one step after another until the end, a signal, or a loss that is no number."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.errors import EmuEditError
from ..small.journal import asked_to_stop
from . import objective
from .optimise import set_rate
from .run import Run
from .shards import whole

Say = Callable[[str], None]


def train(run: Run, say: Say) -> None:
    """Train until `run` has taken all its steps, or until it is asked to stop; either way the state is saved.

    Raises EmuEditError when loss or gradient is no number (nothing of that step is applied), when no data is
    left that can be read, and when a checkpoint cannot be written. The checkpoints on disk stay whole.
    """
    config, accelerator = run.config, run.accelerator
    each = config.batch * config.accumulate
    batches = run.stream.batches(
        run.place, each, accelerator.process_index, accelerator.num_processes, config.workers
    )
    began = time.monotonic()
    saved = run.step
    with asked_to_stop() as stop, contextlib.closing(batches):
        while run.step < config.steps:
            started = time.monotonic()
            batch = next(batches)
            loss, by_task = _forward_backward(run, batch.items)
            late = config.minutes and started - began > 60 * config.minutes
            loss, stopping = _agreed(accelerator, loss, stop.is_set() or bool(late))
            norm = _apply(run, loss)
            run.place = batch.after
            facts = {
                "rate": run.rate,
                "epoch": run.place.epoch,
                "pairs": run.step * each * accelerator.num_processes,
                "skipped": len(run.skipped),
                "seconds": round(time.monotonic() - started, 3),
            }
            line = (
                run.journal.note(run.step, {"loss": loss, "norm": norm, **by_task}, facts)
                if run.journal
                else None
            )
            if line:
                say(f"step {run.step}/{config.steps}  loss {line['loss']:.4f}  rate {run.rate:.2e}")
            if run.step % config.save_every == 0 or run.step == config.steps or stopping:
                run.save()
                saved = run.step
            if config.samples_every and run.step % config.samples_every == 0:
                run.draw_samples()
            if stopping:
                break
    if saved != run.step:
        run.save()


def _forward_backward(run: Run, items: Sequence[Any]) -> tuple[float, dict[str, float]]:
    """Gradients of this process's pairs of one step; returns the mean loss and each task's mean error."""
    config, accelerator, editor = run.config, run.accelerator, run.editor
    first = (run.step * accelerator.num_processes + accelerator.process_index) * len(items)
    torch.manual_seed(config.seed * 1_000_003 + run.step)  # for models with dropout of their own
    total = 0.0
    by_task: dict[str, list[float]] = {}
    for start in range(0, len(items), config.batch):
        part = items[start : start + config.batch]
        image, x0, hidden = (value.to(accelerator.device) for value in run.encoder.batch(part))
        numbers = range(first + start, first + start + len(part))
        draws = objective.draw(numbers, x0.shape[1:], editor.schedule, config)
        tasks = run.tasks_of(part)
        rows = torch.tensor([run.task_row(task) for task in tasks], device=accelerator.device)
        no_image = draws.no_image.to(accelerator.device)[:, None, None, None]
        no_text = draws.no_text.to(accelerator.device)[:, None, None]
        image = torch.where(no_image, 0.0, image)
        hidden = torch.where(no_text, run.encoder.empty.to(hidden), hidden)
        scale = 1.0 if editor.image_condition_scale == "scaled" else editor.vae.config.scaling_factor
        target = objective.wanted(editor.schedule, editor.predicts, x0, image * scale, draws)
        z = editor.schedule.add_noise(x0, draws.noise.to(x0), draws.t)
        last = start + config.batch >= len(items)
        with contextlib.nullcontext() if last else accelerator.no_sync(run.model):
            with accelerator.autocast():
                prediction = run.model(z, draws.t.to(z.device), hidden, image, rows)
            error = objective.errors(prediction, target)
            loss = (error * run.weights[draws.t].to(error)).mean() * (len(part) / len(items))
            accelerator.backward(loss)
        total += float(loss.detach())
        for task, value in zip(tasks, error.detach().tolist(), strict=True):
            by_task.setdefault(f"error/{task or 'none'}", []).append(value)
    return total, {name: sum(values) / len(values) for name, values in by_task.items()}


def _agreed(accelerator: Any, loss: float, stop: bool) -> tuple[float, bool]:
    """The loss over all processes, and whether any of them was asked to stop."""
    if accelerator.num_processes == 1:
        return loss, stop
    both: Tensor = accelerator.reduce(
        torch.tensor([loss, float(stop)], device=accelerator.device), reduction="sum"
    )
    return float(both[0]) / accelerator.num_processes, bool(both[1] > 0)


def _apply(run: Run, loss: float) -> float:
    """Take the step, unless loss or gradient is no number; returns the gradient's norm."""
    accelerator, config = run.accelerator, run.config
    if not math.isfinite(loss):
        raise EmuEditError(_no_number(run, "loss", loss))
    norm = float(whole(accelerator.clip_grad_norm_(run.model.parameters(), config.clip or math.inf)))
    # In fp16 an overflow is part of the method: the scaler leaves the step out and lowers its scale.
    if not math.isfinite(norm) and accelerator.scaler is None:
        raise EmuEditError(_no_number(run, "norm of the gradient", norm))
    run.rate = set_rate(run.optimiser, run.step, config)
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    run.step += 1
    if run.average is not None:
        run.average.update(run.inner, run.step)
    return norm if math.isfinite(norm) else 0.0


def _no_number(run: Run, what: str, value: float) -> str:
    kept = (
        f"step {run.saved_step} is kept in {run.folder}"
        if run.saved_step is not None
        else "none was saved yet"
    )
    return (
        f"training: the {what} is {value} at step {run.step + 1}, and that step was not taken; of the "
        f"checkpoints {kept}, so go on with a --rate below {run.config.rate:g}, a smaller --clip or "
        "--precision fp32."
    )
