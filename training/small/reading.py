"""Teach the bundled editor's text encoder to read, before or between the pictures.

    python -m emu_edit.training.small.reading --from models/small --out runs/reader --texts 300000

Pictures alone teach words slowly. What an instruction says is known exactly here, so the encoder and the
layer that pools its words for the U-Net are first trained to tell it: who is meant, what it becomes, where,
which word, which backdrop. Plans are drawn up but no picture is, which costs a small part of a training
step. The head that tells is thrown away; training with pictures then leaves what reads alone. `train` begins
a fresh editor with this by itself; the command is for an editor that is there, and ends with how often each
thing is told right on texts it never saw, and on wordings it never saw.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ...core.checkpoints import bundled_editor_path, load_editor, save_editor
from ...core.diffusers_backbone import DiffusersBackbone
from ...core.editor_folder import check_destination
from ...core.errors import EmuEditError
from ..arguments import at_least
from .data import prepare_worker
from .facts import MENTIONS, SLOTS, told
from .muon import Muon, split_parameters
from .recipe import Recipe

BATCH = 128
RATE = 1e-3
TEST_TEXTS = 2000


class Texts(Dataset):
    """Item i -> (instruction or caption, slot labels int64 [S], mentions float32 [M]); see facts.told."""

    def __init__(self, seed: int, count: int, split: str = "train") -> None:
        self.seed, self.count, self.split = seed, count, split

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        return told(np.random.default_rng((self.seed, index, 11)), self.split)


class Reader(nn.Module):
    """Text encoder, the U-Net's pooling of words, and a linear head that tells what they say."""

    def __init__(self, editor: DiffusersBackbone, recipe: Recipe) -> None:
        super().__init__()
        self.tokenizer, self.length = editor.tokenizer, recipe.text_tokens
        self.text_encoder, self.pool = editor.text_encoder, editor.unet.add_embedding
        self.classes = [len(options) for options in SLOTS.values()]
        self.head = nn.Linear(self.pool.proj.out_features, sum(self.classes) + len(MENTIONS))
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias[sum(self.classes) :], -4.0)  # few things are mentioned

    def forward(self, texts: Sequence[str]) -> tuple[list[Tensor], Tensor]:
        """(logits [B, options] of each slot, logits [B, M] of the mentions)."""
        rows = self.tokenizer(list(texts), padding="max_length", max_length=self.length, truncation=True)
        hidden = self.text_encoder(torch.tensor(rows["input_ids"]))[0]
        *slots, mentions = self.head(self.pool(hidden)).split([*self.classes, len(MENTIONS)], 1)
        return slots, mentions

    def loss(self, texts: Sequence[str], slots: Tensor, mentions: Tensor) -> Tensor:
        """Cross-entropy of the slots and of the mentions, each told wrong by chance counting about alike."""
        found, named = self(texts)
        wrong = [F.cross_entropy(logits, slots[:, k]) for k, logits in enumerate(found)]
        missed = F.binary_cross_entropy_with_logits(named, mentions, reduction="none").sum(1).mean()
        return torch.stack(wrong).sum() + missed

    @torch.no_grad()
    def accuracy(self, texts: Texts) -> dict[str, float]:
        """Of each slot, how often it is told right where there is something to tell; of mentions, the F1."""
        right: list[Tensor] = []
        given: list[Tensor] = []
        named: list[Tensor] = []
        for words, slots, mentions in _loader(texts, 0):
            found, seen = self(words)
            right.append(torch.stack([logits.argmax(1) for logits in found], 1) == slots)
            given.append(slots > 0)
            named.append(torch.stack([(seen > 0) & (mentions > 0), seen > 0, mentions > 0]).sum((1, 2)))
        hits, said = torch.cat(right), torch.cat(given)
        scores = {
            slot: round(float(hits[said[:, k], k].float().mean()), 3)
            for k, slot in enumerate(SLOTS)
            if said[:, k].any()
        }
        both, claimed, true = torch.stack(named).sum(0).tolist()
        scores["mentions"] = round(2 * both / max(claimed + true, 1), 3)
        scores["all"] = round(float(hits.all(1).float().mean()), 3)
        return scores


def _loader(texts: Texts, workers: int) -> DataLoader[Any]:
    return DataLoader(
        texts,
        BATCH,
        num_workers=workers,
        prefetch_factor=16 if workers else None,
        worker_init_fn=prepare_worker,
    )


def deepened(editor: DiffusersBackbone, layers: int) -> None:
    """Give the text encoder as many layers, in place; new ones do nothing until they are trained."""
    from transformers import CLIPTextModel

    old = editor.text_encoder
    have = int(old.config.num_hidden_layers)
    if have == layers:
        return
    if have > layers:
        raise EmuEditError(
            f"training: {editor.name} reads with {have} layers, and the recipe has {layers}; leave --from "
            "out, or give an editor of this recipe."
        )
    made = CLIPTextModel(type(old.config).from_dict(old.config.to_dict() | {"num_hidden_layers": layers}))
    made.load_state_dict(old.state_dict(), strict=False)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name not in old.state_dict() and ("out_proj" in name or "fc2" in name):
                weight.zero_()
    editor.text_encoder = made


def teach(
    editor: DiffusersBackbone,
    recipe: Recipe,
    count: int,
    workers: int,
    seed: int = 0,
    stopped: Callable[[], bool] = lambda: False,
) -> Reader:
    """Train what reads on `count` texts, in place, on the CPU, and say on the way how well it does.

    Raises EmuEditError when `stopped` says so; a reader half taught is of no use.
    """
    torch.manual_seed(seed)
    reader = Reader(editor, recipe).train().requires_grad_(True)
    hidden, rest = split_parameters(reader)
    optimisers = [
        torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True),
        Muon(hidden, RATE * recipe.matrix_rate, weight_decay=recipe.weight_decay),
    ]
    steps, began = math.ceil(count / BATCH), time.monotonic()
    losses: list[float] = []
    for step, (words, slots, mentions) in enumerate(_loader(Texts(recipe.world_seed, count), workers)):
        if stopped():
            raise EmuEditError("training: stopped while reading, of which nothing is kept; start it again.")
        rise = min(1.0, (step + 1) / min(100, 1 + steps // 10))
        factor = rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        for optimiser, rate in zip(optimisers, (RATE, RATE * recipe.matrix_rate), strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
        loss = reader.loss(words, slots, mentions)
        reader.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), recipe.clip)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            shown = (step + 1) * BATCH
            mean = sum(losses[-100:]) / 100
            print(
                f"{shown} texts, loss {mean:.3f}, {shown / (time.monotonic() - began):.0f} a second",
                flush=True,
            )
    return reader.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="start", type=Path, default=bundled_editor_path())
    parser.add_argument("--out", type=Path, required=True, help="folder of the editor that can read")
    parser.add_argument("--texts", type=at_least(1), default=Recipe().texts)
    parser.add_argument("--workers", type=at_least(0), default=1, help="processes that draw up plans")
    chosen = parser.parse_args(arguments)
    recipe = Recipe()
    try:
        check_destination(chosen.out)
        editor = load_editor(chosen.start)
        if getattr(editor.unet, "add_embedding", None) is None:
            raise EmuEditError(
                f"reading: the U-Net of {chosen.start} pools no words; give an editor of small.train."
            )
        deepened(editor, recipe.text_layers)
        reader = teach(editor, recipe, chosen.texts, chosen.workers)
        save_editor(editor, chosen.out)
    except EmuEditError as slip:
        print(slip, file=sys.stderr)
        return 1
    for split in ("test", "wordings"):
        print(split, reader.accuracy(Texts(7, TEST_TEXTS, split)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
