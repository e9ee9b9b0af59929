"""The editor a training run begins with: a fresh one, or one that takes over what another has learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ...core.checkpoints import load_editor
from ...core.diffusers_backbone import DiffusersBackbone
from ...core.errors import EmuEditError
from ...core.patch_autoencoder import PatchAutoencoder
from .data import Pairs, to_planes
from .models import LATENT_INPUT, build_editor, build_text_encoder
from .reading import deepened, teach
from .recipe import Recipe
from .wording import vocabulary


def first_editor(
    recipe: Recipe, start: Path | None, workers: int = 1, stopped: Callable[[], bool] = lambda: False
) -> DiffusersBackbone:
    """A fresh editor, or one with the weights of the editor in the folder `start`, that has read.

    An editor whose text encoder lacks layers or words of the recipe is taught anew, as a fresh one is.
    """
    old = None if start is None else load_editor(start)
    pairs = Pairs(recipe.world_seed + 1, recipe.picture)
    shown = [pairs[i][side] for i in range(recipe.component_pairs) for side in ("source", "target")]
    fresh = build_editor(recipe, vocabulary(), to_planes(torch.stack(shown)))
    if old is not None:
        layers, known = int(old.text_encoder.config.num_hidden_layers), old.tokenizer.get_vocab()
        made = taken_over(old, fresh, recipe)
        if layers == recipe.text_layers and known.keys() >= made.tokenizer.get_vocab().keys():
            return made
        fresh = made
    print(f"Reading {recipe.texts} texts before the first picture.", flush=True)
    teach(fresh, recipe, recipe.texts, workers, stopped=stopped)
    return fresh


def check_recipe(editor: DiffusersBackbone, recipe: Recipe, run: Path) -> None:
    """Raise EmuEditError when a run's editor is not of this recipe: an earlier version may have begun it."""
    pairs = {
        "grids": (tuple(editor.unet.config.block_out_channels), recipe.channels),
        "layers": (layers_of(editor.unet), recipe.layers),
        "patches": (getattr(editor.vae.config, "patch_size", None), recipe.patch),
        "latent channels": (editor.latent_channels, recipe.latent_channels),
        "latent input": (editor.latent_input, LATENT_INPUT),
        "waves of position": (editor.position_frequencies, recipe.position_frequencies),
        "most noise": (editor.scheduler_config.get("beta_end"), recipe.beta_end),
    }
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            raise EmuEditError(
                f"training: {run} was begun with {name} {found}, and the recipe has {wanted} now; take "
                "another --run, and --from the editor that it exported."
            )


def taken_over(old: DiffusersBackbone, fresh: DiffusersBackbone, recipe: Recipe) -> DiffusersBackbone:
    """`fresh` with all of `old` that fits: words, tasks, and each layer of the same place and shape.

    Grids are matched from the coarsest up, so a network that got finer ones keeps its inside; further layers
    of a grid and new attention start where they change nothing, and layers that the recipe lacks are left
    out, trained or not. An editor of the same recipe is taken over whole. Raises EmuEditError for an editor
    that predicts something else or has task vectors of another width.
    """
    if old.predicts != "change" or old.task_width != fresh.task_width or old.conditioner is None:
        raise EmuEditError(
            f"training: {old.name} is no editor of this recipe (it predicts {old.predicts!r}, and its tasks "
            f"have width {old.task_width}, not {fresh.task_width}); leave --from out, or give a folder that "
            "an earlier run exported."
        )
    deepened(old, recipe.text_layers)
    same = isinstance(old.vae, PatchAutoencoder) and all(
        getattr(old.vae.config, name) == getattr(fresh.vae.config, name)
        for name in ("patch_size", "latent_channels", "refine_channels")
    )
    reads_alike = same and old.latent_input == fresh.latent_input
    fresh.unet.load_state_dict(_fitting(old.unet, fresh.unet, outer=reads_alike))
    return DiffusersBackbone(
        fresh.unet,
        old.vae if same else fresh.vae,
        _with_words(old, fresh, recipe),
        fresh.tokenizer,
        fresh.scheduler_config,
        old.conditioner,
        name=fresh.name,
        predicts="change",
        image_condition="scaled",
        latent_input=fresh.latent_input,
        position_frequencies=fresh.position_frequencies,
        defaults=recipe.defaults,
    )


