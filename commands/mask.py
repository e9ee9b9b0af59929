"""`emu-edit mask`: a picture and words in, a mask of what they name out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from ..core.devices import usable_device
from ..core.errors import EmuEditError
from ..core.masks.kinds import DETECTOR, SEGMENTER, kind_of
from ..core.masks.loading import load_detector, load_segmenter
from ..core.masks.overlay import overlay
from ..core.masks.painted import EditorSource
from ..core.masks.phrases import target_of
from ..core.masks.soft_mask import MODES, SoftMaskSettings, make_masks
from ..core.masks.sources import Detections, DetectSettings, Segmented, text_to_mask
from ..core.masks.targets import Targets
from ..core.picture_files import check_apart, check_output, load_picture, save_picture
from .edit import open_editor

EDITOR = "editor"


def mask_file(options: argparse.Namespace) -> None:
    """Carry out the parsed command. What can be refused is refused before a model loads."""
    output = check_output(options.output)
    shown = None if options.overlay is None else check_output(options.overlay)
    check_apart({"output": output, "overlay": shown}, [options.picture])
    if options.kind not in MODES:
        raise EmuEditError(f"kind: {options.kind!r} is no kind of mask; pick one of {', '.join(MODES)}.")
    settings = DetectSettings(options.threshold, options.text_threshold, options.most)
    target_of(options.text)
    picture = load_picture(options.picture)
    found = text_to_mask(open_source(options), picture, options.text, settings)
    mask = pick_kind(found, options.kind)
    save_picture(output, mask[0])
    if shown is not None:
        save_picture(shown, overlay(picture, mask))
    print(found.report())
    print(f"wrote {output}")


def pick_kind(found: Detections, kind: str) -> torch.Tensor:
    """One of soft_mask.MODES made of what was found, [B,H,W]."""
    boxes = tuple(tuple((x, y, r, b) for x, y, r, b in here.boxes.tolist()) for here in found.found)
    targets = Targets(found.mask(), tuple(here.count for here in found.found), boxes)
    return make_masks(targets, SoftMaskSettings()).pick(kind)


def open_source(options: argparse.Namespace) -> Any:
    """What `--source` and `--segmenter` name."""
    device = usable_device(options.device)
    if options.source in ("auto", EDITOR):
        return EditorSource(open_editor(None, device))
    detector = load_detector(_path(options.source, DETECTOR), device)
    if options.segmenter is None:
        return detector
    return Segmented(detector, load_segmenter(_path(options.segmenter, SEGMENTER), device))


def _path(name: str, kind: str) -> Path:
    path = Path(name)
    if not path.exists():
        raise EmuEditError(f"{kind}: {path} does not exist; give a transformers folder or an original file.")
    if path.is_dir() and kind_of(path) != kind:
        raise EmuEditError(f"{kind}: {path} holds none; give a transformers folder with its config.json.")
    return path
