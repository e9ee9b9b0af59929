"""Inspect Pair: everything about a pair on one sheet, and the candidate picked by clicking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.images import fit_mask
from . import host
from .control import listed
from .filters import pictures
from .host_files import show_pictures
from .widgets import socket, whole

if TYPE_CHECKING:
    from ..core.pairs.records import Candidate

MOST_SHOWN = 100
KINDS = ("precise", "soft", "box")
NONE_CAME = "There is nothing to inspect: no pairs came in."


class InspectPair:
    """core.pairs.sheet as a node, with a browser of candidates (web/js/candidates.js)."""

    ID = "EmuEditInspectPair"
    DISPLAY_NAME = "Inspect Pair"
    CATEGORY = "Emu Edit/Pairs"
    DESCRIPTION = (
        "Shows pairs in the node: click a small one to see it whole, with the pictures before and after, "
        "what changed, its masks, the attention maps of chosen words and all scores on one sheet. The one "
        "that is clicked goes out at the next run."
    )
    SEARCH_ALIASES = ["pick candidate", "browse pairs", "contact sheet", "attention maps", "choose pair"]
    FUNCTION = "inspect"
    OUTPUT_NODE = True
    RETURN_TYPES = ("EMU_PAIRS", "EMU_PAIRS", "IMAGE", "IMAGE", "MASK", "MASK", "MASK", "IMAGE", "STRING")
    RETURN_NAMES = ("picked", "pairs", "source", "target", "precise", "soft", "box", "sheet", "info")
    OUTPUT_TOOLTIPS = (
        "The picked pair alone.",
        "All pairs, as they came.",
        "The picked pair's picture before the edit.",
        "Its picture after the edit.",
        "Its precise mask; white where it has none.",
        "Its soft mask; white where it has none.",
        "Its box mask; white where it has none.",
        "Its sheet, to save or to look at in full.",
        "All that is known of it, as JSON.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "pairs": socket("EMU_PAIRS", "From Make Pair or Filter Pairs."),
                "candidate": whole(
                    1, 1, 100000, "The number of the pair to pick. Clicking a pair in the node sets it."
                ),
                "words": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Words whose attention maps to show, with commas. Empty: all that were "
                        "kept.",
                    },
                ),
                "tile": whole(256, 64, 1024, "Longest side of each picture on the sheet in pixels.", step=32),
            }
        }

    def inspect(self, pairs: Sequence[Candidate], candidate: int, words: str, tile: int) -> dict[str, Any]:
        from ..core.pairs.sheet import pair_sheet, strip

        several = list(pairs)
        if not several:
            host.remark([NONE_CAME])
            return {"ui": browser([], [], [], 0), "result": nothing()}
        place = min(candidate, len(several)) - 1
        notes = []
        if candidate > len(several):
            notes.append(f"There is no candidate {candidate}, so the last of {len(several)} was taken.")
        if len(several) > MOST_SHOWN:
            notes.append(
                f"Of {len(several)} pairs the first {MOST_SHOWN} are shown; type the others' numbers."
            )
        chosen = list(listed(words)) or None
        with host.slips_of(self):
            one = several[place]
            sheet = pair_sheet(one, chosen, tile)
            lacking = [word for word in chosen or () if word not in one.maps]
            if lacking:
                kept = ", ".join(one.maps) or "none"
                notes.append(f"No map was kept of {', '.join(lacking)}; there are: {kept}.")
            sheets, strips, labels = [], [], []
            bar = host.Progress(len(several))
            for k, other in enumerate(several[:MOST_SHOWN]):
                host.stop_if_interrupted()
                drawn = sheet if k == place else pair_sheet(other, chosen, tile)
                sheets += show_pictures(drawn[None], "sheet")
                strips += show_pictures(strip(other)[None], "pair")
                labels.append(label(other))
                bar.show(k + 1, len(several))
            source, target, _ = pictures([one], one)
            masks = [plane(one, kind) for kind in KINDS]
        host.remark(notes)
        info = json.dumps({"number": place + 1, **one.to_json()}, ensure_ascii=False, indent=1)
        shown = browser(sheets, strips, labels, place)
        return {
            "ui": shown,
            "result": ([one], several, source, target, *masks, sheet[None], info),
        }


def browser(sheets: list[Any], strips: list[Any], labels: list[str], place: int) -> dict[str, list[Any]]:
    """What the browser's side is sent. Names of our own: ComfyUI would show "images" by itself."""
    return {
        "emu_edit_sheets": sheets,
        "emu_edit_strips": strips,
        "emu_edit_labels": labels,
        "emu_edit_picked": [place],
    }


def label(candidate: Candidate) -> str:
    """A candidate in a few words."""
    from ..core.pairs.records import Verdict

    told = f"{candidate.instruction.task}, {candidate.mask_kind}"
    record = candidate.metadata.get("verdict")
    if record is None:
        return told
    verdict = Verdict.from_json(record)
    state = "kept" if verdict.kept else f"dropped: {verdict.dropped_by}"
    return f"{told}, {state}" + ("" if verdict.rank is None else f", {verdict.rank:.3g}")


def plane(candidate: Candidate, kind: str) -> Tensor:
    """A mask [1,H,W] of a candidate, white where it has none of that kind."""
    height, width = candidate.source.shape[:2]
    mask = candidate.masks.get(kind)
    return torch.ones(1, height, width) if mask is None else fit_mask(mask[None].cpu(), 1, height, width)


def nothing() -> tuple[Any, ...]:
    """The outputs where no pairs came: lists and batches of none."""
    empty, masks = torch.zeros(0, 64, 64, 3), torch.zeros(0, 64, 64)
    return [], [], empty, empty, masks, masks, masks, empty, NONE_CAME
