"""What every ablation needs: sizes, the editor, scenes, edits judged, and short training runs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.checkpoints import bundled_editor_path, load_editor
from ...core.diffusers_backbone import DiffusersBackbone
from ...core.edit import EditSettings, Task, edit
from ...core.task_inversion import InversionSettings
from ...core.tasks import TASK_IDS
from ..small.data import Pairs, batches, to_planes
from ..small.edits import Example, make_example
from ..small.models import build_editor
from ..small.objective import Trainee, batch_loss
from ..small.recipe import Recipe
from ..small.rules import judge
from ..small.unseen import UNSEEN, make_unseen
from ..small.wording import vocabulary
from .cells import Cells

TEST_SEED = 7_001  # of the stream that scenes to judge by come from; training streams have other seeds
WARM_UP = 30


@dataclass(frozen=True)
class Sizes:
    """How large every part is. `scenes`: edits judged for each number; `pixels`, `pictures` (that the
    autoencoder comes from), `steps`, `batch`: of the models of (b) and (c), trained from scratch; `counts`:
    examples in (d); `expert_steps`: of (d)'s expert; `chains` of `turns` edits in (e).
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    scenes: int = 48
    tasks: tuple[str, ...] = TASK_IDS
    pixels: int = 64
    pictures: int = 96
    steps: int = 6000
    batch: int = 32
    expert_tasks: tuple[str, ...] = ("remove", "color", "segment", "global")
    task_counts: tuple[int, ...] = (1, 4, 8, 16)
    probe: str = "segment"
    unseen: tuple[str, ...] = UNSEEN
    counts: tuple[int, ...] = (1, 3, 10, 30, 100)
    expert_steps: int = 1500
    learning: InversionSettings = field(default_factory=InversionSettings)
    turns: int = 10
    chains: int = 24


QUICK = Sizes(
    seeds=(0,),
    scenes=2,
    tasks=("color", "segment"),
    pictures=4,
    steps=2,
    batch=2,
    expert_tasks=("color",),
    task_counts=(1, 2),
    unseen=("contours",),
    counts=(1, 2),
    expert_steps=2,
    learning=InversionSettings(steps=2, batch=2, check_every=1, start="none"),
    turns=2,
    chains=1,
)


@dataclass(frozen=True, eq=False)
class Lab:
    """The editor at `model` (None: the bundled one), the sizes, and where results are kept."""

    sizes: Sizes
    cells: Cells
    model: Path | None = None

    def editor(self) -> DiffusersBackbone:
        """A fresh copy of the editor, free to be trained."""
        return load_editor(self.path())

    def path(self) -> Path:
        return self.model or Path(bundled_editor_path())

    def identity(self) -> str:
        """Twelve digits that change when any weight or setting of the editor does."""
        digest = hashlib.sha256()
        files = (
            [self.path()]
            if self.path().is_file()
            else sorted(file for file in self.path().rglob("*") if file.suffix in (".safetensors", ".json"))
        )
        for file in files:
            digest.update(file.read_bytes())
        return digest.hexdigest()[:12]


def cases(task: str, count: int, size: int, seed: int = TEST_SEED, split: str = "test") -> list[Example]:
    """Scenes 0 to count - 1 of a task, known or unseen."""
    if task in UNSEEN:
        return [make_unseen(task, seed, index, size, split=split) for index in range(count)]
    return [make_example(seed, index, (task,), size, split=split) for index in range(count)]


def as_picture(array: np.ndarray) -> Tensor:
    """uint8 [S,S,3] as a picture [S,S,3] in 0..1."""
    return torch.from_numpy(array).float() / 255


