"""Tiny random CLIP and DINO folders, from the real classes, for tests of the scores."""

from __future__ import annotations

from pathlib import Path

import torch
from toy_models import toy_tokenizer
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

CLIP_SIZE, DINO_SIZE = 24, 28


def toy_clip(folder: Path, seed: int = 0) -> CLIPModel:
    """Save a CLIP with its tokenizer as transformers does; returns the model."""
    tokenizer = toy_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "image_size": CLIP_SIZE,
        "patch_size": 8,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    with torch.no_grad():  # as first drawn it hardly looks at its input
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))
    return model


def toy_dino(folder: Path, seed: int = 1) -> ViTModel:
    """Save a ViT as facebook/dino-vits16 is stored; returns the model."""
    torch.manual_seed(seed)
    config = ViTConfig(
        image_size=DINO_SIZE,
        patch_size=7,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model
