"""A text-to-image model of random weights, to try the trainer without a download.

    python -m emu_edit.training.editor.random_base OUT [--shape sd15|tiny]

sd15 has the exact shapes of Stable Diffusion 1.5 (a U-Net of 860 million weights, 4.3 GB on disk in fp32);
tiny has two levels and next to no width, for tests. Both read the words of the procedural world.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...core.checkpoints import save_editor
from ...core.diffusers_backbone import DiffusersBackbone
from ...core.packages import need
from ...core.single_file import SCHEDULER
from ..small.models import build_tokenizer
from ..small.wording import vocabulary

SHAPES: dict[str, dict[str, Any]] = {
    "sd15": {
        "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512},
        "text": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
        },
    },
    "tiny": {
        "unet": {
            "sample_size": 8,
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
            "block_out_channels": (16, 32),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": 1,
            "norm_num_groups": 8,
        },
        "vae": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
        "text": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
        },
    },
}


def random_base(shape: str, seed: int = 0) -> DiffusersBackbone:
    """A text-to-image model of one of SHAPES, on the CPU in float32."""
    why = "to make a model of random weights"
    diffusers, transformers = need("diffusers", why), need("transformers", why)
    sizes = SHAPES[shape]
    tokenizer = build_tokenizer(vocabulary(), sizes["text"]["max_position_embeddings"])
    torch.manual_seed(seed)
    text = {"vocab_size": len(tokenizer), "hidden_act": "quick_gelu"} | sizes["text"]
    marks = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    vae = diffusers.AutoencoderKL(
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.18215,
        **sizes["vae"],
    )
    return DiffusersBackbone(
        diffusers.UNet2DConditionModel(in_channels=4, out_channels=4, **sizes["unet"]),
        vae,
        transformers.CLIPTextModel(transformers.CLIPTextConfig(**text, **marks)),
        tokenizer,
        dict(SCHEDULER),
        name=f"random {shape}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="sd15")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    base = random_base(options.shape, options.seed)
    save_editor(base, options.out)
    print(f"{options.out}: {sum(p.numel() for p in base.unet.parameters()) / 1e6:.0f} million U-Net weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
