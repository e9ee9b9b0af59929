"""Attention control as functions of queries, keys and values, without attention maps.

A map is only ever used as a factor of values, and what the controls do to maps is linear. So for a target
with values v and source and target maps P_s and P_t,

    self-attention injection   P_s v                    = attention(q_s, k_s, v)
    cross-attention, any edit  (P_s M + P_t diag(d)) v  = attention(q_s, k_s, M v) + attention(q_t, k_t, d v)

with a small matrix M over text tokens: word swap, refinement, re-weighting and their schedule all have that
form (see edit_tables). Both sides on the right run in the fused kernel, in memory linear in the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Rows = Sequence[int]


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(scale * q k^T + mask) v, [B,heads,N,D], in the fused kernel."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def probabilities(q: Tensor, k: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """The map itself, softmax(scale * q k^T + mask) [B,heads,N,M] float32: for recording cross-attention."""
    logits = torch.matmul(q.float(), k.float().transpose(-1, -2)) * scale
    return (logits if mask is None else logits + mask).softmax(dim=-1)


def inject_self(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sources: Rows,
    targets: Rows,
    scale: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Self-attention [B,heads,N,D] where row targets[i] attends as row sources[i] does, to its own values.

    The other rows attend as ever.
    """
    out = _empty(q, v)
    lent = attention(pick(q, sources), pick(k, sources), pick(v, targets), scale, pick_mask(mask, sources))
    put(out, targets, lent)
    _attend_rest(out, q, k, v, targets, scale, mask)
    return out


def edit_cross(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sources: Rows,
    targets: Rows,
    mix: Tensor,
    keep: Tensor | None,
    scale: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Cross-attention [B,heads,N,D] where target i's map is P_source mix[i] + P_target diag(keep[i]).

    mix [n,L,L] (source token, target token) and keep [n,L] (None for zeros) for n = len(targets) pairs; the
    other rows attend as ever.
    """
    out = _empty(q, v)
    values = pick(v, targets)
    mixed = torch.matmul(mix.to(values)[:, None], values)
    edited = attention(pick(q, sources), pick(k, sources), mixed, scale, pick_mask(mask, sources))
    if keep is not None:
        kept = keep.to(values)[:, None, :, None] * values
        edited = edited + attention(pick(q, targets), pick(k, targets), kept, scale, pick_mask(mask, targets))
    put(out, targets, edited)
    _attend_rest(out, q, k, v, targets, scale, mask)
    return out


def edit_tables(
    alpha: Tensor,
    mapper: Tensor | None = None,
    common: Tensor | None = None,
    replacement: Tensor | None = None,
    factors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(mix [L,L], keep [L]) of one pair at one step.

    alpha [L] in 0..1: how much of target token n's map is the edited one, the rest being the target's own.
    Edited is, for refinement, the source's map at `mapper` where `common` is 1 and the target's own
    elsewhere; for a word swap the source's map times `replacement` [L,L]; without either the source's map.
    Then each column is multiplied by `factors` [L] (re-weighting).
    """
    length = alpha.shape[0]
    own = torch.zeros(length)
    if replacement is not None:
        edited = replacement.clone()
    elif mapper is not None and common is not None:
        edited = torch.zeros(length, length)
        edited[mapper.clamp(min=0), torch.arange(length)] = common
        own = 1.0 - common
    else:
        edited = torch.eye(length)
    weight = alpha if factors is None else alpha * factors
    return edited * weight, own * weight + (1.0 - alpha)


def pick(values: Tensor, rows: Rows) -> Tensor:
    """Rows of a batch: a view where they follow each other, else a copy."""
    first = rows[0]
    if list(rows) == list(range(first, first + len(rows))):
        return values[first : first + len(rows)]
    return values.index_select(0, torch.tensor(list(rows), device=values.device))


def put(values: Tensor, rows: Rows, new: Tensor) -> None:
    """Write rows of a batch in place."""
    first = rows[0]
    if list(rows) == list(range(first, first + len(rows))):
        values[first : first + len(rows)] = new
    else:
        values[torch.tensor(list(rows), device=values.device)] = new


def pick_mask(mask: Tensor | None, rows: Rows) -> Tensor | None:
    """The rows of an attention mask that has any."""
    return mask if mask is None or mask.ndim < 4 or mask.shape[0] == 1 else pick(mask, rows)


def _empty(q: Tensor, v: Tensor) -> Tensor:
    return q.new_empty(*q.shape[:-1], v.shape[-1])


def _attend_rest(
    out: Tensor, q: Tensor, k: Tensor, v: Tensor, done: Rows, scale: float, mask: Tensor | None
) -> None:
    """Ordinary attention for the rows of the batch that are not `done`, run by run."""
    finished = set(done)
    runs: list[list[int]] = []
    for row in range(q.shape[0]):
        if row in finished:
            continue
        if runs and runs[-1][-1] == row - 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    for rows in runs:
        lent = attention(pick(q, rows), pick(k, rows), pick(v, rows), scale, pick_mask(mask, rows))
        put(out, rows, lent)
