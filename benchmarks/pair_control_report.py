"""What benchmarks.pair_control found: JSON, a table, a contact sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..training.pairs.judge import Judged
from ..training.small.report import interval

if TYPE_CHECKING:
    from .pair_control import Try

Entry = tuple[Judged, float | None]
ASKED = ("right", "done", "rest")


def share(passed: Sequence[bool]) -> dict[str, Any]:
    """{"share", "n", "interval"}: how many of n passed, with Wilson's 95 % interval; None of none."""
    n = len(passed)
    if not n:
        return {"share": None, "n": 0, "interval": None}
    return {"share": round(sum(passed) / n, 4), "n": n, "interval": interval(sum(passed), n)}


def cell(entries: Sequence[Entry]) -> dict[str, Any]:
    """Shares of right, done and rest, and of added things that stand in their place; mean movements."""
    judged = [one for one, _ in entries]
    placed = [one.placed for one in judged if one.placed is not None]
    return {
        "n": len(entries),
        **{name: share([getattr(one, name) for one in judged]) for name in ASKED},
        **({"placed": share(placed)} if placed else {}),
        "moved_mask": mean(moved for _, moved in entries),
        "moved_true": mean(one.moved for one in judged),
    }


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 5) if known else None


def summary(
    tries: Sequence[Try],
    ceilings: Sequence[tuple[str, dict[str, Judged]]],
    tasks: Sequence[str],
    ways: Sequence[str],
    whole: Sequence[str],
) -> dict[str, Any]:
    """{"tasks": by task {"tries", "made", "drawn", "ways": {way: {"all", "drawn"}}, "ceiling"}, "all": the
    same over `whole`, the tasks that have all ways}."""

    def row(some: Callable[[str], bool]) -> dict[str, Any]:
        mine = [one for one in tries if some(one.job.task)]
        made = [one for one in mine if one.judged]
        drawn = [one for one in made if one.drawn]
        found: dict[str, Any] = {"tries": len(mine), "made": len(made), "drawn": len(drawn), "ways": {}}
        for way in ways:
            by = {
                name: [(one.judged[way], one.moved_mask(way)) for one in group if way in one.judged]
                for name, group in (("all", made), ("drawn", drawn))
            }
            if by["all"]:
                found["ways"][way] = {name: cell(entries) for name, entries in by.items()}
        own = [judged for task, judged in ceilings if some(task)]
        names = dict.fromkeys(name for judged in own for name in judged)
        found["ceiling"] = {
            name: cell([(judged[name], None) for judged in own if name in judged]) for name in names
        }
        return found

    return {
        "tasks": {task: row(lambda name, task=task: name == task) for task in tasks},  # type: ignore[misc]
        "all": row(lambda name: name in whole),
        "all_of": list(whole),
    }


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table: over pairs whose first picture shows its caption, and over all."""
    heads = ["task", "way", "n", "right (95 %)", "done", "rest", "moved, mask", "moved, true"]
    heads += ["n of all", "right of all (95 %)"]
    lines = [heads, ["---"] * len(heads)]
    rows = {**report["tasks"], "all": report["all"]}
    for task, row in rows.items():
        for way, cells in row["ways"].items():
            lines.append([task, way, *_figures(cells["drawn"]), *_figures(cells["all"])[:2]])
        for name, one in row["ceiling"].items():
            lines.append([task, name, *_figures(one), "", ""])
    counts = "; ".join(
        f"{task} {row['tries']} tries, object found in {row['made']}, drawn as said {row['drawn']}"
        for task, row in rows.items()
    )
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        f"{text}\n\n{counts}.\n"
        f"{report['model'] or 'no model'}, seed {report['seed']}, {report['mask']} mask. "
        "n, right, done, rest, moved: of pairs whose first picture shows its caption. "
        f"all: {', '.join(report['all_of']) or 'no task'}."
    )


def _figures(one: dict[str, Any]) -> list[str]:
    def said(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    right = one["right"]
    told = f"{right['share']:.2f} ({right['interval'][0]:.2f}-{right['interval'][1]:.2f})" if one["n"] else ""
    return [
        str(one["n"]),
        told,
        *(said(one[name]["share"], 2) for name in ("done", "rest")),
        *(said(one[name], 4) for name in ("moved_mask", "moved_true")),
    ]


def sheet(tries: Sequence[Try], ways: Sequence[str], rows: int) -> Any:
    """A PIL picture, a row a try: the first picture, what each way made of it with its verdict, the mask."""
    from PIL import Image, ImageDraw

    made = [one for one in tries if one.judged]
    shown = made[:rows]  # the tasks take turns, so the first ones hold all of them
    if not shown:
        blank = Image.new("RGB", (460, 40), "white")
        ImageDraw.Draw(blank).text((4, 4), "In no picture was the object found.", fill="black")
        return blank
    side = max(96, int(shown[0].first().shape[0]))
    width, height = (len(ways) + 2) * (side + 4), side + 42
    out = Image.new("RGB", (width, len(shown) * height), "white")
    draw = ImageDraw.Draw(out)
    for y, one in enumerate(shown):
        top = y * height
        tiles: list[tuple[str, Tensor | None]] = [("as said" if one.drawn else "not as said", one.first())]
        for way in ways:
            told = ""
            if way in one.judged:
                verdict = one.judged[way]
                told = "right" if verdict.right else "done, not only" if verdict.done else "not done"
            tiles.append((f"{way}: {told}" if told else "", one.second(way) if told else None))
        masks = next((c.masks[c.mask_kind] for c in one.made.values() if c.mask_kind in c.masks), None)
        tiles.append(("mask", masks))
        for x, (words, picture) in enumerate(tiles):
            left = x * (side + 4)
            if picture is not None:
                levels = (picture.clamp(0, 1) * 255).round().byte().numpy()
                tile = Image.fromarray(levels).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
                out.paste(tile, (left, top))
            draw.text((left + 2, top + side + 1), words, fill="black")
        back = (
            " (made backwards: the pair goes from the others to the first)" if one.job.task == "add" else ""
        )
        words = f"{one.job.task}{back}: {one.job.instruction.instruction}"
        line = textwrap.shorten(words, width // 6, placeholder="...")
        draw.text((2, top + side + 15), line, fill="black")
    return out
