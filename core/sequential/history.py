"""What many turns did to the first picture: where nothing ever changed, its own pixels come back.

A chain of kept pictures has them anyway. The history is for chains that break: a turn that was fed the
editor's raw output, or a picture that went through a JPEG file. A turn that was fed a picture which somebody
changed all over begins the history anew. It is a value, not a store: every turn returns a new one, so that
loops, branches and caches cannot mix chains up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..filters import gaussian_low_pass
from ..images import check_images
from ..thresholding import ALPHA

FORMAT = "emu-edit turn history"
VERSION = 1
# Pixels: an edit of the whole picture moves colours over areas; an editor's shift, blur and JPEG move them at
# edges, to either side, and are gone from such a low-pass of the difference.
AREA = 6.0
# Share of what no turn had changed yet: above what several raw turns of an editor leave, below a change of
# tint or weather.
LARGE = 0.15


@dataclass(frozen=True, eq=False)
class TurnHistory:
    """first: [B,H,W,3] the picture before any turn. changed: bool [B,H,W], where some turn took its edit.

    turns: what each turn reported, JSON-safe, in order.
    """

    first: Tensor
    changed: Tensor
    turns: tuple[dict[str, Any], ...] = ()

    def follow(self, previous: Tensor, alpha: float = ALPHA) -> tuple[TurnHistory, list[int]]:
        """(The history as it stands before a turn on `previous` [B,H,W,3], the pictures begun anew).

        A picture is begun anew from `previous` if, beyond what the turns changed, more than LARGE of it
        differs from the first by `alpha` (0..1) and more: it was edited outside the chain, in style or
        colours, and the first picture must not come back under it.
        """
        # A turn that takes all for a change (0) or nothing (1, infinity) says nothing of earlier ones.
        least = alpha if ALPHA <= alpha < 1 else ALPHA
        count = len(previous)
        first = self.first.to(previous).expand(count, -1, -1, -1)
        changed = self.changed.to(previous.device).expand(count, -1, -1)
        anew = [i for i in range(count) if _elsewhere(first[i], previous[i], ~changed[i], least)]
        if not anew:
            return self, anew
        first, changed = first.clone(), changed.clone()
        first[anew], changed[anew] = previous[anew], False
        return TurnHistory(first, changed, self.turns), anew

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


def _elsewhere(first: Tensor, previous: Tensor, free: Tensor, alpha: float) -> bool:
    """Whether most of [H,W,3] was changed where `free` [H,W] says that no turn did."""
    total = int(free.sum())
    if total == 0 or torch.equal(first, previous):
        return False
    seen = free.to(first.dtype)
    planes = torch.cat([((previous - first) * seen[..., None]).movedim(-1, 0), seen[None]])
    low = gaussian_low_pass(planes, AREA)
    difference = (low[:3] / low[3].clamp(min=1e-6)).abs().mean(dim=0)
    return int(((difference >= alpha) & free).sum()) > LARGE * total


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
