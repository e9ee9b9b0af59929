"""Muon: momentum whose update is brought to an orthogonal matrix, for the hidden weights.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". Biases, gains, embeddings and
the first and last layers stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# The quintic iteration of the paper: it drives singular values to about 1 in five rounds.
_A, _B, _C = 3.4445, -4.7750, 2.0315

# First, last and look-up layers: no hidden matrices.
_OUTER = (
    "conv_in.",
    "conv_out.",
    "_mask.",
    "_layout.",
    "table.",
    "token_embedding.",
    "position_embedding.",
    "positional_embedding",
)


def orthogonalised(matrix: Tensor, rounds: int = 5) -> Tensor:
    """About U V^T of a matrix [m, n] = U S V^T, by Newton-Schulz; singular values end within 0.7..1.2.

    Each round multiplies from the left by a polynomial of x x^T, so the rounds are done on that small square
    alone and applied once: a third of the time for the wide matrices of convolutions.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    product = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for left in range(rounds - 1, -1, -1):
        step = torch.addmm(_B * gram, gram, gram, alpha=_C)
        step.diagonal().add_(_A)
        product = step @ product
        if left:
            gram = step @ gram @ step
    return x.T @ product.T if tall else product @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum and an orthogonal update of each weight seen as a matrix [outputs, the rest]."""

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients at hand."""
        for group in self.param_groups:
            rate, keep = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - keep)
                # Channels last, as convolutions are stored: no copies, and the order of columns is all one.
                ahead = weight.grad.lerp(state["momentum"], keep).movedim(1, -1)
                update = orthogonalised(ahead.reshape(len(weight), -1))
                longer = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.mul_(1 - rate * group["weight_decay"])
                weight.add_(update.reshape(ahead.shape).movedim(-1, 1), alpha=-rate * longer)


def split_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(hidden matrices for Muon, everything else for AdamW) of what is trained, in the model's order."""
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        matrix = weight.ndim >= 2 and not any(part in name for part in _OUTER)
        (hidden if matrix else rest).append(weight)
    return hidden, rest
