"""A source and a target picture from two captions, tied by attention control under a soft mask.

Emu Edit (arXiv 2311.10089, section 7.2.1) on the grounds of Prompt-to-Prompt (2208.01626): both pictures
start from the same noise and are denoised in one batch. For the first `blend` fraction of the steps the
target is the source; then its latents are m * target + (1 - m) * source after every step, with the mask m as
soft as it comes. (The paper can also be read as blending in that first fraction only; but then a blank mask,
as for global edits, would do nothing.) Self-attention is injected for the fraction N_s, cross-attention of
common tokens for N_c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..attention.alignment import word_tokens
from ..attention.control import Loan, PairPlan, control_at
from ..attention.local_blend import blend_mask
from ..attention.record import MapRecorder
from ..attention.windows import steps_below
from ..backbone import Backbone, TextContext
from ..edit import starting_noise
from ..errors import EmuEditError
from ..images import fit_mask
from ..sampling import OnStep, StepInfo, sample
from .pair_settings import PairSettings, plan_of

__all__ = ["PairResult", "PairSettings", "generate_pair"]


@dataclass(frozen=True, eq=False)
class PairResult:
    """`source` and `target` [B,H,W,3] float32 in 0..1, on the CPU.

    maps: for each recorded word its mean cross-attention [B,h,w] on the latents' grid, float32, on the CPU
    (of the source where its caption holds the word, else of the target; zeros where neither does).
    parameters: for each pair what makes it again, JSON-able: captions, seed, all settings filled in, whether
    control was on and a mask given, and the backbone's name. source_latents, target_latents [B,C,h,w]
    float32.
    """

    source: Tensor
    target: Tensor
    maps: dict[str, Tensor]
    parameters: list[dict[str, Any]]
    source_latents: Tensor
    target_latents: Tensor


def generate_pair(
    backbone: Backbone,
    source_captions: Sequence[str],
    target_captions: Sequence[str],
    masks: Tensor | None,
    settings: PairSettings | Sequence[PairSettings],
    seeds: Sequence[int],
    record_words: Sequence[str] | None = None,
    on_step: OnStep | None = None,
    control: bool = True,
) -> PairResult:
    """Make B pairs in one batch, from a text-to-image backbone.

    `masks` [H,W] or [1|B,H,W] in 0..1, 1 where the target may differ (any size of the picture's proportions);
    None is a blank mask: everywhere. `settings`: one for all or one for each pair; pairs that share steps,
    sampler and size run as one batch, others one batch after the other. Pair i starts from noise of seeds[i]
    alone, and equals the same pair made alone up to rounding; equal calls give equal bits on one machine.
    `control=False` leaves attention alone; copying and blending of latents stay as the settings say.
    `on_step` sees every step's latents [2B,C,h,w], sources first, already blended (see sampling.StepInfo),
    and may raise to interrupt; latents that it returns are taken. Gradients are off.
    Raises EmuEditError for input that makes no pair, in a sentence naming the value and the mend.
    """
    count = _check(backbone, source_captions, target_captions, seeds)
    chosen = [settings] * count if isinstance(settings, PairSettings) else list(settings)
    if len(chosen) != count:
        raise EmuEditError(
            f"pairs: {len(chosen)} settings for {count} pairs; give one, or one for each pair."
        )
    filled = [one.filled(backbone) for one in chosen]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, one in enumerate(filled):
        groups.setdefault((one.steps, one.sampler, one.size), []).append(index)
    if len({key[2] for key in groups}) > 1:
        raise EmuEditError(
            "pairs: the settings ask for pictures of different sizes; make those in calls apart."
        )
    words = list(dict.fromkeys(record_words or ()))
    parts: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    with torch.inference_mode():
        for group in groups.values():
            run = _Run(
                backbone,
                [source_captions[i] for i in group],
                [target_captions[i] for i in group],
                _mask_rows(masks, count, filled[0], backbone, group),
                [filled[i] for i in group],
                [int(seeds[i]) for i in group],
                words,
                control,
            )
            latents, maps = run.sample(on_step)
            parts |= {pair: (latents[0][at], latents[1][at], maps[at]) for at, pair in enumerate(group)}
        source, target, shown = (torch.stack([parts[i][part] for i in range(count)]) for part in range(3))
        pictures = backbone.decode_latents(torch.cat([source, target])).float().cpu()
    if not bool(torch.isfinite(pictures).all() and torch.isfinite(target).all()):
        raise EmuEditError(
            f"backbone {backbone.name!r}: its pictures in {backbone.dtype} hold NaN or infinities; lower the "
            "guidance, or load it in float32."
        )
    parameters = [
        one.to_json()
        | {
            "source_caption": source_captions[index],
            "target_caption": target_captions[index],
            "seed": int(seeds[index]),
            "control": control,
            "masked": masks is not None,
            "backbone": backbone.name,
        }
        for index, one in enumerate(filled)
    ]
    # Copies made out here are ordinary tensors again, which may take part in training and in-place changes.
    return PairResult(
        pictures[:count].clone(),
        pictures[count:].clone(),
        {word: shown[:, at].clone() for at, word in enumerate(words)},
        parameters,
        source.clone(),
        target.clone(),
    )


class _Run:
    """One batch of pairs that share steps, sampler and size. Latents are [sources, targets]."""

    def __init__(
        self,
        backbone: Backbone,
        source_captions: list[str],
        target_captions: list[str],
        masks: Tensor | None,
        settings: list[PairSettings],
        seeds: list[int],
        words: list[str],
        control: bool,
    ) -> None:
        self.backbone, self.settings, self.masks, self.words = backbone, settings, masks, words
        self.count = len(seeds)
        text = backbone.encode_text([*source_captions, *target_captions, ""])
        self.captions, self.empty = text[:-1], text[-1:]
        source, target = text[: self.count], text[self.count : -1]
        plans = [plan_of(one, source, target, row) for row, one in enumerate(settings)]
        self.plans = plans if control else [PairPlan()] * self.count
        self.steps = int(settings[0].steps or 0)
        self.copied = [steps_below(one.blend, self.steps) for one in settings]
        self.blended = [one.blend_words is not None for one in settings]
        self.recorder = _recorder(source, target, words, settings)
        self.scales = torch.tensor([one.guidance for one in settings], dtype=torch.float32)
        height, width = settings[0].size  # type: ignore[misc]
        shape = (backbone.latent_channels, height // backbone.downscale, width // backbone.downscale)
        noise = torch.stack([starting_noise(shape, seed % 2**64) for seed in seeds]).to(backbone.device)
        self.start = torch.cat([noise, noise])

    def sample(self, on_step: OnStep | None) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """((source latents, target latents) [P,C,h,w], maps [P,W,h,w] on the CPU)."""

        def blended(info: StepInfo) -> Tensor:
            latents = self.blend(info.latents, info.index)
            told = on_step(replace(info, latents=latents)) if on_step is not None else None
            return latents if told is None else told

        one = self.settings[0]
        final = sample(self.predict, self.backbone.schedule, self.start, self.steps, one.sampler, blended)
        height, width = self.start.shape[2:]
        maps = torch.zeros(self.count, len(self.words), height, width)
        if self.recorder is not None and self.words:
            both = self.recorder.maps(height, width)[:, :, : len(self.words)]
            of_source = self.recorder.source[:, : len(self.words)].any(dim=-1)[..., None, None]
            maps = torch.where(of_source, both[0], both[1])
        return (final[: self.count], final[self.count :]), maps

    def predict(self, latents: Tensor, timestep: int, index: int) -> Tensor:
        """The guided prediction [2P,C,h,w]. A target that still copies its source takes its prediction."""
        count = self.count
        active = [pair for pair in range(count) if index >= self.copied[pair]]
        rows = [*range(count), *(count + pair for pair in active)]
        at_target = {pair: count + place for place, pair in enumerate(active)}
        loans = [Loan(pair, pair, at_target.get(pair, pair)) for pair in range(count)]
        control = control_at(
            index, self.plans, loans, self.recorder, self.backbone.device, self.backbone.dtype
        )
        z, text = latents[rows], _take(self.captions, rows)
        scales = self.scales.repeat(2)[rows]
        if bool((scales == 1).all()):
            guided = self.backbone.predict(z, timestep, text, control=control)
        else:
            both = TextContext.cat([text, self.empty.repeat(len(rows))])
            predicted = self.backbone.predict(z.repeat(2, 1, 1, 1), timestep, both, control=control)
            full, none = predicted.chunk(2)
            guided = none + scales.view(-1, 1, 1, 1).to(none) * (full - none)
        return guided[[*range(count), *(at_target.get(pair, pair) for pair in range(count))]]

    def blend(self, latents: Tensor, index: int) -> Tensor:
        """The latents with the targets tied to their sources, as step `index` has it."""
        source, target = latents[: self.count], latents[self.count :]
        weight = torch.ones_like(source[:, :1])
        if self.masks is not None:
            weight = weight * self.masks.to(weight)
        if self.recorder is not None and any(self.blended):
            weight = weight * self._local(index, weight)
        copied = torch.tensor([index < end for end in self.copied], device=weight.device)
        weight = torch.where(copied[:, None, None, None], torch.zeros_like(weight), weight)
        mixed = weight * target + (1 - weight) * source
        # Not only arithmetic: where nothing may change the source's very bits belong.
        return torch.cat([source, torch.where(weight == 0, source, mixed)])

    def _local(self, index: int, weight: Tensor) -> Tensor:
        """Local blend's masks [P,1,h,w], ones for pairs that have none at this step."""
        assert self.recorder is not None
        height, width = weight.shape[2:]
        local = torch.ones_like(weight)
        for pair, one in enumerate(self.settings):
            if self.blended[pair] and index >= max(
                steps_below(one.blend_start, self.steps), self.copied[pair]
            ):
                mask = blend_mask(self.recorder, len(self.words), height, width, one.blend_threshold)
                if mask is not None:
                    local[pair] = mask[pair].to(local)
        return local


def _recorder(
    source: TextContext, target: TextContext, words: list[str], settings: Sequence[PairSettings]
) -> MapRecorder | None:
    """What to record: the chosen words, and in a last column the words of local blend; None for nothing."""
    local = any(one.blend_words is not None for one in settings)
    if not words and not local:
        return None
    count, length = len(source), source.hidden.shape[1]
    select = torch.zeros(2, count, len(words) + 1, length)
    for branch, text in enumerate((source, target)):
        for pair, one in enumerate(settings):
            columns: list[tuple[int, tuple[str, ...]]] = [(at, (word,)) for at, word in enumerate(words)]
            if one.blend_words is not None:
                columns.append((len(words), one.blend_words[branch]))
            for column, chosen in columns:
                for word in chosen:
                    select[branch, pair, column, word_tokens(text, pair, word)] = 1.0
            if one.blend_words is not None and not bool(select[branch, pair, len(words)].any()):
                raise EmuEditError(
                    f"local blend: the caption {' '.join(text.words[pair])!r} holds none of the words "
                    f"{', '.join(map(repr, one.blend_words[branch]))}; name one of its words."
                )
    return MapRecorder(select[0], select[1])


def _take(text: TextContext, rows: Sequence[int]) -> TextContext:
    return TextContext.cat([text[row : row + 1] for row in rows])


def _mask_rows(
    masks: Tensor | None, count: int, settings: PairSettings, backbone: Backbone, group: Sequence[int]
) -> Tensor | None:
    """Masks of the pairs in `group` on the latents' grid [P,1,h,w]."""
    if masks is None:
        return None
    height, width = settings.size  # type: ignore[misc]
    grid = fit_mask(
        masks, count, height // backbone.downscale, width // backbone.downscale, "the pair's mask"
    )
    return grid[list(group), None]


def _check(backbone: Backbone, sources: Sequence[str], targets: Sequence[str], seeds: Sequence[int]) -> int:
    """B, or a sentence about what makes no pair."""
    if backbone.takes_image:
        raise EmuEditError(
            f"pairs: {backbone.name!r} is an editor, which needs a picture to start from; load a "
            "text-to-image model such as Stable Diffusion 1.5."
        )
    for name, given in (("source captions", sources), ("target captions", targets)):
        if isinstance(given, str) or not all(isinstance(one, str) for one in given):
            raise EmuEditError(f"pairs: the {name} are {given!r}; give a list of texts, one for each pair.")
    if not len(sources) == len(targets) == len(seeds) or not sources:
        raise EmuEditError(
            f"pairs: {len(sources)} source captions, {len(targets)} target captions and {len(seeds)} seeds; "
            "give as many of each, at least one."
        )
    return len(sources)
