"""One run: its model, data, optimiser and place, made new or from the newest checkpoint, and saved again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.diffusers_backbone import DiffusersBackbone
from ...core.errors import EmuEditError
from ...core.packages import need
from ...core.pairs.durable import write_whole
from ...core.predictor import bundled_predictor
from ...core.predictors.base import TASKS
from ..data.pairs import PairSource
from ..data.skipped import SkipReport
from ..data.sources import fingerprint, open_sources
from ..data.stream import PairStream, Place, known_tasks
from . import objective, samples
from .cache import LatentCache
from .checkpoint import Checkpoint, newest_checkpoint, save_checkpoint
from .config import TrainConfig
from .ema import Average
from .encode import Encoder
from .journal import Journal
from .model import Trainee, frozen_fingerprint, load_base
from .optimise import build_optimiser
from .shards import is_spread, optimiser_tensors, put, restore_optimiser, whole

#: The values of runs that were begun before these were recorded.
_ONCE = {"latent_input": "noisy", "position_frequencies": 0}
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(config: TrainConfig) -> Any:
    """Accelerate's view of the machine; `accelerate launch` decides on processes, devices and FSDP."""
    accelerate: Any = need("accelerate", "to train an editor", "pip install accelerate")
    # Its settings are shared by the whole process; one that trains twice may choose others the second time.
    accelerate.state.AcceleratorState._reset_state()
    try:
        return accelerate.Accelerator(cpu=config.cpu, mixed_precision=PRECISIONS[config.precision])
    except ValueError as problem:
        raise EmuEditError(
            f"--precision {config.precision} does not work on this device ({problem}); use bf16 or fp32."
        ) from problem


