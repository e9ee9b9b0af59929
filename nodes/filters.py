"""Filter Pairs: which picture pairs are worth keeping, with every score and the reason of every drop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import EmuEditError
from ..core.images import check_images, fit_mask, resize_images
from . import host
from .detectors import _once, cancellable
from .detectors import make_resident as detector_resident
from .inputs import drawn
from .scorers import make_resident as scorer_resident
from .widgets import choice, number, socket, text, whole

if TYPE_CHECKING:
    from ..core.pairs.filters.base import Filter, Poll
    from ..core.pairs.records import Candidate, Instruction, Verdict

NONE = "none"
FILTER_FOLDERS = ("emu_edit_filters", "depth_estimation")
DEPTH, READER = "ForDepthEstimation", "VisionEncoderDecoderModel"
_loaded: dict[str, Any] = {}  # the last of each kind; no wire holds it from run to run


def models(kind: str) -> dict[str, Path]:
    """Transformers folders below models/emu_edit_filters whose architecture's name ends so."""
    if host.folder_paths is None:
        return {}
    found: dict[str, Path] = {}
    for name in FILTER_FOLDERS:
        root = Path(host.folder_paths.models_dir) / name
        for config in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
            if _architecture(config).endswith(kind):
                found.setdefault(f"{name}/{config.parent.relative_to(root).as_posix()}", config.parent)
    return found


