"""Inspect Pair: everything about a pair on one sheet, and the candidate picked by clicking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.images import fit_mask
from ..core.picture_files import to_pil
from ..core.weights import replacing
from . import host
from .control import listed
from .filters import pictures
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
            return {"ui": browser([], [], [], 0, []), "result": nothing()}
        place = min(candidate, len(several)) - 1
        notes = []
        if candidate > len(several):
            notes.append(f"There is no candidate {candidate}, so the last of {len(several)} was taken.")
        if len(several) > MOST_SHOWN:
            notes.append(
                f"Of {len(several)} pairs the first {MOST_SHOWN} are shown; type another's number and run."
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
            first = several[:MOST_SHOWN]
            bar = host.Progress(len(first))

            def sheet_of(k: int) -> list[dict[str, str]]:
                name = f"sheet_{digest(several[k], chosen, tile)}"
                return shown(name, lambda: sheet if k == place else pair_sheet(several[k], chosen, tile))

            for k, other in enumerate(first):
                host.stop_if_interrupted()
                sheets += sheet_of(k)
                strips += shown(f"pair_{digest(other)}", partial(strip, other))
                labels.append(label(other))
                bar.show(k + 1, len(first))
            beyond = sheet_of(place) if place >= len(first) else []
            source, target, _ = pictures([one], one)
            masks = [plane(one, kind) for kind in KINDS]
        host.remark(notes)
        info = json.dumps({"number": place + 1, **one.to_json()}, ensure_ascii=False, indent=1)
        return {
            "ui": browser(sheets, strips, labels, place, beyond),
            "result": ([one], several, source, target, *masks, sheet[None], info),
        }


def browser(
    sheets: list[Any], strips: list[Any], labels: list[str], place: int, beyond: list[Any]
) -> dict[str, list[Any]]:
    """What the browser's side is sent; `beyond` is the picked sheet where it is none of `sheets`.

    Names of our own: ComfyUI would show "images" by itself.
    """
    return {
        "emu_edit_sheets": sheets,
        "emu_edit_strips": strips,
        "emu_edit_labels": labels,
        "emu_edit_picked": [place],
        "emu_edit_beyond": beyond,
    }


def digest(one: Candidate, words: Sequence[str] | None = None, tile: int = 0) -> str:
    """A name for what is drawn of a candidate: the same for the same sheet, however often it is asked for."""
    told = {**one.to_json(), "words": words, "tile": tile}
    found = blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16)
    for plane in _tensors(one):
        found.update(repr(tuple(plane.shape)).encode())
        found.update(plane.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _tensors(one: Candidate) -> Iterator[Tensor]:
    yield one.source
    yield one.target
    for several in (one.masks, one.maps):
        yield from (several[name] for name in sorted(several))


def shown(name: str, draw: Callable[[], Tensor]) -> list[dict[str, str]]:
    """How the browser asks for a picture [H,W,3] of this name, which is drawn and written only if it is new.

    It lies in ComfyUI's temporary folder; nothing is drawn outside ComfyUI.
    """
    if host.folder_paths is None:
        return []
    path = Path(host.folder_paths.get_temp_directory()) / f"emu_edit_{name}.png"
    if not path.is_file():
        with replacing(path) as part:
            to_pil(draw()).save(part, format="PNG", compress_level=1)
    return [{"filename": path.name, "subfolder": "", "type": "temp"}]


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
