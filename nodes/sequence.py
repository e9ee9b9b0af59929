"""Sequential Edit Threshold: keep what an edit did not mean to change, turn after turn."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..core.errors import EmuEditError
from ..core.images import check_images
from ..core.sequential.change import MODES, ChangeSettings
from ..core.sequential.colour import COLOUR_MODES, SPACES
from ..core.sequential.fit import FITS
from ..core.sequential.history import TurnHistory, begin
from ..core.sequential.keep import KeepResult, KeepSettings, keep_edit
from ..core.size_guard import SizeRecord, restore_size
from ..core.thresholding import ALPHA, SIGMA
from . import host
from .inputs import drawn, opaque
from .widgets import choice, number, socket

ALIGN = ("off", "shift and zoom", "shift, zoom and turn")


class SequentialEditThreshold:
    """Stands behind any editor, ours or another, between one turn and the next."""

    ID = "EmuEditSequentialThreshold"
    DISPLAY_NAME = "Sequential Edit Threshold"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "After an edit by any editor: pixels that hardly changed are put back exactly as they were, so that "
        "small errors do not pile up over many turns (Emu Edit's sequential edit thresholding). On request "
        "it first undoes the editor's resize, shift, zoom and colour drift. Feed the kept picture into the "
        "next turn."
    )
    SEARCH_ALIASES = ["multi turn", "keep unchanged pixels", "difference mask", "drift", "sequential edit"]
    FUNCTION = "keep"
    RETURN_TYPES = ("IMAGE", "MASK", "STRING", "EMU_HISTORY")
    RETURN_NAMES = ("kept", "change", "report", "history")
    OUTPUT_TOOLTIPS = (
        "The edited picture with every hardly changed pixel of the previous one put back, at the previous "
        "picture's size.",
        "White where the edit was taken, black where the previous picture was kept.",
        "How much of the picture changed and what was corrected, one line for each picture of the batch.",
        "The first picture and all that changed since: for the next turn's history, or a loop's carried "
        "value.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "previous": socket("IMAGE", "The picture before this turn's edit."),
                "edited": socket(
                    "IMAGE",
                    "The same picture after the edit; another size is resized to the previous picture's.",
                ),
                "alpha": number(
                    ALPHA,
                    0.0,
                    1.0,
                    0.005,
                    "Pixels whose smoothed change (mean of the three channels, 0 to 1) stays below this are "
                    "kept. 0.03 is the paper's value; higher keeps more, 0 keeps nothing.",
                ),
                "sigma": number(
                    SIGMA,
                    0.0,
                    100.0,
                    0.5,
                    "How far the change is smoothed before the comparison, in pixels (Gaussian). Raise it "
                    "with the picture's size if single pixels flicker.",
                ),
            },
            "optional": {
                "mask": socket("MASK", "White where the picture may change; all else stays as it was."),
                "size": socket("EMU_SIZE", "From Size Guard: its padding or cropping is undone first."),
                "history": socket(
                    "EMU_HISTORY",
                    "From the turn before: wherever no turn ever changed anything, the first picture comes "
                    "back, even if the chain broke in between. Leave open in the first turn.",
                ),
                "mode": choice(
                    MODES,
                    MODES[0],
                    "paper: Emu Edit's rule. hysteresis: draws the edit's border where it is and drops "
                    "what is nowhere clear. feathered: the same with a soft border. For real editors: "
                    "hysteresis.",
                ),
                "fit": choice(
                    ("stretch", *(way for way in FITS if way != "stretch")),
                    "stretch",
                    "If the edited picture has another size: stretched, the middle cut out, borders added, "
                    "or auto: whichever agrees best.",
                ),
                "align": choice(
                    ALIGN, ALIGN[0], "Measure by how much the editor moved the picture, and undo it."
                ),
                "colour": choice(
                    COLOUR_MODES,
                    COLOUR_MODES[0],
                    "Undo a drift of colour and exposure, measured on what did not change. gain: a factor "
                    "and an offset for each channel; matrix: mixes channels too. Leave off for edits of "
                    "the colours.",
                ),
                "compare_in": choice(
                    SPACES,
                    SPACES[0],
                    "Colours are compared as stored (srgb, the paper), in linear light, or perceptually "
                    "(OKLab).",
                ),
                "detail": number(
                    -1.0,
                    -1.0,
                    32.0,
                    0.5,
                    "Detail finer than this is not compared, in pixels: editors lose it anyway. -1: 0 in the "
                    "mode paper, else 1.",
                ),
                "feather": number(
                    4.0, 0.0, 256.0, 1.0, "In the mode feathered: the soft border's width, in pixels."
                ),
                "specks": number(
                    0.0, 0.0, 1e6, 16.0, "Changed regions of fewer pixels are dropped; 0 keeps all."
                ),
                "holes": number(
                    0.0, 0.0, 1e6, 16.0, "Unchanged holes of up to so many pixels inside an edit are filled."
                ),
            },
        }

    def keep(
        self,
        previous: Tensor,
        edited: Tensor,
        alpha: float,
        sigma: float,
        mask: Tensor | None = None,
        size: SizeRecord | None = None,
        history: TurnHistory | None = None,
        mode: str = MODES[0],
        fit: str = "stretch",
        align: str = ALIGN[0],
        colour: str = COLOUR_MODES[0],
        compare_in: str = SPACES[0],
        detail: float = -1.0,
        feather: float = 4.0,
        specks: float = 0.0,
        holes: float = 0.0,
    ) -> tuple[Tensor, Tensor, str, TurnHistory]:
        with host.slips_of(self, "previous"):
            previous = check_images(opaque(previous), "the picture")
        with host.slips_of(self, "edited"):
            edited = check_images(opaque(edited), "the picture")
        with host.slips_of(self):
            if align not in ALIGN:
                raise EmuEditError(f"{align!r} is no way to align; choose {', '.join(ALIGN)}.")
            settings = KeepSettings(
                fit=fit,
                register=align != ALIGN[0],
                rotation=align == ALIGN[2],
                colour=colour,
                feather=feather,
                change=ChangeSettings(
                    mode, alpha, sigma, compare_in, None if detail < 0 else detail, specks, holes
                ),
            )
            within = None
            if size is not None:
                edited = restore_size(edited, size)
                # Around a crop lies the original, which neither moved nor drifted with the editor's picture.
                if size.mode == "crop" and size.size == previous.shape[1:3]:
                    within = _cropped(size)
            batch = max(len(previous), len(edited))
            if history is None:
                history = begin(previous.expand(batch, -1, -1, -1) if len(previous) == 1 else previous)
            bar = host.Progress(batch)

            def on_part(done: int, total: int) -> None:
                host.stop_if_interrupted()
                bar.show(done, total)

            drawn_mask = drawn(mask, previous)
            result = keep_edit(previous, edited, drawn_mask, settings, history, on_part, within)
        assert result.history is not None
        return result.kept, result.mask, words(result, alpha), result.history


def _cropped(size: SizeRecord) -> tuple[slice, slice]:
    """Rows and columns of the original that Size Restore takes from the editor's picture, in whole pixels."""
    sides = zip((size.top, size.left), size.guarded, size.size, size.scaled, strict=True)
    # As in restore_size: from the pixel in which the crop begins to the one in which it ends.
    rows, columns = (
        slice(int(first * (own / scaled)), -int(-(first + length) * (own / scaled) // 1))
        for first, length, own, scaled in sides
    )
    return rows, columns


def words(result: KeepResult, alpha: float) -> str:
    """One line for each picture: the share of changed pixels, by how much, and what was corrected."""
    lines = []
    entries = result.report["pictures"]
    for index, entry in enumerate(entries):
        number = f"picture {index + 1}: " if len(entries) > 1 else ""
        if entry["changed"] == 0:
            line = f"{number}nothing changed by {alpha:g} or more; the previous picture is kept whole"
        else:
            line = f"{number}{100 * entry['changed']:.1f} % changed, by {entry['by']:.3f} on average"
        motion, drift = entry.get("registration"), entry.get("colour")
        if motion is not None and motion["moved"]:
            x, y = motion["shift_px"]
            line += f"; moved back by {x:.2f}, {y:.2f} px, zoom {motion['zoom']:.4f}"
            if abs(motion["angle_degrees"]) >= 0.01:
                line += f", turned {motion['angle_degrees']:.2f} degrees"
        elif motion is not None:
            line += f"; not moved: {motion['note']}"
        if drift is not None and drift["note"] != "not asked for":
            line += "; colours matched" if drift["moved"] else f"; colours left: {drift['note']}"
        if "history" in entry:
            line += "; much of the previous picture was changed without this node: the history begins anew"
        lines.append(line)
    return "\n".join(lines)
