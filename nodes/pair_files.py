"""Save Pairs: pairs as shards and in other trainers' layouts, below ComfyUI's output folder only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EmuEditError
from . import host
from .widgets import choice, socket

if TYPE_CHECKING:
    from ..core.pairs.records import Candidate

SHARDS_ONLY = "shards only"
PART = re.compile(r"[\w][\w .-]*")
MOST = 99999


class SavePairs:
    """core.pairs.save and core.pairs.export as a node."""

    ID = "EmuEditSavePairs"
    DISPLAY_NAME = "Save Pairs"
    CATEGORY = "Emu Edit/Pairs"
    DESCRIPTION = (
        "Saves pairs with their masks, words, scores and everything they were made with, in a new folder "
        "below ComfyUI's output folder: as shards that webdataset reads, and besides as an imagefolder, in "
        "InstructPix2Pix's layout, or as target and control folders. Nothing is ever overwritten."
    )
    SEARCH_ALIASES = ["save dataset", "webdataset", "imagefolder", "export pairs", "training data"]
    FUNCTION = "save"
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING", "STRING", "INT")
    RETURN_NAMES = ("folder", "report", "count")
    OUTPUT_TOOLTIPS = (
        "The new folder, relative to the output folder; empty if there was nothing to save.",
        "What was written.",
        "How many pairs were saved.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        from ..core.pairs.export import FORMATS

        return {
            "required": {
                "pairs": socket("EMU_PAIRS", "From Make Pair, Filter Pairs or Inspect Pair."),
                "name": (
                    "STRING",
                    {
                        "default": "emu_edit_pairs/pairs",
                        "tooltip": "Name of the folder below the output folder; a number is put behind it.",
                    },
                ),
                "layout": choice(
                    [SHARDS_ONLY, *FORMATS],
                    SHARDS_ONLY,
                    "What to write beside the shards. imagefolder: for datasets' load_dataset. "
                    "instructpix2pix: its own layout. folders: target and control pictures with .txt "
                    "captions.",
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, name: str | None = None) -> bool | str:
        try:
            if name is not None:
                parts_of(name)
        except EmuEditError as slip:
            return str(slip)
        return True

    def save(self, pairs: Sequence[Candidate], name: str, layout: str) -> dict[str, Any]:
        from ..core.pairs.export import export_pairs
        from ..core.pairs.save import save_pairs

        with host.slips_of(self):
            parts_of(name)
            if not pairs:
                told = "There are no pairs, so nothing was saved."
                host.remark([told])
                return {"ui": {"text": [told]}, "result": ("", told, 0)}
            home = output_folder()
            folder = new_folder(home, name)
            bar = host.Progress(len(pairs) * (1 if layout == SHARDS_ONLY else 2))

            def on_pair(done: int) -> None:
                host.stop_if_interrupted()
                bar.show(done, len(pairs))

            written = save_pairs(folder, pairs, on_pair)
            shown = folder.relative_to(home).as_posix()
            told = f"{counted(len(pairs), 'pair')} in {counted(len(written), 'shard')}: {shown}"
            if layout != SHARDS_ONLY:
                beside = folder.with_name(f"{folder.name}_{layout}")
                beside.mkdir()
                export_pairs(folder, beside, layout, lambda done: host.stop_if_interrupted())
                told += f"; {layout}: {beside.relative_to(home).as_posix()}"
        host.remark([told])
        return {"ui": {"text": [told]}, "result": (shown, told, len(pairs))}


def counted(count: int, what: str) -> str:
    """A number with its noun."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def output_folder() -> Path:
    """ComfyUI's output folder."""
    if host.folder_paths is None:
        raise EmuEditError("there is no output folder outside ComfyUI; run it there.")
    return Path(host.folder_paths.get_output_directory()).resolve()


def parts_of(name: str) -> list[str]:
    """The folders of a name; no way out of the output folder can be written."""
    parts = [part.strip() for part in name.replace("\\", "/").split("/")]
    if not all(PART.fullmatch(part) and not part.endswith(".") for part in parts):
        raise EmuEditError(
            f"the name {name!r} is no folder below the output folder; use letters, digits, '-', '_' and '/', "
            "such as 'emu_edit_pairs/pairs'."
        )
    return parts


def new_folder(home: Path, name: str) -> Path:
    """NAME_00001 or the next number that is free, made; below `home` even where links lead elsewhere."""
    *above, last = parts_of(name)
    parent = home.joinpath(*above)
    if not parent.resolve().is_relative_to(home):
        raise EmuEditError(f"the name {name!r} leads out of the output folder; give another.")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST + 1):
            folder = parent / f"{last}_{number:05d}"
            # An export lies beside its pairs and has its name, so both must be free.
            if any(parent.glob(f"{folder.name}_*")):
                continue
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as problem:
        raise EmuEditError(f"{name!r} cannot be made in the output folder ({problem}).") from problem
    raise EmuEditError(f"{name!r} has used all its numbers; give another name.")
