"""The bundled editor's recipe, made so small that a test can train it."""

from __future__ import annotations

from emu_edit.training.small.recipe import Recipe

TINY = Recipe(
    patch=8,
    latent_channels=24,
    text_width=16,
    text_layers=1,
    text_heads=2,
    channels=(8, 16),
    layers=(2, 1),
    words_on=(True, True),
    head_width=8,
    groups=4,
    pictures_every=3,
    texts=32,
    batch=4,
    component_pairs=24,
    warm_up=2,
)
