"""What can be trained of the bundled models: the editor, and the text-to-image base of the same world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.checkpoints import bundled_editor_path, load_editor
from ...core.diffusers_backbone import DiffusersBackbone
from .base import BaseTrainee, base_from_editor, picture_loss
from .data import Pairs, Pictures, to_planes
from .grow import grown
from .models import build_editor
from .objective import Trainee, batch_loss
from .recipe import Recipe
from .wording import vocabulary

Loss = Callable[[Any, DiffusersBackbone, dict[str, Any], Recipe, torch.Generator], Any]


@dataclass(frozen=True)
class Work:
    """What one kind of run needs: its first model, what is trained of it, its samples and its loss."""

    first: Callable[[Recipe, Path | None], DiffusersBackbone]
    trainee: Callable[[DiffusersBackbone, Recipe], nn.Module]
    samples: Callable[[Recipe, int], Pairs | Pictures]
    loss: Loss


def _pictures(recipe: Recipe) -> Tensor:
    pairs = Pairs(recipe.world_seed + 1, recipe.picture)
    shown = [pairs[i][side] for i in range(recipe.component_pairs) for side in ("source", "target")]
    return to_planes(torch.stack(shown))


def first_editor(recipe: Recipe, start: Path | None) -> DiffusersBackbone:
    """A fresh editor, or that of the folder `start` brought to the recipe's size."""
    if start is None:
        return build_editor(recipe, vocabulary(), _pictures(recipe))
    return grown(load_editor(start), recipe, vocabulary(), _pictures(recipe))


def first_base(recipe: Recipe, start: Path | None) -> DiffusersBackbone:
    """The base in the folder `start`, or one with the layers of the editor there, or of the bundled one."""
    given = load_editor(start or bundled_editor_path(), kind="either")
    if not given.takes_image:
        return given
    return base_from_editor(grown(given, recipe, vocabulary(), _pictures(recipe)), recipe)


WORK = {
    "editor": Work(first_editor, Trainee, lambda recipe, size: Pairs(recipe.world_seed, size), batch_loss),
    "base": Work(
        first_base, BaseTrainee, lambda recipe, size: Pictures(recipe.world_seed, size), picture_loss
    ),
}
