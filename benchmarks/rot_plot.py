"""The rot experiment as one picture: the curves, and what the pictures look like after some of the turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from ..core.picture_files import to_pil
from ..core.weights import replacing

if TYPE_CHECKING:
    from .sequential import Turn

TILE, GAP, CHART, EDGE = 220, 12, 260, 64
RED, BLUE, GREY = (196, 60, 50), (40, 90, 180), (120, 120, 120)


def save_plot(path: str, turns: Sequence[Turn], through: str, title: str) -> None:
    """Write `path` (PNG) for all turns."""
    shown = sorted({0, len(turns) // 2, len(turns) - 1})
    width = 2 * EDGE + max(3 * TILE + 2 * GAP, 620)
    sheet = Image.new("RGB", (width, 40 + CHART + 70 + 2 * (TILE + 34)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    pen.text((EDGE, 12), f"{len(turns)} turns through {through} ({title})", "black", font)
    without = [turn.row["outside_error_without"] for turn in turns]
    kept = [turn.row["outside_error_with"] for turn in turns]
    top = max(*without, *kept, 1e-6) * 1.1
    left, right, high, low = EDGE + 30, width - EDGE, 48, 40 + CHART
    pen.line([(left, high), (left, low), (right, low)], GREY)
    for part in range(5):
        y = low - (low - high) * part / 4
        pen.text((left - 52, y - 8), f"{top * part / 4:.3f}", GREY, font)
        pen.line([(left - 4, y), (left, y)], GREY)
    for number in range(len(turns)):
        x = left + (right - left) * (number + 1) / len(turns)
        pen.text((x - 5, low + 6), str(number + 1), GREY, font)
    for values, colour in ((without, RED), (kept, BLUE)):
        points: list[tuple[float, float]] = [(left, low)]
        for number, value in enumerate(values):
            x = left + (right - left) * (number + 1) / len(values)
            points.append((x, low - (low - high) * value / top))
        pen.line(points, colour, 3)
        for x, y in points[1:]:
            pen.ellipse([x - 4, y - 4, x + 4, y + 4], colour)
    y = low + 28
    pen.text((left, y), "error outside all edits (mean absolute, 0..1): without the keep step", RED, font)
    pen.text((left, y + 18), f"with it (largest: {max(kept):.6g})", BLUE, font)
    y += 48
    for name, colour, pictures in (
        ("without", RED, [turns[k].rotten for k in shown]),
        ("with", BLUE, [turns[k].kept for k in shown]),
    ):
        for place, (k, picture) in enumerate(zip(shown, pictures, strict=True)):
            x = EDGE + place * (TILE + GAP)
            sheet.paste(to_pil(picture).resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y + 20))
            pen.text((x, y), f"{name}, turn {k + 1}", colour, font)
        y += TILE + 34
    with replacing(Path(path)) as target:
        sheet.save(target, format="PNG")
