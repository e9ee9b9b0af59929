"""A real picture in another style: Plug-and-Play features over DDIM inversion.

Tumanyan et al. 2211.12572, as Emu Edit makes its style pairs (arXiv 2311.10089, section 7.2): the picture is
inverted, and while a target caption is sampled from its noise, features of one output block and the
self-attention of later ones come from the inverted picture at the same step, in both halves of the guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..attention.control import Loan, PairPlan, control_at
from ..attention.survey import layers_of, style_blocks
from ..attention.windows import check_fraction, steps_below
from ..backbone import Backbone, TextContext
from ..errors import EmuEditError
from ..images import check_images, plan_resize
from ..inversion import ddim_inversion
from ..sampling import OnStep, sample
from .generate import PairResult


@dataclass(frozen=True)
class StyleSettings:
    """How to restyle. None means what the backbone recommends, for the blocks what survey.style_blocks says.

    steps; guidance of the target caption; self_fraction N_s (Emu Edit draws 0.5 to 1) and feature_fraction
    (0.8) of the steps; feature_blocks, self_blocks: output blocks by number; iterations and substeps of the
    inversion; size: the longest side in pixels at work. Raises EmuEditError for values out of range.
    """

    steps: int | None = None
    guidance: float = 7.5
    self_fraction: float = 0.5
    feature_fraction: float = 0.8
    feature_blocks: tuple[int, ...] | None = None
    self_blocks: tuple[int, ...] | None = None
    iterations: int = 1
    substeps: int = 1
    size: int | None = None

    def __post_init__(self) -> None:
        check_fraction("self_fraction", self.self_fraction)
        check_fraction("feature_fraction", self.feature_fraction)
        if not 0 <= self.guidance < float("inf"):
            raise EmuEditError(f"style settings: guidance is {self.guidance}; give a number of 0 or more.")


def restyle(
    backbone: Backbone,
    images: Tensor,
    source_captions: Sequence[str],
    target_captions: Sequence[str],
    settings: StyleSettings | None = None,
    negative_captions: Sequence[str] | None = None,
    on_step: OnStep | None = None,
) -> PairResult:
    """Pictures [B,H,W,3] in 0..1 -> themselves as `source`, restyled as `target`, of the same size.

    `source_captions` are for the inversion ("" is fine), `negative_captions` for the unconditional half of
    the guidance (Plug-and-Play takes the source captions; None: ""). Nothing is drawn at random. `on_step`
    sees the steps of the inversion and then of the sampling, [B,C,h,w], and may raise to interrupt. Gradients
    are off.
    Raises EmuEditError for input that cannot be restyled, in a sentence naming the value and the mend.
    """
    images = check_images(images, "the picture to restyle")
    count = images.shape[0]
    negatives = [""] * count if negative_captions is None else list(negative_captions)
    for name, given in (("source", source_captions), ("target", target_captions), ("negative", negatives)):
        if isinstance(given, str) or len(given) != count:
            raise EmuEditError(f"restyle: give {count} {name} captions for {count} pictures, not {given!r}.")
    if backbone.takes_image:
        raise EmuEditError(
            f"restyle: {backbone.name!r} is an editor; load a text-to-image model such as Stable "
            "Diffusion 1.5."
        )
    with torch.inference_mode():
        made = _restyle(
            backbone,
            images,
            list(source_captions),
            list(target_captions),
            negatives,
            settings or StyleSettings(),
            on_step,
        )
    # Copies made out here are ordinary tensors again, which may take part in training and in-place changes.
    return replace(
        made,
        source=made.source.clone(),
        target=made.target.clone(),
        source_latents=made.source_latents.clone(),
        target_latents=made.target_latents.clone(),
    )


def _restyle(
    backbone: Backbone,
    images: Tensor,
    sources: list[str],
    targets: list[str],
    negatives: list[str],
    settings: StyleSettings,
    on_step: OnStep | None,
) -> PairResult:
    count, schedule = len(sources), backbone.schedule
    settings = replace(
        settings,
        steps=settings.steps or int(backbone.defaults.get("steps", 50)),
        size=settings.size or int(backbone.defaults.get("size", 512)),
    )
    steps = int(settings.steps or 0)
    plan = plan_resize(images.shape[1], images.shape[2], settings.size, backbone.size_multiple)
    text = backbone.encode_text([*sources, *targets, *negatives])
    clean = backbone.encode_image(plan.apply(images)).float()
    if settings.feature_blocks is None or settings.self_blocks is None:
        features, attended = style_blocks(layers_of(backbone, clean, text))
        settings = replace(
            settings,
            feature_blocks=features if settings.feature_blocks is None else settings.feature_blocks,
            self_blocks=attended if settings.self_blocks is None else settings.self_blocks,
        )
    way = ddim_inversion(
        lambda z, t, index: backbone.predict(z, t, text[:count]),
        schedule,
        clean,
        steps,
        settings.iterations,
        settings.substeps,
        on_step,
    )
    tied = PairPlan(
        self_steps=(0, steps_below(settings.self_fraction, steps)),
        self_blocks=settings.self_blocks,
        feature_steps=(0, steps_below(settings.feature_fraction, steps)),
        feature_blocks=settings.feature_blocks or (),
    )
    halves = 1 if settings.guidance == 1.0 else 2
    loans = [Loan(pair, pair, half * count + pair) for half in range(1, halves + 1) for pair in range(count)]
    wanted = text if halves == 2 else text[: 2 * count]

    def predict(latents: Tensor, timestep: int, index: int) -> Tensor:
        control = control_at(index, [tied] * count, loans, device=backbone.device, dtype=backbone.dtype)
        rows = torch.cat([way[index], *[latents] * halves])
        found = _predict(backbone, rows, timestep, wanted, control, count).chunk(halves)
        return found[-1] + settings.guidance * (found[0] - found[-1]) if halves == 2 else found[0]

    final = sample(predict, schedule, way[0], steps, "ddim", on_step)
    pictures = backbone.decode_latents(final)
    if not bool(torch.isfinite(final).all() and torch.isfinite(pictures).all()):
        raise EmuEditError(
            f"backbone {backbone.name!r}: its pictures in {backbone.dtype} hold NaN or infinities; lower the "
            "guidance, or load it in float32."
        )
    described = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(settings).items()}
    parameters: list[dict[str, Any]] = [
        described
        | {
            "source_caption": sources[pair],
            "target_caption": targets[pair],
            "negative_caption": negatives[pair],
            "backbone": backbone.name,
        }
        for pair in range(count)
    ]
    edited = plan.undo(pictures.to(images.device)).float().cpu()
    return PairResult(images.cpu(), edited, {}, parameters, clean.cpu(), final.cpu())


def _predict(
    backbone: Backbone, rows: Tensor, timestep: int, text: TextContext, control: Any, count: int
) -> Tensor:
    """The prediction for the rows behind the sources, which run only where something is borrowed."""
    if control is None:
        return backbone.predict(rows[count:], timestep, text[count:])
    return backbone.predict(rows, timestep, text, control=control)[count:]