class Run:
    """Everything a step needs. `folder` gets checkpoints, log.jsonl, skipped.jsonl, samples, config.json."""

    def __init__(self, config: TrainConfig, accelerator: Any, say: Callable[[str], None]) -> None:
        self.config, self.accelerator, self._say = config, accelerator, say
        self.folder = Path(config.run)
        self.main = bool(accelerator.is_main_process)
        self.editor: DiffusersBackbone = load_base(config)
        self._frozen = frozen_fingerprint(self.editor)
        found = newest_checkpoint(self.folder / "checkpoints", clear=True) if self.main else None
        accelerator.wait_for_everyone()
        found = found or newest_checkpoint(self.folder / "checkpoints")
        for part in (self.editor.vae, self.editor.text_encoder):
            part.requires_grad_(False)
        if not config.cache:
            self._place_frozen(accelerator.device)
        self.encoder = Encoder(self.editor)
        source = open_sources(config.data)
        if config.samples_every:  # a slip is told now, not at the first sheet
            open_sources(config.validation or config.data)
        self._fixed = config.fixed() | {
            "model": self._frozen,
            "data": fingerprint(source),
            "latent_input": self.editor.latent_input,
            "position_frequencies": self.editor.position_frequencies,
            "pairs_per_step": config.batch * config.accumulate * accelerator.num_processes,
        }
        changed = self._check_same(found)
        self.skipped = SkipReport(self.folder / "skipped.jsonl" if self.main else None)
        self.stream = self._open_stream(source, config.window)
        self._predictor = bundled_predictor()
        self._prepare(found)
        self.journal: Journal | None = None
        if self.main:
            pending = found.state["journal"] if found else {}
            self.journal = Journal(self.folder, config.log_every, self.step, pending, config.tensorboard)
            if changed:
                self.journal.write({"step": self.step, "changed": changed})
        self._sheet_pairs: list[Any] = []
        self._told = False

    def _prepare(self, found: Checkpoint | None) -> None:
        config = self.config
        trainee = Trainee(self.editor).train()
        if config.gradient_checkpointing:
            self.editor.unet.enable_gradient_checkpointing()
        prepared = self.accelerator.prepare(trainee, build_optimiser(trainee, config))
        self.model: torch.nn.Module = prepared[0]
        self.optimiser: Any = prepared[1]
        self.inner: Any = self.accelerator.unwrap_model(self.model)
        self.weights: Tensor = objective.timestep_weights(
            self.editor.schedule, self.editor.predicts, config.weighting, config.gamma
        )
        self.step, self.place, self.rate = 0, Place(), 0.0
        self.saved_step: int | None = None
        if found is not None:
            with found.tensors("trainee") as file:
                _fill(dict(self.inner.named_parameters()), file)
        self.average = Average(self.inner, config.ema) if config.ema else None
        if found is not None:
            if self.average is not None and found.has("ema"):
                with found.tensors("ema") as file:
                    _fill(self.average.values, file)
            with found.tensors("optimiser") as file:
                restore_optimiser(getattr(self.optimiser, "optimizer", self.optimiser), self.inner, file)
            self.step = self.saved_step = found.step
            self.place = Place(**found.state["place"])
            if self.accelerator.scaler is not None and found.state.get("scaler"):
                self.accelerator.scaler.load_state_dict(found.state["scaler"])
            self._say(f"{self.folder} goes on from step {self.step}.")

    def _check_same(self, found: Checkpoint | None) -> dict[str, Any]:
        """What of the configuration changed since the checkpoint; EmuEditError if that must not change."""
        if found is None:
            return {}
        for name, value in self._fixed.items():
            before = found.state["fixed"].get(name, _ONCE.get(name))
            if before != value:
                raise EmuEditError(
                    f"--run {self.folder} was begun with {name.replace('_', ' ')} {before} and now has "
                    f"{value}; give what it was begun with, or another --run."
                )
        before = found.state["config"]
        now = self.config.to_json()
        told = ("run", "base", "data", "validation", "cache", "workers", "minutes")
        return {n: [before.get(n), v] for n, v in now.items() if before.get(n) != v and n not in told}

    def _open_stream(self, source: PairSource, window: int) -> PairStream:
        config = self.config
        if config.cache:
            cache = LatentCache(source, Path(config.cache), self._frozen, config.size)
            self._place_frozen(self.accelerator.device)
            made = cache.build(
                self.encoder, self.accelerator.process_index, self.accelerator.num_processes, config.workers
            )
            self._place_frozen("cpu")
            self.accelerator.wait_for_everyone()
            if made:
                self._say(f"{made} units of the data were encoded into {config.cache}.")
            source = cache
        return PairStream(source, config.seed, window, config.size, self.skipped)

    def _place_frozen(self, device: Any) -> None:
        for part in (self.editor.vae, self.editor.text_encoder):
            torch.nn.Module.to(part, device=device)

    def tasks_of(self, items: Sequence[Any]) -> list[str]:
        """The task of each pair: its own if the editor knows it, else the predicted one, else ""."""
        names = self.editor.task_names
        return known_tasks(names, [i.task for i in items], [i.instruction for i in items], self._predict)

    def _predict(self, instructions: Sequence[str]) -> list[str]:
        return [TASKS[best] for best in self._predictor.probabilities(instructions).argmax(axis=1)]

    def task_row(self, task: str) -> int:
        """The row of the table, -1 for no task."""
        return self.editor.task_names.index(task) if task else -1

    def save(self) -> None:
        """Write a checkpoint of this moment. All processes call this; the first one writes."""
        inner = getattr(self.optimiser, "optimizer", self.optimiser)
        parts: dict[str, dict[str, Tensor]] = {
            "trainee": {name: whole(p) for name, p in self.inner.named_parameters()},
            "optimiser": optimiser_tensors(inner, self.inner),
        }
        if self.average is not None:
            parts["ema"] = {name: whole(value) for name, value in self.average.values.items()}
        if self.main:
            assert self.journal is not None
            scaler = self.accelerator.scaler
            state = {
                "place": self.place.to_json(),
                "config": self.config.to_json(),
                "fixed": self._fixed,
                "journal": self.journal.state(),
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            save_checkpoint(self.folder / "checkpoints", self.step, parts, state, self.config.keep)
        self.saved_step = self.step
        self.accelerator.wait_for_everyone()

    def draw_samples(self) -> None:
        """Write a sample sheet of the averaged weights. All processes call this; the first one writes.

        Weights that are spread over processes (FSDP) cannot be sampled from here: a line says so, once.
        """
        if any(is_spread(parameter) for parameter in self.inner.parameters()):
            if not self._told:
                self._say(
                    "Sample sheets are not drawn under FSDP; write the editor with --export and try it."
                )
            self._told = True
            return
        if not self._sheet_pairs:
            source = open_sources(self.config.validation or self.config.data)
            stream = PairStream(source, 0, self.config.samples, self.config.size, SkipReport())
            self._sheet_pairs = samples.first_pairs(stream, Place(), self.config.samples)
        with contextlib.ExitStack() as stack:
            if self.average is not None:
                stack.enter_context(self.average.in_place_of(self.inner))
            stack.callback(self.inner.train, self.inner.training)
            self.inner.eval()
            stack.enter_context(self.accelerator.autocast())
            tasks = self.tasks_of(self._sheet_pairs)
            sheet = samples.draw_sheet(self.editor, self._sheet_pairs, tasks, self.config.sample_steps)
        if self.main:
            samples.save_sheet(sheet, self.folder / "samples" / f"step-{self.step:08d}.png")

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def write_config(self) -> None:
        """RUN/config.json: what --config of another run can read."""
        if self.main:
            text = json.dumps(self.config.to_json(), indent=1) + "\n"
            write_whole(self.folder / "config.json", text.encode())


def _fill(values: dict[str, Any], file: Any) -> None:
    names = set(file.keys())
    if names != set(values):
        raise EmuEditError(
            f"the checkpoint holds other weights than this base ({len(names ^ set(values))} names differ); "
            "give the --base that the run was begun with."
        )
    for name, value in values.items():
        put(file.get_tensor(name), value)