def judged(
    editor: DiffusersBackbone, shown: Sequence[Example], task: Task | Sequence[str], batch: int = 16
) -> list[dict[str, float]]:
    """ "inside", "outside" and "success" (small.rules.judge) and "left" (left_of_drawn) of an edit of every
    case; `task` for all, or a name for each.
    """
    found = []
    for first in range(0, len(shown), batch):
        part = shown[first : first + batch]
        wanted: Any = task
        if isinstance(task, (list, tuple)):
            wanted = torch.stack([editor.task_vector(name).detach() for name in task[first : first + batch]])
        pictures = torch.stack([as_picture(case.source) for case in part])
        settings = EditSettings(seed=first, size=max(pictures.shape[1:3]))
        edited = edit(editor, pictures, [case.instruction for case in part], wanted, settings=settings)
        for case, picture in zip(part, edited.images, strict=True):
            made = picture.cpu().numpy()
            scores = judge(case, made)
            row = {name: _number(scores[name]) for name in ("inside", "outside", "success")}
            found.append(row | {"left": _number(left_of_drawn(case, made))})
    return found


def left_of_drawn(case: Example, made: np.ndarray) -> float:
    """The mean absolute error of an edit [S,S,3] in 0..1 over what there was to draw: the change from the
    input, or what the target holds beside the median of each channel, if that is less. 1 is the input left as
    it is, or a blank page: of a map of thin lines, that the picture goes is most of the change.
    """
    source, target = case.source / 255.0, case.target / 255.0
    blank = np.median(target, axis=(0, 1))
    drawn = min(np.abs(target - source).mean(), np.abs(target - blank).mean())
    return float(np.abs(made - target).mean() / drawn) if drawn else float("nan")


def _number(value: Any) -> float:
    return (
        round(float(value), 6) if math.isfinite(float(value)) else 1.0
    )  # nothing to change: as if nothing was done


def new_editor(size: int, seed: int, count: int) -> DiffusersBackbone:
    """A small editor with fresh weights for pictures of `size` pixels; `count` pairs give the autoencoder."""
    recipe = replace(Recipe(), picture=size)
    pairs = Pairs(recipe.world_seed + 1, size, TASK_IDS)
    pictures = [
        pairs[i][side] for i in range(min(count, recipe.component_pairs)) for side in ("source", "target")
    ]
    return build_editor(recipe, vocabulary(), to_planes(torch.stack(pictures)), seed)


def world_stream(tasks: Sequence[str], batch: int, size: int, seed: int) -> Iterator[dict[str, Any]]:
    """Endless fresh batches of known tasks."""
    return batches(Pairs(90_000 + seed, size, tuple(tasks), layouts=True), 0, batch, workers=0)


def unseen_stream(
    task: str, stand_in: str, count: int | None, batch: int, size: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Endless batches of an unseen task under the name of a known one: `count` examples over and over, or
    fresh ones (None).
    """
    number = 0
    while True:
        rows = []
        for _ in range(batch):
            rows.append(make_unseen(task, seed, number if count is None else number % count, size))
            number += 1
        yield {
            "source": torch.from_numpy(np.stack([row.source for row in rows])),
            "target": torch.from_numpy(np.stack([row.target for row in rows])),
            "mask": torch.from_numpy(np.stack([np.round(row.mask * 255).astype(np.uint8) for row in rows])),
            "instruction": [row.instruction for row in rows],
            "task": [stand_in] * batch,
        }


def train(
    editor: DiffusersBackbone,
    stream: Iterator[dict[str, Any]],
    steps: int,
    rate: float,
    seed: int,
    mask_weight: float | None = None,
    tell: Callable[[int], None] | None = None,
) -> DiffusersBackbone:
    """Train all of the editor's weights but the autoencoder's in place: AdamW, warm-up, cosine to zero."""
    shape = editor.unet.config
    recipe = replace(Recipe(), channels=tuple(shape.block_out_channels), groups=int(shape.norm_num_groups))
    recipe = replace(recipe, text_tokens=int(editor.tokenizer.model_max_length))
    if mask_weight is not None:
        recipe = replace(recipe, mask_weight=mask_weight)
    torch.manual_seed(seed)
    trainee = Trainee(editor, recipe).train().requires_grad_(True)  # words too: fresh editors have not read
    optimiser = torch.optim.AdamW(trainee.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(steps):
        rise = min(1.0, (step + 1) / WARM_UP)
        optimiser.param_groups[0]["lr"] = rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        loss, _ = batch_loss(trainee, editor, next(stream), recipe, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainee.parameters(), recipe.clip)
        optimiser.step()
        if tell is not None:
            tell(step)
    trainee.eval()
    return editor
