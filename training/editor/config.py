"""Everything a training run can be told, in one place: a dataclass, a JSON or YAML file, the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import EmuEditError
from ...core.packages import need
from ..data.sources import HELP as DATA_HELP


def _option(default: Any, help: str, choices: tuple[str, ...] = (), fixed: bool = False) -> Any:
    """A field with its help. A run that goes on must keep the `fixed` ones, or its state would not fit."""
    return field(default=default, metadata={"help": help, "choices": choices, "fixed": fixed})


@dataclass(frozen=True)
class TrainConfig:
    """See each field's help (`--help` prints it). Rates are per optimiser step, sizes in pixels."""

    base: str = _option(
        "", "text-to-image model or editor to start from: diffusers folder or .safetensors file"
    )
    tokenizer: str = _option("", "folder of the tokenizer, for a single file")
    run: str = _option("runs/editor", "folder of the run's checkpoints, log and samples")
    data: tuple[str, ...] = _option((), DATA_HELP)
    validation: tuple[str, ...] = _option(
        (), "data sets for the sample sheets (default: the first of --data)"
    )
    cache: str = _option(
        "", "folder for encoded pictures and texts: encode once, then train without the autoencoder"
    )
    size: int = _option(256, "side of the training pictures", fixed=True)
    window: int = _option(4096, "how many pairs are mixed at a time", fixed=True)
    steps: int = _option(48000, "optimiser steps in all (Emu Edit: 48000)")
    batch: int = _option(8, "pairs in a forward pass of one process")
    accumulate: int = _option(1, "forward passes to an optimiser step")
    rate: float = _option(2e-5, "learning rate (Emu Edit: 2e-5)")
    task_rate: float = _option(1.0, "learning rate of the task table, as a multiple")
    warm_up: int = _option(2000, "steps over which the rate rises (Emu Edit: 2000)")
    schedule: str = _option("cosine", "what the rate does after", ("cosine", "constant"))
    optimiser: str = _option(
        "adamw", "adafactor needs next to no memory of its own", ("adamw", "adafactor"), fixed=True
    )
    weight_decay: float = _option(0.01, "of matrices; biases, norms and the task table have none")
    clip: float = _option(1.0, "largest norm of the gradient; 0: no limit")
    precision: str = _option("fp32", "of the arithmetic; weights stay in fp32", ("fp32", "bf16", "fp16"))
    gradient_checkpointing: bool = _option(
        False, "recompute activations: less memory, about a third more time"
    )
    ema: float = _option(0.9999, "decay of the averaged weights that are exported; 0: none")
    prediction: str = _option(
        "keep", "what the network predicts", ("keep", "epsilon", "v_prediction"), fixed=True
    )
    weighting: str = _option("none", "weight of a timestep's loss", ("none", "min-snr"))
    gamma: float = _option(5.0, "of min-snr")
    zero_terminal_snr: bool = _option(
        False, "rescale the noise schedule so that it ends in pure noise", fixed=True
    )
    drop_text: float = _option(0.05, "share of pairs trained without their instruction alone")
    drop_both: float = _option(0.05, "share of pairs trained without instruction and picture")
    drop_image: float = _option(0.05, "share of pairs trained without their picture alone")
    task_width: int = _option(0, "width of a task vector; 0: that of the text", fixed=True)
    seed: int = _option(0, "of everything drawn", fixed=True)
    save_every: int = _option(1000, "steps between checkpoints")
    keep: int = _option(3, "checkpoints kept")
    log_every: int = _option(10, "steps between lines of the log")
    samples_every: int = _option(0, "steps between sample sheets; 0: none")
    samples: int = _option(8, "pairs on a sheet")
    sample_steps: int = _option(20, "denoising steps of a sample")
    tensorboard: bool = _option(False, "also write TensorBoard's files, to RUN/tensorboard")
    workers: int = _option(4, "threads that read pictures")
    cpu: bool = _option(False, "train on the CPU even where there is a GPU")
    minutes: float = _option(0.0, "stop after this long in this sitting, state saved; 0: no limit")

    def __post_init__(self) -> None:
        whole = (
            "size",
            "window",
            "steps",
            "batch",
            "accumulate",
            "save_every",
            "keep",
            "log_every",
            "workers",
            "samples",
            "sample_steps",
        )
        for name in whole:
            _check(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of 1 or more")
        for name in ("warm_up", "samples_every", "task_width", "seed", "weight_decay", "clip", "minutes"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("rate", "task_rate", "gamma"):
            _check(0 < getattr(self, name) < float("inf"), name, getattr(self, name), "a number above 0")
        _check(0 <= self.ema < 1, "ema", self.ema, "at least 0 and below 1")
        dropped = (self.drop_text, self.drop_both, self.drop_image)
        fine = all(share >= 0 for share in dropped) and sum(dropped) < 1
        _check(fine, "drop_text, drop_both, drop_image", dropped, "shares of which the sum is below 1")
        for entry in dataclasses.fields(self):
            choices = entry.metadata["choices"]
            if choices:
                value = getattr(self, entry.name)
                _check(value in choices, entry.name, repr(value), " or ".join(choices))

    def fixed(self) -> dict[str, Any]:
        """What must be the same when a run goes on, as JSON values."""
        return {e.name: getattr(self, e.name) for e in dataclasses.fields(self) if e.metadata["fixed"]}

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}


def _check(fine: bool, name: str, value: Any, wanted: str) -> None:
    if not fine:
        flag = ", ".join("--" + part.strip().replace("_", "-") for part in name.split(","))
        raise EmuEditError(f"{flag} is {value}; give {wanted}.")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def add_options(parser: argparse.ArgumentParser) -> None:
    """One option for each field, and --config."""
    parser.add_argument(
        "--config", type=Path, help="JSON or YAML file with any of these; options win over it"
    )
    for entry in dataclasses.fields(TrainConfig):
        flag, extra = "--" + entry.name.replace("_", "-"), entry.metadata
        words = f"{extra['help']} ({_shown(entry.default)})".replace("%", "%%")
        kind = type(entry.default)
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=words)
        elif kind is tuple:
            parser.add_argument(flag, nargs="+", default=None, metavar="DATA", help=words)
        elif extra["choices"]:
            parser.add_argument(flag, choices=extra["choices"], default=None, help=words)
        else:
            parser.add_argument(flag, type=kind, default=None, help=words)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return str(default) if default not in ("", ()) else "none"


