"""Which pair is controlled how, at which step: the plan, and the control of one step that networks are given.

The conditional half only: rows of the batch that no loan names (the unconditional half, in pairs) attend as
ever. Prompt-to-Prompt does the same; Emu Edit does not say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .algebra import attention, edit_cross, edit_tables, inject_self, pick, put
from .layers import FEATURES, SELF, AttentionLayer
from .record import MapRecorder

Steps = tuple[int, int]
NEVER: Steps = (0, 0)


@dataclass(frozen=True, eq=False)
class PairPlan:
    """How one target is tied to its source. Steps are half-open ranges (first, end) of step numbers.

    self_steps: self-attention of the source (its queries and keys, the target's values), in layers of at most
    `self_most_tokens` queries (None: all), and if `self_blocks` names output blocks, in those only.
    feature_steps, feature_blocks: the source's inner features of those output blocks (Plug-and-Play,
    2211.12572).
    alphas [steps or more,L]: weights of the edited cross-attention maps, None for none; how they are edited
    is said by mapper and common [L] (refinement), or replacement [L,L] (word swap), and factors [L]
    (re-weighting).
    """

    self_steps: Steps = NEVER
    self_most_tokens: int | None = None
    self_blocks: Collection[int] | None = None
    feature_steps: Steps = NEVER
    feature_blocks: Collection[int] = ()
    alphas: Tensor | None = None
    mapper: Tensor | None = None
    common: Tensor | None = None
    replacement: Tensor | None = None
    factors: Tensor | None = None

    def lends_self(self, layer: AttentionLayer) -> bool:
        """Whether self-attention of this layer is injected (at the steps for it)."""
        if self.self_most_tokens is not None and layer.tokens > self.self_most_tokens:
            return False
        return self.self_blocks is None or (layer.place == "up" and layer.block in self.self_blocks)

    def lends_features(self, layer: AttentionLayer) -> bool:
        """Whether features of this layer are injected (at the steps for it)."""
        return layer.place == "up" and layer.block in self.feature_blocks

    def cross_tables(self, step: int) -> tuple[Tensor, Tensor] | None:
        """(mix [L,L], keep [L]) of a step; None where the target keeps its own cross-attention."""
        if self.alphas is None or step >= len(self.alphas) or not bool(self.alphas[step].any()):
            return None
        return edit_tables(self.alphas[step], self.mapper, self.common, self.replacement, self.factors)


@dataclass(frozen=True)
class Loan:
    """In this call's batch, row `target` is tied to row `source` by the plan of `pair`."""

    pair: int
    source: int
    target: int


@dataclass
class StepControl:
    """The control of one call; see layers.AttentionControl. Made by `control_at`."""

    self_loans: list[tuple[PairPlan, Loan]] = field(default_factory=list)
    feature_loans: list[tuple[PairPlan, Loan]] = field(default_factory=list)
    cross_loans: list[Loan] = field(default_factory=list)
    mix: Tensor | None = None  # [n,L,L] of cross_loans
    keep: Tensor | None = None  # [n,L], None for zeros
    loans: list[Loan] = field(default_factory=list)  # all, for recording
    recorder: MapRecorder | None = None

    def wants(self, layer: AttentionLayer) -> bool:
        if layer.kind == SELF:
            return any(plan.lends_self(layer) for plan, _ in self.self_loans)
        if layer.kind == FEATURES:
            return any(plan.lends_features(layer) for plan, _ in self.feature_loans)
        return bool(self.cross_loans) or (self.recorder is not None and self.recorder.wants(layer))

    def attend(
        self, layer: AttentionLayer, q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None
    ) -> Tensor:
        if layer.kind == SELF:
            lent = [loan for plan, loan in self.self_loans if plan.lends_self(layer)]
            return inject_self(q, k, v, *_rows(lent), scale, mask)
        if self.recorder is not None and self.recorder.wants(layer):
            self._record(layer, q, k, scale, mask)
        if self.mix is None:
            return attention(q, k, v, scale, mask)
        return edit_cross(q, k, v, *_rows(self.cross_loans), self.mix, self.keep, scale, mask)

    def features(self, layer: AttentionLayer, hidden: Tensor) -> Tensor:
        sources, targets = _rows([loan for plan, loan in self.feature_loans if plan.lends_features(layer)])
        mixed = hidden.clone()
        put(mixed, targets, pick(hidden, sources))
        return mixed

    def _record(self, layer: AttentionLayer, q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> None:
        recorder = self.recorder
        assert recorder is not None
        by_source = {loan.pair: loan.source for loan in self.loans}
        pairs = list(by_source)
        words = recorder.source[pairs].transpose(1, 2)
        recorder.add(layer, 0, pairs, words, q, k, list(by_source.values()), scale, mask)
        edited = {loan.pair for loan in self.cross_loans}
        plain = [loan for loan in self.loans if loan.pair not in edited and loan.target != loan.source]
        for loans, mix, keep in ((plain, None, None), (self.cross_loans, self.mix, self.keep)):
            if not loans:
                continue
            sources, targets = _rows(loans)
            pairs = [loan.pair for loan in loans]
            words = recorder.target[pairs].transpose(1, 2)
            if mix is None:
                recorder.add(layer, 1, pairs, words, q, k, targets, scale, mask)
                continue
            recorder.add(layer, 1, pairs, mix.float().cpu() @ words, q, k, sources, scale, mask)
            if keep is not None:
                own = keep.float().cpu()[..., None] * words
                recorder.add(layer, 1, pairs, own, q, k, targets, scale, mask, count=False)


def control_at(
    step: int,
    plans: Sequence[PairPlan],
    loans: Sequence[Loan],
    recorder: MapRecorder | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> StepControl | None:
    """The control of one step, or None when nothing is to be done, so that the network runs on its own.

    A loan whose target is its source controls nothing and is only recorded. `device` and `dtype` are the
    network's, so that the small tables are moved once a step.
    """
    control = StepControl(loans=list(loans), recorder=recorder)
    mixes, keeps = [], []
    for loan in loans:
        plan = plans[loan.pair]
        if loan.target == loan.source:
            continue
        if plan.self_steps[0] <= step < plan.self_steps[1]:
            control.self_loans.append((plan, loan))
        if plan.feature_steps[0] <= step < plan.feature_steps[1]:
            control.feature_loans.append((plan, loan))
        tables = plan.cross_tables(step)
        if tables is not None:
            control.cross_loans.append(loan)
            mixes.append(tables[0])
            keeps.append(tables[1])
    if mixes:
        control.mix = torch.stack(mixes).to(device, dtype)
        keep = torch.stack(keeps)
        control.keep = keep.to(device, dtype) if bool(keep.any()) else None
    used = control.self_loans or control.feature_loans or control.cross_loans or recorder is not None
    return control if used else None


def _rows(loans: Sequence[Loan]) -> tuple[list[int], list[int]]:
    return [loan.source for loan in loans], [loan.target for loan in loans]
