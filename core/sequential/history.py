"""What many turns did to the first picture: where nothing ever changed, its own pixels come back.

A chain of kept pictures has them anyway. The history is for chains that break: a turn that was fed the
editor's raw output, or a picture that went through a JPEG file. It is a value, not a store: every turn
returns a new one, so that loops, branches and caches cannot mix chains up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..images import check_images

FORMAT = "emu-edit turn history"
VERSION = 1


@dataclass(frozen=True, eq=False)
class TurnHistory:
    """first: [B,H,W,3] the picture before any turn. changed: bool [B,H,W], where some turn took its edit.

    turns: what each turn reported, JSON-safe, in order.
    """

    first: Tensor
    changed: Tensor
    turns: tuple[dict[str, Any], ...] = ()

    def restore(self, kept: Tensor, changed: Tensor, turn: Mapping[str, Any]) -> tuple[Tensor, TurnHistory]:
        """Add a turn: (the kept picture with the first one's bits where nothing ever changed, new
        history).
        """
        ever = self.changed.to(changed.device) | changed
        first = self.first.to(kept)
        restored = torch.where(ever[..., None], kept, first)
        return restored, TurnHistory(self.first, ever, (*self.turns, dict(turn)))

    def to_json(self) -> dict[str, Any]:
        """All but the first picture, which is named by its size and digest. Masks are run lengths, black
        first.
        """
        return {
            "format": FORMAT,
            "version": VERSION,
            "shape": list(self.first.shape),
            "first": digest(self.first),
            "changed": [run_lengths(plane) for plane in self.changed],
            "turns": list(self.turns),
        }


def begin(first: Tensor) -> TurnHistory:
    """The history before any turn of the picture [B,H,W,3]."""
    first = check_images(first, "history, first picture")
    return TurnHistory(first, torch.zeros(first.shape[:3], dtype=torch.bool, device=first.device))


def from_json(data: Mapping[str, Any], first: Tensor) -> TurnHistory:
    """Read what `to_json` wrote; `first` must be the very picture it was begun with."""
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise EmuEditError("history: this is no turn history of version 1; give what an earlier turn wrote.")
    first = check_images(first, "history, first picture")
    if data.get("shape") != list(first.shape) or data.get("first") != digest(first):
        raise EmuEditError(
            "history: it was begun with another first picture; give that one, or begin a new history."
        )
    height, width = first.shape[1:3]
    planes = [_from_runs(runs, height, width) for runs in data.get("changed", ())]
    if len(planes) != len(first):
        raise EmuEditError(
            f"history: it holds {len(planes)} masks for {len(first)} pictures; begin a new history."
        )
    return TurnHistory(first, torch.stack(planes).to(first.device), tuple(data.get("turns", ())))


def digest(images: Tensor) -> str:
    """Sixteen hexadecimal digits that tell pictures apart."""
    data = images.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(data.tobytes()).hexdigest()[:16]


def run_lengths(plane: Tensor) -> list[int]:
    """Bool [H,W] -> the lengths of its runs row by row, black and white in turn, black first (maybe 0)."""
    flat = plane.flatten().cpu()
    edges = (flat[1:] != flat[:-1]).nonzero().flatten() + 1
    ends = torch.cat([edges, torch.tensor([flat.numel()])])
    lengths = torch.diff(ends, prepend=torch.tensor([0])).tolist()
    return [0, *lengths] if bool(flat[0]) else lengths


def _from_runs(runs: list[int], height: int, width: int) -> Tensor:
    lengths = torch.tensor(runs, dtype=torch.int64)
    if bool((lengths < 0).any()) or int(lengths.sum()) != height * width:
        raise EmuEditError("history: a mask in it does not fit the picture; begin a new history.")
    values = torch.arange(len(lengths)) % 2 == 1
    return values.repeat_interleave(lengths).reshape(height, width)