def read_options(options: argparse.Namespace) -> TrainConfig:
    """The configuration of a command line, options over the file over the defaults."""
    names = {entry.name for entry in dataclasses.fields(TrainConfig)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    values = (read_file(options.config) if options.config else {}) | given
    return from_values(values, str(options.config or "the command line"))


def read_file(path: Path) -> dict[str, Any]:
    """The object in a JSON or YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise EmuEditError(f"--config {path} cannot be read ({problem}); check the spelling.") from problem
    yaml: Any = None
    if path.suffix.lower() in (".yaml", ".yml"):
        yaml = need("yaml", "to read a YAML configuration", "pip install pyyaml")
    try:
        values = json.loads(text) if yaml is None else yaml.safe_load(text)
    except Exception as problem:  # PyYAML's errors are its own family
        raise EmuEditError(f"--config {path} is not well formed ({problem}); correct it.") from problem
    if not isinstance(values, dict):
        raise EmuEditError(f"--config {path} must hold one object of options; see training/configs.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


def from_values(values: Mapping[str, Any], where: str) -> TrainConfig:
    """A configuration from plain values, each of its type, or a sentence naming the one that is not."""
    known = {entry.name: type(entry.default) for entry in dataclasses.fields(TrainConfig)}
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise EmuEditError(f"{where}: there is no option {name!r}; known are {', '.join(known)}.")
        kind = known[name]
        if kind is tuple:
            value = (value,) if isinstance(value, str) else value
            good = isinstance(value, Sequence) and all(isinstance(part, str) for part in value)
            typed[name] = tuple(value) if good else None
        elif kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:  # YAML reads 1e-4 as words
                typed[name], good = float(value), True
            except ValueError:
                good = False
        else:
            good = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
            typed[name] = value
        if not good:
            raise EmuEditError(f"{where}: {name} is {value!r}; give a value of type {kind.__name__}.")
    return TrainConfig(**typed)