def _architecture(config: Path) -> str:
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
        return str(told["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return ""  # a broken file of some other model is not this menu's concern


class FilterPairs:
    """core.pairs.filters as a node."""

    ID = "EmuEditFilterPairs"
    DISPLAY_NAME = "Filter Pairs"
    CATEGORY = "Emu Edit/Pairs"
    DESCRIPTION = (
        "Judges picture pairs as Emu Edit does before it trains on them: CLIP's four numbers, depth maps, a "
        "detector's finds, what changed outside the mask, lettering, and the task that the words really ask "
        "for. Takes pairs, or any pictures before and after with their instructions. Gives the kept "
        "ones, best "
        "first, and every score with the reason of every drop. A model that is not wired is told, not "
        "guessed."
    )
    SEARCH_ALIASES = [
        "filter dataset",
        "clip filter",
        "quality filter",
        "instructpix2pix filter",
        "curate pairs",
    ]
    FUNCTION = "judge"
    RETURN_TYPES = ("EMU_PAIRS", "IMAGE", "IMAGE", "MASK", "STRING", "STRING", "STRING", "INT")
    RETURN_NAMES = ("kept", "source", "target", "mask", "instructions", "scores", "report", "count")
    OUTPUT_TOOLTIPS = (
        "The kept pairs, best first, each with its verdict.",
        "Their pictures before the edit; an empty batch if nothing was kept.",
        "Their pictures after the edit.",
        "The masks they were made under; white where the whole picture might change.",
        "Their instructions, one JSON object a line, with the task they go under.",
        "Every incoming pair's verdict with every score, one JSON object a line.",
        "A table of the filters, and why each dropped pair was dropped.",
        "How many pairs were kept.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "clip_image": number(
                    0.7,
                    -1.0,
                    1.0,
                    0.05,
                    "Least likeness of the two pictures by CLIP. 0.7 is InstructPix2Pix's.",
                ),
                "clip_text": number(
                    0.2, -1.0, 1.0, 0.05, "Least likeness of each picture to its caption by CLIP."
                ),
                "clip_direction": number(
                    0.2,
                    -1.0,
                    1.0,
                    0.05,
                    "Least agreement of the pictures' change with the captions' change by CLIP.",
                ),
                "depth": number(
                    0.1, 0.0, 1.0, 0.01, "Most difference of the depth maps, as a share of the depth range."
                ),
                "outside": number(
                    0.05, 0.0, 1.0, 0.01, "Most mean difference, 0 to 1, outside the mask of the edit."
                ),
                "changed": number(
                    0.005, 0.0, 1.0, 0.001, "Least mean difference where the edit was meant to be."
                ),
                "detector_threshold": number(0.3, 0.0, 1.0, 0.05, "How sure the detector must be of a find."),
                "lettering": number(
                    0.8, 0.0, 1.0, 0.05, "How alike the lettering read must be to the one asked for."
                ),
                "reassign": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "tooltip": "Put a pair under the task that its instruction reads as, if the "
                        "predictor "
                        "is sure.",
                    },
                ),
                "keep": whole(
                    0,
                    0,
                    1000,
                    "Keep the best so many of each instruction's candidates. 0 keeps all that pass.",
                ),
                "depth_model": choice(
                    [NONE, *models(DEPTH)],
                    NONE,
                    "A depth estimator's transformers folder (DPT, Depth Anything) from "
                    "models/emu_edit_filters.",
                ),
                "reader": choice(
                    [NONE, *models(READER)],
                    NONE,
                    "A TrOCR's transformers folder from models/emu_edit_filters, to read lettering back.",
                ),
            },
            "optional": {
                "pairs": socket("EMU_PAIRS", "Pairs to judge; instead of pictures and instructions."),
                "source": socket("IMAGE", "The pictures before the edit, if no pairs are wired."),
                "target": socket("IMAGE", "The pictures after it, as many."),
                "instructions": text(
                    "",
                    "One for each picture, or one for all: JSON objects a line, as Write Instructions "
                    "gives them.",
                ),
                "mask": socket(
                    "MASK", "Where the edits were meant to be, for pictures: one for each, or one for all."
                ),
                "scorer": socket("EMU_SCORER", "From Load Scorer, for CLIP's numbers."),
                "detector": socket("EMU_DETECTOR", "From Load Detector, for what is there and what is gone."),
            },
        }

    def judge(
        self,
        clip_image: float,
        clip_text: float,
        clip_direction: float,
        depth: float,
        outside: float,
        changed: float,
        detector_threshold: float,
        lettering: float,
        reassign: bool,
        keep: int,
        depth_model: str,
        reader: str,
        pairs: Sequence[Candidate] | None = None,
        source: Tensor | None = None,
        target: Tensor | None = None,
        instructions: str | None = None,
        mask: Tensor | None = None,
        scorer: Any = None,
        detector: Any = None,
    ) -> tuple[Any, ...]:
        from ..core.pairs.filters.base import Poll
        from ..core.pairs.filters.standard import NAMES, Thresholds, standard_filters
        from ..core.predictor import bundled_predictor

        with host.slips_of(self):
            several = list(pairs) if pairs is not None else candidates(source, target, instructions, mask)
            if not several:
                raise EmuEditError("there are no pairs to judge; wire pairs, or pictures and instructions.")
            poll = Poll(host.stop_if_interrupted)
            limits = Thresholds(
                None,
                *(
                    clip_image,
                    clip_text,
                    clip_direction,
                    depth,
                    outside,
                    changed,
                    detector_threshold,
                    lettering,
                ),
            )
            filters = standard_filters(
                limits,
                predictor=bundled_predictor() if reassign else None,
                scorer=scorer,
                depth=_model(depth_model, DEPTH),
                detector=cancellable(detector, poll),
                reader=_model(reader, READER),
                names=NAMES if reassign else [name for name in NAMES if name != "task"],
            )
            verdicts = _judged(several, filters, poll)
        places = ranked(several, verdicts, keep)
        kept = [
            replace(
                several[k],
                instruction=several[k].instruction.reassigned(verdicts[k].task),
                metadata={**several[k].metadata, "verdict": verdicts[k].to_json()},
            )
            for k in places
        ]
        lines = [json.dumps(one.instruction.to_json(), ensure_ascii=False) for one in kept]
        scores = [
            json.dumps({"pair": k, "index": one.index, **verdict.to_json()}, ensure_ascii=False)
            for k, (one, verdict) in enumerate(zip(several, verdicts, strict=True))
        ]
        told = report(several, verdicts, places)
        return kept, *pictures(kept, several[0]), "\n".join(lines), "\n".join(scores), told, len(kept)


def candidates(
    source: Tensor | None, target: Tensor | None, instructions: str | None, mask: Tensor | None
) -> list[Candidate]:
    """Pairs from wires: pictures [B,H,W,3] before and after, instructions as JSON lines, masks or none."""
    from ..core.pairs.records import Candidate

    if source is None or target is None:
        raise EmuEditError("neither pairs nor both source and target are wired; wire the one or the other.")
    source, target = check_images(source, "source"), check_images(target, "target")
    if len(source) != len(target):
        raise EmuEditError(f"{len(source)} sources and {len(target)} targets were wired; give as many.")
    target = resize_images(target.to(source.device), source.shape[1], source.shape[2])
    words = read_instructions(instructions or "")
    if len(words) not in (1, len(source)):
        raise EmuEditError(
            f"instructions: there are {len(words)} for {len(source)} pairs; give one for each, or one for "
            "all."
        )
    words = words * (len(source) if len(words) == 1 else 1)
    mask = drawn(mask, source)
    masks = None if mask is None else fit_mask(mask.to(source.device), *source.shape[:3])
    return [
        Candidate(
            source[k],
            target[k],
            words[k],
            k,
            mask_kind="blank" if masks is None else "precise",
            masks={} if masks is None else {"precise": masks[k]},
        )
        for k in range(len(source))
    ]


