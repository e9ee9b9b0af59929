"""Sequential Edit Threshold: keep what an edit did not mean to change, turn after turn."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..core.thresholding import ALPHA, SIGMA, sequential_threshold
from . import host
from .widgets import number, socket


class SequentialEditThreshold:
    """Stands behind any editor, ours or another, between one turn and the next."""

    ID = "EmuEditSequentialThreshold"
    DISPLAY_NAME = "Sequential Edit Threshold"
    CATEGORY = "Emu Edit"
    DESCRIPTION = (
        "After an edit by any editor: pixels that hardly changed are put back exactly as they were, so that "
        "small errors do not pile up over many turns (Emu Edit's sequential edit thresholding). Feed the "
        "kept picture into the next turn."
    )
    SEARCH_ALIASES = ["multi turn", "keep unchanged pixels", "difference mask", "drift", "sequential edit"]
    FUNCTION = "keep"
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("kept", "change", "report")
    OUTPUT_TOOLTIPS = (
        "The edited picture with every hardly changed pixel of the previous one put back, at the previous "
        "picture's size.",
        "White where the edit was taken, black where the previous picture was kept.",
        "How much of the picture changed, one line for each picture of the batch.",
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
            }
        }

    def keep(
        self, previous: Tensor, edited: Tensor, alpha: float, sigma: float
    ) -> tuple[Tensor, Tensor, str]:
        with host.slips_of(self):
            kept, change = sequential_threshold(previous, edited, alpha=alpha, sigma=sigma)
        return kept, change, report(previous, kept, change, alpha)


def report(previous: Tensor, kept: Tensor, change: Tensor, alpha: float) -> str:
    """One line for each picture: the share of changed pixels and the mean difference where it changed."""
    difference = (kept - previous.to(kept)).abs().mean(dim=-1)
    lines = []
    for index in range(change.shape[0]):
        taken = change[index] > 0
        share = float(taken.float().mean())
        inside = float(difference[index][taken].mean()) if bool(taken.any()) else 0.0
        number = f"picture {index + 1}: " if change.shape[0] > 1 else ""
        if share == 0:
            lines.append(f"{number}nothing changed by {alpha:g} or more; the previous picture is kept whole")
        else:
            lines.append(f"{number}{100 * share:.1f} % changed, by {inside:.3f} on average")
    return "\n".join(lines)
