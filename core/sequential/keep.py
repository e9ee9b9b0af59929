"""Keep an edit and nothing but the edit, whatever editor made it: the steps in order, each optional."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..images import check_images, fit_mask
from ..thresholding import sequential_threshold
from .change import ChangeSettings, change_mask
from .colour import COLOUR_MODES, ColourMatch, match_colour
from .composite import composite, feather
from .fit import FITS, place
from .history import TurnHistory
from .register import Registration


@dataclass(frozen=True)
class KeepSettings:
    """fit: how the editor changed the size ("auto", "stretch", "crop", "pad"). register: undo shift and zoom,
    and with `rotation` turns. colour: "none", "gain", "matrix". feather: px of soft border inside the mask,
    used in the mode "feathered". change: how the pictures are compared."""

    fit: str = "auto"
    register: bool = True
    rotation: bool = True
    colour: str = "gain"
    feather: float = 4.0
    change: ChangeSettings = field(default_factory=ChangeSettings)

    def check(self) -> None:
        """Refuse impossible settings in a sentence."""
        self.change.check()
        if self.fit not in FITS:
            raise EmuEditError(f"keep: {self.fit!r} is no way to fit a picture; choose {', '.join(FITS)}.")
        if self.colour not in COLOUR_MODES:
            raise EmuEditError(
                f"keep: {self.colour!r} is no way to match colours; choose {', '.join(COLOUR_MODES)}."
            )
        if not 0 <= self.feather <= 256:
            raise EmuEditError(f"keep: feather must be 0 to 256 pixels, got {self.feather}; 4 is usual.")


# Pixels of a batch that are worked on together: two pictures of 2048x2048, one of 3840x2160. The steps need
# up to some hundred bytes for each, so that memory would otherwise grow with the batch.
AT_A_TIME = 1 << 23

# The least share of a picture outside a mask that tells a motion and a drift of colours. With less, as in an
# all-white mask, the whole picture is measured on: both estimators are robust against edits.
MEASURABLE = 0.05

# What the thresholding alone did before there were other steps.
PLAIN = KeepSettings(fit="stretch", register=False, colour="none")


@dataclass(frozen=True, eq=False)
class KeepResult:
    """kept: [B,H,W,3] at the previous picture's size. mask: [B,H,W], 0 = the previous picture's bits, 1 = the
    edit.

    report: JSON-safe, one entry a picture in "pictures". history: what to hand to the next turn, if one was
    given. registration: the motion measured, if it was asked for.
    """

    kept: Tensor
    mask: Tensor
    report: dict[str, Any]
    history: TurnHistory | None = None
    registration: Registration | None = None


def keep_edit(
    previous: Tensor,
    edited: Tensor,
    mask: Tensor | None = None,
    settings: KeepSettings | None = None,
    history: TurnHistory | None = None,
    on_part: Callable[[int, int], None] | None = None,
    within: tuple[slice, slice] | None = None,
) -> KeepResult:
    """Of `edited` [b,h,w,3] take what changed against `previous` [B,H,W,3]; either batch may be 1.

    In order: undo the editor's resize, register, match colours on what is unchanged, compare, threshold, drop
    specks and fill holes, composite; with a history, go back to its first picture where nothing ever changed.
    A step that finds nothing to do moves no bit. mask: [1|B,H,W], 1 = may change; outside it nothing does.
    What it allows is not measured on, unless it allows nearly all. Every pixel of `kept` whose mask is 0
    equals the previous picture's (or, with a history, the first one's) bit for bit.

    A large batch is worked on a few pictures at a time, so that memory beyond inputs and outputs stays that
    of AT_A_TIME pixels; on_part is told how many pictures of how many are done, and may raise to interrupt.

    within: rows and columns outside which `edited`, of the previous picture's size, shows no editor's work.
    There the previous picture stays, and the registration is of the part within, about its middle.
    """
    settings = settings or KeepSettings()
    settings.check()
    previous = check_images(previous, "keep, previous picture")
    edited = check_images(edited, "keep, edited picture").to(previous.device)
    count = _batch(len(previous), len(edited))
    previous, edited = (x.expand(count, -1, -1, -1) for x in (previous, edited))
    height, width = previous.shape[1:3]
    allowed = None
    if mask is not None:
        allowed = fit_mask(mask, count, height, width, "keep, mask").to(previous.device)
    if history is not None and history.first.shape[1:] != previous.shape[1:]:
        raise EmuEditError(
            f"keep: the history began with a picture of {history.first.shape[2]}x{history.first.shape[1]} "
            f"pixels, this one has {width}x{height}; begin a new history."
        )
    if history is not None and len(history.first) not in (1, count):
        raise EmuEditError(
            f"keep: the history is of {len(history.first)} pictures, but {count} came in; begin a "
            "new history or wire as many pictures."
        )
    size, own = (height, width), (edited.shape[1], edited.shape[2])
    some = max(1, AT_A_TIME // max(height * width, own[0] * own[1]))
    pieces = [slice(first, first + some) for first in range(0, count, some)]
    done = []
    for piece in pieces:
        here = None if allowed is None else allowed[piece]
        done.append(_keep(previous[piece], edited[piece], here, settings, within))
        if on_part is not None:
            on_part(min(piece.stop, count), count)
    kept, soft = _joined([part.kept for part in done]), _joined([part.mask for part in done])
    report: dict[str, Any] = {
        "size": {
            "previous": list(size),
            "edited": list(own),
            "fit": ", ".join(dict.fromkeys(part.way for part in done)),
        },
        "mode": settings.change.mode,
        "alpha": settings.change.alpha if settings.change.alpha < float("inf") else "infinite",
        "pictures": [entry for part in done for entry in part.pictures],
    }
    if history is not None:
        history, anew = history.follow(previous, settings.change.alpha)
        for index in anew:
            report["pictures"][index]["history"] = "begun anew: much of the previous picture differs"
        kept, history = history.restore(kept, soft > 0, report)
    return KeepResult(kept, soft, report, history, _one_registration([part.seen for part in done]))


@dataclass(frozen=True, eq=False)
class _Part:
    """Some pictures of a batch: see KeepResult. pictures: their entries in the report."""

    kept: Tensor
    mask: Tensor
    way: str
    seen: Registration | None
    pictures: list[dict[str, Any]]


def _keep(
    before: Tensor,
    edited: Tensor,
    allowed: Tensor | None,
    settings: KeepSettings,
    within: tuple[slice, slice] | None,
) -> _Part:
    """The steps, for as many pictures as may be in memory at a time."""
    rows, columns = within or (slice(None), slice(None))
    previous = before[:, rows, columns]
    if within is not None:
        edited = edited[:, rows, columns]
        allowed = None if allowed is None else allowed[:, rows, columns]
    size, own = previous.shape[1:3], edited.shape[1:3]
    measured = _measured(allowed)
    near, way, seen, match = None, "stretch", None, None
    if settings.register or settings.fit != "stretch" or own != size:
        edited, near, way, seen = place(
            previous, edited, settings.fit, settings.register, settings.rotation, measured
        )
    if settings.colour != "none":
        match = match_colour(previous, edited, measured, settings.colour)
        edited = match.apply(edited)
    change = settings.change
    if near is None and change == ChangeSettings(alpha=change.alpha, sigma=change.sigma):
        changed = sequential_threshold(previous, edited, change.alpha, change.sigma)[1] > 0
    else:
        changed = change_mask(previous, edited, change, near)
    soft = feather(changed, settings.feather if change.mode == "feathered" else 0.0)
    if allowed is not None:
        soft = soft * allowed
    kept = composite(previous, edited, soft)
    if within is not None:
        inner, soft = soft, before.new_zeros(before.shape[:3])
        soft[:, rows, columns] = inner
        part, kept = kept, before.clone()
        kept[:, rows, columns] = part
    return _Part(kept, soft, way, seen, _entries(seen, match, soft, before, kept))


def _measured(allowed: Tensor | None) -> Tensor | None:
    """What is not to be measured on: the mask [B,H,W], but nothing where it leaves too little."""
    if allowed is None:
        return None
    outside = (allowed < 0.001).to(torch.float32).mean(dim=(1, 2))
    return allowed * (outside >= MEASURABLE)[:, None, None]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _one_registration(parts: list[Registration | None]) -> Registration | None:
    seen = [part for part in parts if part is not None]
    if len(seen) < 2:
        return seen[0] if seen else None
    names = ("map", "x", "y", "zoom", "angle", "agreement", "found")
    together = {name: torch.cat([getattr(part, name) for part in seen]) for name in names}
    return Registration(**together, reasons=tuple(reason for part in seen for reason in part.reasons))


def _batch(before: int, after: int) -> int:
    if before != after and 1 not in (before, after):
        raise EmuEditError(
            f"keep: {before} previous pictures against {after} edited ones; give as many, or one."
        )
    return max(before, after)


def _entries(
    seen: Registration | None, match: ColourMatch | None, mask: Tensor, previous: Tensor, kept: Tensor
) -> list[dict[str, Any]]:
    """What is to be told of each picture, JSON-safe."""
    taken = mask > 0
    difference = (kept - previous).abs().mean(dim=-1)
    inside = (difference * taken).sum((1, 2)) / taken.sum((1, 2)).clamp(min=1)
    pictures: list[dict[str, Any]] = []
    for index in range(len(mask)):
        entry: dict[str, Any] = {
            "changed": round(float(taken[index].float().mean()), 6),
            "by": round(float(inside[index]), 4),
        }
        if seen is not None:
            entry["registration"] = {
                "moved": bool(seen.found[index]),
                "shift_px": [round(float(seen.x[index]), 3), round(float(seen.y[index]), 3)],
                "zoom": round(float(seen.zoom[index]), 5),
                "angle_degrees": round(float(torch.rad2deg(seen.angle[index])), 4),
                "agreement": round(float(seen.agreement[index]), 3),
                "note": seen.reasons[index],
            }
        if match is not None:
            entry["colour"] = {
                "moved": bool(match.found[index]),
                "matrix": [[round(v, 4) for v in row] for row in match.matrix[index].tolist()],
                "offset": [round(v, 4) for v in match.offset[index].tolist()],
                "note": match.reasons[index],
            }
        pictures.append(entry)
    return pictures
