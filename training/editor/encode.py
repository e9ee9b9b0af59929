"""Pictures and words as the network reads them, from pairs or from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.diffusers_backbone import DiffusersBackbone
from ..data.pairs import Pair


@dataclass(frozen=True, eq=False)
class Encoded:
    """A pair as latents: `image` [C,h,w] (input picture as condition), `target` [C,h,w], `hidden` [L,W]."""

    id: str
    instruction: str
    task: str
    image: Tensor
    target: Tensor
    hidden: Tensor


class Encoder:
    """The frozen parts of an editor at work, a few pictures at a time; latents are the posterior's mode."""

    def __init__(self, editor: DiffusersBackbone, chunk: int = 8) -> None:
        self._editor, self._chunk = editor, chunk
        self.empty = self.texts([""])[0]

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """[N,L,W] float32, on the text encoder's device."""
        return self._editor.encode_text(texts).hidden.detach()

    @torch.no_grad()
    def pictures(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """(image, target), [N,C,h,w] each, of pairs of one size."""
        images, targets = [], []
        for start in range(0, len(pairs), self._chunk):
            part = pairs[start : start + self._chunk]
            images.append(self._editor.image_condition(_tensor([pair.source for pair in part])))
            targets.append(self._editor.encode_image(_tensor([pair.target for pair in part])))
        return torch.cat(images), torch.cat(targets)

    def batch(self, items: Sequence[Pair | Encoded]) -> tuple[Tensor, Tensor, Tensor]:
        """(image, target, hidden) of a batch, from the cache where the items come from there."""
        ready = [item for item in items if isinstance(item, Encoded)]
        if len(ready) == len(items):
            columns = ([e.image for e in ready], [e.target for e in ready], [e.hidden for e in ready])
            image, target, hidden = (torch.stack(column).float() for column in columns)
            return image, target, hidden
        pairs = [item for item in items if isinstance(item, Pair)]
        return *self.pictures(pairs), self.texts([pair.instruction for pair in pairs])


def _tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).float() / 255