def layers_of(unet) -> tuple[int, ...]:
    """How many layers (a residual block, with its attention) each grid has on the way down, finest first."""
    layers = unet.config.layers_per_block
    return (layers,) * len(unet.config.block_out_channels) if isinstance(layers, int) else tuple(layers)


def _fitting(old, fresh, outer: bool) -> dict[str, Tensor]:
    """The weights of `fresh` with those of `old` in place; first and last layer only with `outer`."""
    known, weights = old.state_dict(), fresh.state_dict()
    counts = layers_of(old), layers_of(fresh)
    for name, weight in weights.items():
        part = name.partition(".")[0]
        place = _place(name, *counts)
        found = None if place is None else known.get(place)
        if (
            found is not None
            and found.shape == weight.shape
            and (outer or part not in ("conv_in", "conv_out"))
        ):
            weights[name] = found
        elif outer and name == "conv_in.weight" and found is not None and len(found) == len(weight):
            more = weight.shape[1] - found.shape[1]  # waves of position, the finest last
            weights[name] = functional.pad(found, (0, 0, 0, 0, 0, more))  # or without some, if less than 0
        elif place is None:
            weights[name] = _idle(name, weight)
        elif found is None and ".attentions." in name and ".proj_out." in name:
            weights[name] = torch.zeros_like(weight)
    return weights


def _place(name: str, old: tuple[int, ...], fresh: tuple[int, ...]) -> str | None:
    """Where a weight of a network with `fresh` layers stands in one with `old`; None: in a further layer.

    The way down ends with its further layers; the way up has them after its first, which takes what the
    last of the way down gives, so that every layer goes on reading what it did.
    """
    parts = name.split(".")
    if parts[0] not in ("down_blocks", "up_blocks"):
        return name
    down, level = parts[0] == "down_blocks", int(parts[1])
    grid = level - len(fresh) if down else -1 - level  # counted from the coarsest
    if down:
        parts[1] = str(grid + len(old))
    if -grid > len(old) or parts[2] not in ("resnets", "attentions"):
        return ".".join(parts)
    layer, further = int(parts[3]), fresh[grid] - old[grid]
    if down and layer >= old[grid] or not down and 1 <= layer <= further:
        return None
    if not down and layer:
        parts[3] = str(layer - further)
    return ".".join(parts)


def _idle(name: str, weight: Tensor) -> Tensor:
    """A weight of a further layer that as a whole hands on what came from the layer before."""
    if ".conv2." in name or ".proj_out." in name or name.endswith("conv_shortcut.bias"):
        return torch.zeros_like(weight)
    if name.endswith("conv_shortcut.weight"):  # on the way up: what came, and beside it what was kept
        return torch.eye(*weight.shape[:2], dtype=weight.dtype)[:, :, None, None]
    return weight


@torch.no_grad()
def _with_words(old: DiffusersBackbone, fresh: DiffusersBackbone, recipe: Recipe):
    """Old words keep their vectors; new words and new places start at random."""
    made = build_text_encoder(recipe, len(fresh.tokenizer))
    weights, now = old.text_encoder.state_dict(), made.state_dict()
    known = old.tokenizer.get_vocab()
    for name, tensor in now.items():
        if name.endswith("token_embedding.weight"):
            tensor.mul_(weights[name].std() / tensor.std())
            for word, number in fresh.tokenizer.get_vocab().items():
                if word in known:
                    tensor[number] = weights[name][known[word]]
        elif name.endswith("position_embedding.weight"):
            tensor.mul_(weights[name].std() / tensor.std())
            places = min(len(weights[name]), len(tensor))
            tensor[:places] = weights[name][:places]
        elif name in weights and not name.endswith("position_ids"):
            tensor.copy_(weights[name])
    made.load_state_dict(now)
    return made.eval()
