"""The editor that a run has made, as a folder that nodes and the command load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ...core.checkpoints import save_editor
from ...core.errors import EmuEditError
from .checkpoint import newest_checkpoint
from .config import TrainConfig, from_values
from .model import Trainee, load_base

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def export(run: Path, out: Path, precision: str, base: str = "") -> int:
    """Write the averaged weights (or the weights, where none are averaged) of the newest checkpoint of `run`.

    One process, no accelerator: it works beside a running training and for runs that were spread over many
    GPUs. Returns the step. `base` is where the run's base lies now, if it was moved.
    """
    found = newest_checkpoint(run / "checkpoints")
    if found is None:
        raise EmuEditError(f"--run {run} holds no checkpoint yet; train first.")
    config: TrainConfig = from_values(found.state["config"], str(found.folder))
    editor = load_base(replace(config, base=base or config.base))
    trainee = Trainee(editor)
    parameters = dict(trainee.named_parameters())
    with found.tensors("ema" if found.has("ema") else "trainee") as file, torch.no_grad():
        if set(file.keys()) != set(parameters):
            raise EmuEditError(
                f"{found.folder} belongs to another base than {config.base}; give it with --base."
            )
        for name, parameter in parameters.items():
            parameter.copy_(file.get_tensor(name))
    editor.name = out.name
    save_editor(editor, out, TYPES[precision])
    return found.step
