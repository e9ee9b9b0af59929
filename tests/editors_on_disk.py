"""A small Emu Edit model whose task vectors matter, and what an editor predicts, for tests of files."""

from __future__ import annotations

import torch
from toy_models import toy_backbone, toy_pictures

from emu_edit.core.checkpoints import save_editor


@torch.no_grad()
def prediction(editor, task=None):
    """What an editor predicts for fixed latents, words and picture."""
    pictures = toy_pictures(2).to(editor.dtype)
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(2, 4, 8, 8, generator=generator).to(editor.dtype)
    text = editor.encode_text(["bare tree", "a bear, red"])
    vector = None if task is None else editor.task_vector(task).expand(2, -1)
    return editor.predict(latents, 500, text, editor.image_condition(pictures), vector)


def with_trained_tasks(editor):
    """The same editor, its two task projections no longer zero."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for layer in (editor.unet.class_embedding, editor.conditioner.to_context):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
    return editor


def save_trained(folder):
    """Save a small Emu Edit model as a folder; returns the editor."""
    editor = with_trained_tasks(
        toy_backbone(task_width=6, predicts="change", image_condition="scaled", latent_input="estimate")
    )
    save_editor(editor, folder)
    return editor
