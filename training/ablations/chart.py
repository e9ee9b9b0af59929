"""Charts with confidence intervals as PNG files, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.weights import replacing
from .statistics import Interval

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 60, 60
INK, GREY, PALE = (40, 40, 40), (120, 120, 120), (228, 228, 228)
COLOURS = ((40, 90, 180), (196, 60, 50), (60, 140, 70), (150, 90, 170))


def chart(
    path: Path,
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[Interval]],
    *,
    lines: bool = False,
    unit: str = "",
) -> None:
    """Write `path`: for each series one Interval a label, as points with whiskers, joined if `lines`."""
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    values = [end for row in series.values() for one in row for end in (one.low, one.high, one.mean)]
    finite = [value for value in values if value == value] or [0.0, 1.0]
    low, high = min(0.0, *finite), max(*finite, 1e-6)
    high += 0.05 * (high - low)

    def height_of(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    pen.text((LEFT, 8), title, INK, font)
    for part in range(5):
        value = low + (high - low) * part / 4
        y = height_of(value)
        pen.line([(LEFT, y), (WIDTH - RIGHT, y)], PALE)
        pen.text((LEFT - 8, y), f"{value:.3g}", GREY, small, anchor="rm")
    step = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    wide = max((pen.textlength(label, small) for label in labels), default=0) > 0.9 * step
    for place, label in enumerate(labels):
        y = HEIGHT - BOTTOM + 12 + (16 if wide and place % 2 else 0)  # in two rows where one is too full
        pen.text((LEFT + step * (place + 0.5), y), label, INK, small, anchor="mm")
    pen.text((LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 16), unit, GREY, small, anchor="mm")
    x = LEFT
    for number, (name, row) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        pen.rectangle([x, 36, x + 10, 46], fill=colour)
        pen.text((x + 16, 41), name, INK, small, anchor="lm")
        x += 34 + int(pen.textlength(name, small))
        shift = 0 if lines else (number - (len(series) - 1) / 2) * min(18, step / (len(series) + 1))
        spots = []
        for place, one in enumerate(row):
            if one.mean != one.mean:
                continue
            cx, cy = LEFT + step * (place + 0.5) + shift, height_of(one.mean)
            pen.line([(cx, height_of(one.low)), (cx, height_of(one.high))], colour, 2)
            pen.ellipse([cx - 4, cy - 4, cx + 4, cy + 4], fill=colour)
            spots.append((cx, cy))
        if lines and len(spots) > 1:
            pen.line(spots, colour, 2)
    with replacing(path) as part_file:
        sheet.save(part_file, format="PNG", optimize=True)
