"""Task inversion: learn a new task from a few examples; only its vector is trained.

Emu Edit (arXiv 2311.10089, section "task inversion"): with the model frozen, the loss it was trained with is
minimised over the vector v of a new task (for an editor of one step, the error of its edits: see
example_latents). Learning rate, batch, number of steps and where v starts are not published. Here v starts
where the loss on the examples is lowest among nothing (zeros), the mean of the known tasks and each known
task; the rate is a fraction of the known vectors' typical entry, so that it means the same for editors whose
vectors differ in size; and the v of the lowest loss on examples held out is returned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .backbone import Backbone
from .edit import EditSettings, edit
from .errors import EmuEditError
from .example_latents import Noised, encode_examples, one_step, reads_no_noise, relative_change
from .frozen import frozen
from .inversion_settings import (
    AUTO,
    MEAN,
    PHASES,
    InversionResult,
    InversionSettings,
    InversionStep,
    OnStep,
)
from .task_examples import TaskExample, check_examples
from .tasks import NO_TASK, TaskVector

__all__ = [
    "AUTO",
    "MEAN",
    "PHASES",
    "InversionResult",
    "InversionSettings",
    "InversionStep",
    "OnStep",
    "invert_task",
]

MOST_HELD_OUT = 16  # examples: more would cost time and say little more
FEWEST_TO_SPLIT = 5  # examples: of fewer none is held out
LOOKS = 24  # noisy views that a loss is the mean of, where noise makes a difference
PREVIEW_STEPS = 6


def invert_task(
    backbone: Backbone,
    examples: Sequence[TaskExample],
    name: str,
    settings: InversionSettings | None = None,
    on_step: OnStep | None = None,
) -> InversionResult:
    """Learn the vector of a new task called `name` from `examples` for this editor.

    `on_step` is called after every part of the work and may raise to interrupt; the editor and torch's random
    state are then as before. The same examples and settings give the same vector on the same machine.
    Raises EmuEditError for examples, settings or an editor that cannot be learnt with, and when the loss is
    no number.
    """
    settings = settings or InversionSettings()
    if not name.strip() or name == NO_TASK:
        raise EmuEditError(f"task inversion: the task's name is {name!r}; give it one of its own.")
    _check_editor(backbone)
    checked = check_examples(examples)
    # Hosts run nodes in inference mode, whose tensors cannot take part in gradients.
    freeze = frozen(backbone, settings.checkpointing, decoder=one_step(backbone))
    with torch.inference_mode(False), torch.enable_grad(), freeze:
        return _Learner(backbone, checked, name.strip(), settings, on_step).run()


def _check_editor(backbone: Backbone) -> None:
    if not backbone.takes_image:
        raise EmuEditError(
            f"editor {backbone.name!r}: it is a text-to-image model that cannot see a picture; learn with an "
            "InstructPix2Pix or Emu Edit checkpoint."
        )
    if backbone.task_width is None:
        raise EmuEditError(
            f"editor {backbone.name!r}: it has no task embeddings, so no task can be learnt for it; use an "
            "Emu Edit model, such as the bundled one."
        )


class _Learner:
    """One run; see invert_task."""

    def __init__(
        self,
        backbone: Backbone,
        examples: list[TaskExample],
        name: str,
        settings: InversionSettings,
        on_step: OnStep | None,
    ) -> None:
        self.backbone, self.examples, self.name, self.settings = backbone, examples, name, settings
        self.on_step = on_step
        self.table = torch.stack([backbone.task_vector(n).detach().clone() for n in backbone.task_names])
        self.table = self.table.to(backbone.device, torch.float32)
        self.best, self.best_loss = torch.zeros_like(self.table[0]), math.nan
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(settings.seed)).tolist()
        count = round(settings.held_out * len(examples)) if len(examples) >= FEWEST_TO_SPLIT else 0
        count = min(count, MOST_HELD_OUT)
        self.kept, self.taught = sorted(order[:count]), sorted(order[count:])
        dropout = settings.text_dropout
        guided = float(backbone.defaults.get("text_guidance", 7.5)) != 1.0
        self.dropout = (0.05 if guided else 0.0) if dropout is None else dropout

    def run(self) -> InversionResult:
        settings = self.settings
        self.data = encode_examples(
            self.backbone,
            self.examples,
            settings.size,
            lambda done, total: self._tell("encode", done, total, math.nan),
        )
        measured = self.kept or self.taught
        self.alike = bool(self.data.picture) and reads_no_noise(self.backbone)
        views = self._views(measured, len(measured) if self.alike else LOOKS)
        candidates = self._candidates()
        starts = {}
        for index, (start, vector) in enumerate(candidates.items()):
            starts[start] = self._measure(vector, views)
            self._tell("start", index, len(candidates), starts[start])
        start = min(starts, key=lambda key: starts[key])
        self.best, self.best_loss = candidates[start].clone(), starts[start]
        history = [(0, self.best_loss)]
        best_step = 0
        for step, check in self._learn(views):
            if check is not None:
                history.append((step, check))
                best_step = step if check <= self.best_loss else best_step
        notes = list(self.data.notes)
        if best_step == 0:
            notes.append(
                f"Learning did not improve on {start!r}: give more examples, more steps, or another rate."
            )
        task = TaskVector(
            self.name,
            self.best,
            self.backbone.task_base,
            len(self.taught),
            {
                "made_by": "task inversion",
                "start": start,
                "step": str(best_step),
                "seed": str(settings.seed),
                "loss": f"{self.best_loss:.6f}",
                "loss_at_start": f"{starts[start]:.6f}",
                "held_out": str(len(self.kept)),
                "instruction": self.examples[0].instruction,
            },
        )
        return InversionResult(
            task, start, starts, history, best_step, len(self.taught), len(self.kept), tuple(notes),
            self._preview(quick=False),
        )  # fmt: skip

    def _candidates(self) -> dict[str, Tensor]:
        """Where learning may start: name -> vector [D]."""
        names = self.backbone.task_names
        known = dict(zip(names, self.table, strict=True))
        every = {NO_TASK: torch.zeros_like(self.table[0]), MEAN: self.table.mean(0), **known}
        if self.settings.start == AUTO:
            return every
        if self.settings.start not in every:
            raise EmuEditError(
                f"task inversion: start is {self.settings.start!r}; choose {AUTO}, {', '.join(every)}."
            )
        return {self.settings.start: every[self.settings.start]}

    def _learn(self, views: list[Noised]) -> Iterator[tuple[int, float | None]]:
        """Update the vector; yields each step with, after a check, the loss measured."""
        settings = self.settings
        vector = self.best.clone().requires_grad_(True)
        unit = float(self.table.square().mean().sqrt()) or 0.1
        optimiser = torch.optim.Adam([vector], lr=settings.rate * unit, betas=(0.9, 0.99))
        # Half precision loses small gradients: scale the loss up, and down again where that overflows.
        scale = 1024.0 if self.backbone.dtype == torch.float16 else 1.0
        idle = 0
        for step in range(1, settings.steps + 1):
            loss, gradient = self._gradient(vector, self._draw(step), scale)
            if not bool(torch.isfinite(gradient).all()):
                if scale <= 1.0:
                    raise EmuEditError(
                        f"task inversion: the loss is {loss} at step {step}; give a rate below "
                        f"{settings.rate}, or load the editor in float32."
                    )
                scale /= 2
            else:
                if step == 1 and not bool(gradient.any()):
                    raise EmuEditError(
                        f"editor {self.backbone.name!r}: its output does not depend on the task at all, as "
                        "when it was upgraded but not trained; train it first."
                    )
                vector.grad = gradient
                optimiser.param_groups[0]["lr"] = (
                    settings.rate * unit * 0.5 * (1 + math.cos(math.pi * (step - 1) / settings.steps))
                )
                optimiser.step()
            check = None
            if step % settings.check_every == 0 or step == settings.steps:
                check = self._measure(vector.detach(), views)
                if check < self.best_loss:
                    self.best, self.best_loss, idle = vector.detach().clone(), check, 0
                else:
                    idle += 1
            yield step, check
            self._tell("learn", step - 1, settings.steps, loss, check is not None)
            if settings.patience and idle >= settings.patience:
                return

    def _gradient(self, vector: Tensor, views: list[Noised], scale: float) -> tuple[float, Tensor]:
        """The mean loss of `views` and its gradient [D], float32."""
        total, gradient = 0.0, torch.zeros_like(vector)
        count = sum(len(view) for view in views)
        for view in views:
            loss = self._errors(vector, view).sum() / count
            (part,) = torch.autograd.grad(loss * scale, vector)
            gradient += part / scale
            total += float(loss.detach())
        return total, gradient

    def _errors(self, vector: Tensor, view: Noised) -> Tensor:
        """The loss of each item [B]: the editor's own objective, or a one-step edit (see example_latents)."""
        rows = vector.expand(len(view), -1)
        found = self.backbone.predict(view.z, view.t, view.text, image=view.image, task=rows)
        schedule = self.backbone.schedule
        if not relative_change(self.backbone):
            return (found - schedule.target(view.x0, view.noise, view.t)).square().mean((1, 2, 3))
        x0 = schedule.to_x0(found, view.z, view.t)
        if view.picture is not None:
            made = self.backbone.decode_beyond(x0).to(view.picture.device)  # type: ignore[attr-defined]
            shown = made + (made.clamp(0, 1) - made).detach()  # a pixel beyond 0..1 can still be led back
            return (shown - view.picture).square().mean((1, 2, 3)) / view.size
        return (x0 - view.x0).square().mean((1, 2, 3)) / view.size

    def _measure(self, vector: Tensor, views: Iterable[Noised]) -> float:
        with torch.no_grad():
            # Home first: some devices have no float64.
            errors = [self._errors(vector, view).cpu().double() for view in views]
        loss = float(torch.cat(errors).mean())
        return loss if math.isfinite(loss) else math.inf

    def _draw(self, step: int) -> list[Noised]:
        """The noisy views of step `step`: a function of the seed and the step alone."""
        generator = torch.Generator().manual_seed((self.settings.seed * 1_000_003 + step) % 2**63)
        count, size = len(self.taught), self.settings.batch
        size = min(size, count) if self.alike else size  # the same view twice tells nothing more
        # Every example once before any a second time, in an order of its own for each round.
        rounds = range((step - 1) * size // count, (step * size - 1) // count + 1)
        order: list[int] = []
        for number in rounds:
            shuffle = torch.Generator().manual_seed((self.settings.seed * 999_983 + number) % 2**63)
            order += torch.randperm(count, generator=shuffle).tolist()
        first = (step - 1) * size - rounds[0] * count
        rows = [self.taught[i] for i in order[first : first + size]]
        return self.data.noised(rows, generator, self.dropout)

    def _views(self, rows: list[int], looks: int) -> list[Noised]:
        """Fixed noisy views of some examples, their noise levels (where there are several) spread evenly."""
        repeated = [row for row in rows for _ in range(-(-looks // len(rows)))]
        generator = torch.Generator().manual_seed((self.settings.seed + 7_919) % 2**63)
        levels = (torch.arange(len(repeated)) * 0.618034 + 0.5) % 1.0  # golden ratio: even for any count
        views: list[Noised] = []
        for first in range(0, len(repeated), max(self.settings.batch, 8)):
            part = slice(first, first + max(self.settings.batch, 8))
            views += self.data.noised(repeated[part], generator, 0.0, levels[part])
        return views

    def _preview(self, quick: bool = True) -> Tensor:
        """Input, wanted and made side by side; `quick`: in few steps and without guidance."""
        row = (self.kept or self.taught)[0]
        example, plan = self.examples[row], self.data.plans[row]
        source, target = plan.apply(example.source), self.data.fitted(example, plan)
        settings = EditSettings(seed=self.settings.seed, size=self.settings.size).filled(self.backbone)
        if quick:
            steps = min(settings.steps or PREVIEW_STEPS, PREVIEW_STEPS)
            settings = replace(settings, steps=steps, text_guidance=1.0, image_guidance=1.0)
        made = edit(self.backbone, source, example.instruction, self.best, settings=settings).images
        return torch.cat([source, target, made.to(source.device)], dim=2)

    def _tell(self, phase: str, index: int, total: int, loss: float, check: bool = False) -> None:
        if self.on_step is not None:
            self.on_step(InversionStep(phase, index, total, loss, self.best_loss, check, self._preview))
