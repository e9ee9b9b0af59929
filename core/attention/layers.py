"""What a host (diffusers, ComfyUI) tells a control about a layer, and what it asks of the control.

Rows are items of the network's batch. A control never keeps a reference to a network; the host puts it in
place for one call of `Backbone.predict` and takes it out again, whatever happens in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

SELF, CROSS, FEATURES = "self", "cross", "features"


@dataclass(frozen=True)
class AttentionLayer:
    """One place where a control may step in.

    kind: "self" or "cross" for attention over `tokens` = height * width queries, "features" for the inner
    branch of a residual block. place: "down", "mid" or "up". block: the running number of the residual block
    in that place to which the layer belongs (for "up" the output block of the original Stable Diffusion, 0 to
    11). size: (height, width) of the layer's grid, in cells; (1, tokens) where the grid is not known.
    """

    name: str
    kind: str
    place: str
    block: int
    size: tuple[int, int]

    @property
    def tokens(self) -> int:
        """Queries of an attention layer, cells of a feature map."""
        return self.size[0] * self.size[1]


class AttentionControl(Protocol):
    """What `Backbone.predict` takes as `control`. Where `wants` says no, the network runs its own code."""

    def wants(self, layer: AttentionLayer) -> bool: ...

    def attend(
        self, layer: AttentionLayer, q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None
    ) -> Tensor:
        """The layer's output [B,heads,N,D] in place of softmax(scale * q k^T + mask) v.

        q [B,heads,N,D], k and v [B,heads,M,D] with M = N for self-attention and the number of text tokens
        for cross-attention; mask is None or broadcasts to [B,heads,N,M].
        """

    def features(self, layer: AttentionLayer, hidden: Tensor) -> Tensor:
        """The residual branch's output [B,C,h,w] in place of `hidden`."""
