"""Fine-tuning a T5 to answer an instruction with its task's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...core.errors import EmuEditError
from ...core.predictors.base import TASKS
from ...core.predictors.text_to_text import answers, asked
from .corpus import Wording

RATE = 1e-4
BATCH = 16


def fine_tune(
    tokenizer: Any, model: Any, examples: Sequence[Wording], epochs: int, seed: int, rate: float = RATE
) -> None:
    """Train all weights in place by the cross-entropy of the answer's tokens; stops at a loss of NaN."""
    torch.manual_seed(seed)
    labels = answers(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for epoch in range(epochs):
        total, batches = 0.0, torch.randperm(len(examples)).split(BATCH)
        for chosen in batches:
            part = [examples[int(i)] for i in chosen]
            read = asked(tokenizer, [wording.text for wording in part])
            wanted = labels[[TASKS.index(wording.task) for wording in part]]
            loss = model(**read, labels=wanted).loss
            if not torch.isfinite(loss):
                raise EmuEditError(f"the loss is {loss.item()} in epoch {epoch + 1}; lower the rate.")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / len(batches):.4f}", flush=True)
    model.eval()
