"""How a task vector reaches the network.

Emu Edit (arXiv 2311.10089; notes on its section on learned task embeddings) feeds the task embedding to the
U-Net twice: through cross-attention, and added to the timestep embedding. Width, number of tokens and
initialisation are not published. Here:

- timestep half: stock diffusers, `UNet2DConditionModel(class_embed_type="simple_projection")`, whose
  `class_embedding` is a linear layer on the vector; it lives in the U-Net, not in this module;
- cross-attention half: a linear map of the vector is added to context position 0, the begin-of-text token.
  An appended token would change the softmax even at zero, so an upgraded model would no longer give its own
  pictures; adding a zero-initialised projection to a position that is always present is exact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .errors import EmuEditError
from .tasks import NO_TASK, TASK_IDS


class TaskConditioner(nn.Module):
    """The table of task vectors [len(names), D] and the map from a vector to the context width C.

    The table starts as a normal distribution of standard deviation `table_std` drawn from `seed`; the map
    starts at zero. Parameters stay float32 whatever the model is cast to: they are a few kilobytes, and the
    fingerprint by which task files know their editor must not depend on the type a model is run at.
    """

    def __init__(
        self,
        task_width: int,
        context_width: int,
        names: Sequence[str] = TASK_IDS,
        *,
        seed: int = 0,
        table_std: float = 0.1,
    ) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names) or NO_TASK in names or "" in names:
            raise EmuEditError(
                f"task names {list(names)}: they must be different, not empty, and none may be {NO_TASK!r}."
            )
        if task_width < 1 or context_width < 1:
            raise EmuEditError(
                f"task width {task_width}, context width {context_width}: both must be positive."
            )
        self.names: tuple[str, ...] = tuple(names)
        self.table = nn.Embedding(len(self.names), task_width)
        self.to_context = nn.Linear(task_width, context_width, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.table.weight.copy_(torch.randn(len(self.names), task_width, generator=generator) * table_std)
            self.to_context.weight.zero_()

    @property
    def task_width(self) -> int:
        """D, the width of a task vector."""
        return self.table.embedding_dim

    @property
    def context_width(self) -> int:
        """C, the width of the text context."""
        return self.to_context.out_features

    def vector(self, name: str) -> Tensor:
        """The vector [D] of a task in the table (differentiable); zeros for "none"."""
        if name == NO_TASK:
            return torch.zeros_like(self.table.weight[0])
        if name not in self.names:
            known = ", ".join((NO_TASK, *self.names))
            raise EmuEditError(f"task {name!r}: this editor knows {known}; pick one of these.")
        return self.table.weight[self.names.index(name)]

    def condition_context(self, hidden: Tensor, vector: Tensor) -> Tensor:
        """Text context `hidden` [B,L,C] with the task `vector` [B,D] (or [1,D]) added to position 0.

        A zero vector, or an untrained map, gives back equal numbers. Raises EmuEditError on other shapes.
        """
        if hidden.ndim != 3 or hidden.shape[2] != self.context_width or hidden.shape[1] < 1:
            raise EmuEditError(
                f"text context of shape {list(hidden.shape)}: this editor reads [batch, tokens, "
                f"{self.context_width}]; use its own text encoder."
            )
        rows_fit = vector.ndim == 2 and vector.shape[0] in (1, hidden.shape[0])
        if not rows_fit or vector.shape[1] != self.task_width:
            raise EmuEditError(
                f"task vector of shape {list(vector.shape)}: this editor takes "
                f"[{hidden.shape[0]}, {self.task_width}]; use a task made for it."
            )
        weight = self.to_context.weight
        shift = self.to_context(vector.to(weight.device, weight.dtype)).to(hidden.device, hidden.dtype)
        return torch.cat([hidden[:, :1] + shift[:, None], hidden[:, 1:]], dim=1)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that name this editor's task space: the names, the table and the map.

        A vector means something only together with these; training further gives a new fingerprint.
        """
        header = [list(self.names), self.task_width, self.context_width]
        digest = hashlib.sha256(json.dumps(header).encode())
        for weight in (self.table.weight, self.to_context.weight):
            digest.update(weight.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TaskConditioner:
        """Follow a move to another device, not a change of type (see the class)."""

        def move_only(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(move_only, recurse)
        return self
