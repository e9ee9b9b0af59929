"""A small CLIP of the procedural world, for CLIPdir, CLIPim and CLIPout where no large one is at hand.

    python -m emu_edit.training.small.clip --out models/small_clip --samples 60000

Trained with the symmetric contrastive loss of CLIP (Radford et al. 2103.00020, section 2.3) on pictures and
captions of the world; written as a transformers folder that core.metric_models.load_clip reads, as
`models/small_clip` is. The command ends with the retrieval accuracy on pictures it never saw. Its scores
compare editors of this world with each other, and with nothing else.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.scorer import CLIP_MEAN, CLIP_STD, squash, standardised
from ..arguments import at_least
from .data import Pictures, batches
from .wording import vocabulary

SPECIAL = ("<pad>", "<start>", "<unknown>", "<end>")  # 2 must not be the end: see CLIPTextModel's pooling
LENGTH = 32  # tokens


def build_tokenizer() -> Any:
    """One token a word of the world's vocabulary."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate((*SPECIAL, *vocabulary()))}
    made = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex("[^a-z0-9]+"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=LENGTH,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
    )


def build_clip(words: int, size: int = 64, width: int = 128, layers: int = 3) -> Any:
    """A CLIPModel with random weights for pictures of `size` pixels."""
    from transformers import CLIPConfig, CLIPModel

    shared = {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_attention_heads": max(2, width // 32),
    }
    text = shared | {
        "vocab_size": words,
        "num_hidden_layers": max(1, layers - 1),
        "max_position_embeddings": LENGTH,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }
    vision = shared | {"image_size": size, "patch_size": 8, "num_hidden_layers": layers}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def embed(model: Any, tokenizer: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Unit embeddings [B,D] of the pictures and of the captions, prepared as core.scorer prepares them."""
    size = int(model.config.vision_config.image_size)
    planes = standardised(squash(batch["picture"].float() / 255, size), CLIP_MEAN, CLIP_STD)
    seen = model.visual_projection(model.vision_model(pixel_values=planes).pooler_output)
    tokens = tokenizer(batch["caption"], padding=True, truncation=True, return_tensors="pt")
    told = model.text_projection(
        model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
    )
    return F.normalize(seen, dim=-1), F.normalize(told, dim=-1)


def train(
    samples: int,
    batch: int = 128,
    seed: int = 3,
    size: int = 64,
    rate: float = 1e-3,
    speak: Any = print,
    **shape,
) -> tuple[Any, Any]:
    """A trained (model, tokenizer). Deterministic on the CPU for one number of threads."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = build_clip(len(tokenizer), size, **shape).train()
    steps = max(1, samples // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda n: min(1, (n + 1) / warm) * max(0.02, 1 - n / steps)
    )
    stream = batches(Pictures(seed, size), 0, batch, workers=0)
    began = time.monotonic()
    for step in range(steps):
        seen, told = embed(model, tokenizer, next(stream))
        logits = model.logit_scale.exp().clamp(max=100) * seen @ told.T
        goal = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            speak(
                f"step {step + 1}/{steps}  loss {loss.item():.3f}  {time.monotonic() - began:.0f} s",
                flush=True,
            )
    return model.eval(), tokenizer


@torch.no_grad()
def retrieval(model: Any, tokenizer: Any, count: int = 128, seed: int = 1_000_003) -> float:
    """How often the caption of an unseen picture is the nearest of `count` captions; chance is 1 / count."""
    size = int(model.config.vision_config.image_size)
    seen, told = embed(model, tokenizer, next(batches(Pictures(seed, size, "test"), 0, count, workers=0)))
    return float(((seen @ told.T).argmax(-1) == torch.arange(count)).float().mean())


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes the transformers folder, weights as float16; the given model stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the CLIP")
    parser.add_argument("--samples", type=at_least(1), default=60_000)
    parser.add_argument("--batch", type=at_least(2), default=128)
    parser.add_argument("--size", type=at_least(32), default=64)
    parser.add_argument(
        "--seed", type=at_least(0), default=3, help="not 1: the bundled editor trains on that world"
    )
    chosen = parser.parse_args(arguments)
    model, tokenizer = train(chosen.samples, chosen.batch, chosen.seed, chosen.size)
    save(model, tokenizer, chosen.out)
    print(json.dumps({"folder": str(chosen.out), "retrieval_of_128": round(retrieval(model, tokenizer), 3)}))


if __name__ == "__main__":
    main()