def read_instructions(lines: str) -> list[Instruction]:
    """JSON objects, one a line, or one JSON list of them."""
    from ..core.pairs.records import Instruction

    told = lines.strip()
    if not told:
        raise EmuEditError("instructions: there are none; wire them from Write Instructions.")
    try:
        rows = (
            json.loads(told)
            if told.startswith("[")
            else [json.loads(s) for s in told.splitlines() if s.strip()]
        )
    except ValueError as problem:
        raise EmuEditError(
            f"instructions: they are no JSON objects, one a line ({problem}); wire Write Instructions."
        ) from problem
    return [Instruction.from_json(row) for row in rows]


def ranked(several: Sequence[Candidate], verdicts: Sequence[Verdict], keep: int) -> list[int]:
    """Places of the kept pairs: the best `keep` (0: all) of each instruction, instructions in their order."""
    from ..core.pairs.filters.judge import best

    groups: dict[str, list[int]] = {}
    for k, one in enumerate(several):
        key = json.dumps({**one.instruction.to_json(), "metadata": None}, sort_keys=True)
        groups.setdefault(key, []).append(k)
    return [
        group[place]
        for group in groups.values()
        for place in best([verdicts[k] for k in group], keep or len(group))
    ]


def pictures(kept: Sequence[Candidate], like: Candidate) -> tuple[Tensor, Tensor, Tensor]:
    """Sources and targets [B,H,W,3] and masks [B,H,W], all of the first pair's size."""
    height, width = (kept[0] if kept else like).source.shape[:2]
    if not kept:
        empty = torch.zeros(0, height, width, 3)
        return empty, empty, torch.zeros(0, height, width)
    sources, targets = (
        torch.cat([resize_images(getattr(one, name)[None].cpu(), height, width) for one in kept])
        for name in ("source", "target")
    )
    planes = [
        torch.ones(1, height, width) if one.mask is None else fit_mask(one.mask[None].cpu(), 1, height, width)
        for one in kept
    ]
    return sources, targets, torch.cat(planes)


def report(several: Sequence[Candidate], verdicts: Sequence[Verdict], places: Sequence[int]) -> str:
    """The filters' table in Markdown, then a line for each pair that is not kept."""
    from ..core.pairs.filters.standard import summary

    lines = [f"{len(places)} of {len(several)} pairs kept.", ""]
    lines += ["| filter | passed | failed | dropped by it | not run |", "| --- | --- | --- | --- | --- |"]
    for name, row in summary(verdicts).items():
        lines.append(f"| {name} | {row['passed']} | {row['failed']} | {row['dropped']} | {row['not run']} |")
    lines.append("")
    for k, verdict in enumerate(verdicts):
        if not verdict.kept:
            lines.append(f"pair {k + 1} ({verdict.task}): {verdict.dropped_by}: {verdict.reason}")
        elif k not in places:
            lines.append(f"pair {k + 1} ({verdict.task}): others of its instruction rank higher")
    return "\n".join(lines).rstrip()


def _judged(several: Sequence[Candidate], filters: Sequence[Filter], poll: Poll) -> list[Verdict]:
    from ..core.pairs.filters.judge import judge_all

    bar = host.Progress(len(filters))

    def on_step(done: int, total: int) -> None:
        poll()
        bar.show(done, total)
        if done < total:
            _make_resident(filters[done])

    _make_resident(filters[0])
    return judge_all(several, filters, on_step, poll)


def _make_resident(each: Filter) -> None:
    """Bring a filter's model onto its device right before it looks.

    Not all of them at the start: one may push another out, and where memory is short ComfyUI moves out a
    part of a model, which then cannot run at all.
    """
    for name in ("detector", "estimator", "reader"):
        if (model := getattr(each, name, None)) is not None:
            detector_resident(model)
    if (scorer := getattr(each, "scorer", None)) is not None:
        scorer_resident(scorer)


def _model(name: str, kind: str) -> Any:
    """The model of a menu entry, loaded once and lent to ComfyUI's memory manager; None for none."""
    if name == NONE:
        return None
    folder = models(kind).get(name)
    if folder is None:
        raise EmuEditError(
            f"{name!r} is not among the models found; put its folder under models/{FILTER_FOLDERS[0]}, "
            "press R, "
            "and pick it from the menu."
        )
    from ..core.pairs.filters.models import load_depth, load_reader

    load = load_depth if kind == DEPTH else load_reader
    _loaded[kind] = _once(folder, host.run_device(), load)
    return _loaded[kind]
