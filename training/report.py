"""A report on a folder of pairs, as one HTML file that needs nothing beside it.

    python -m emu_edit.training.report DIR [--out DIR/report.html] [--samples 12]
        [--judge [--again 20] [--json FILE]]

For every task how many jobs came to pairs and what dropped the others, a contact sheet of pairs (before,
after, the mask), and the commonest sentences of those that came to nothing, with the instruction of one. It
may be made while the build is going on: finished shards count. With `--judge` the pairs of a build from the
world's scenes are judged (training/pairs/yields.py), so that it is known how many of them are right.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import EmuEditError
from ..core.pairs import shards
from ..core.pairs.durable import write_whole
from ..core.tasks import TASK_IDS
from .arguments import at_least
from .pairs import yields
from .pairs.rows import Tally, index_rows, read_rows, task_of

QUOTE = re.compile(r"""["']""")
APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")  # between letters
NO_TASK = "no task"
SIDE = 160  # pixels of a picture on a sheet
MOST_REASONS = 8

STYLE = """
:root{color-scheme:light dark}body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2rem auto;
padding:0 1rem}h1{font-size:1.5rem}
h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #8886}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.2rem .7rem;text-align:right;
border-bottom:1px solid #8883}th:first-child,td:first-child,.words{text-align:left}.bar{display:inline-block;
height:.7em;background:#3a7bd5;vertical-align:baseline}.sheet{display:grid;gap:1rem;
grid-template-columns:repeat(auto-fill,minmax(330px,1fr))}figure{margin:0;padding:.6rem;
border:1px solid #8884;border-radius:8px}figure img{width:31.5%;border-radius:4px}
figcaption{font-size:.85rem}
.small{color:#888;font-size:.8rem}.none{color:#888}
"""


@dataclass
class Found:
    """What a folder holds: counts, reasons by task, and samples."""

    tally: Tally = field(default_factory=Tally)
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)


def collect(folder: Path) -> Found:
    """Counts and reasons from the records of all finished shards."""
    found = Found()
    finished = _finished(folder)
    if not finished:
        raise EmuEditError(
            f"report: {folder} holds no finished shard; give a folder of training.build_pairs."
        )
    for path in finished:
        for row in read_rows(path):
            found.tally.add(row)
            for stage, reason in _reasons(row):
                told = f"{stage}: {_general(reason)}"
                found.reasons[task_of(row)][told] += 1
                instruction = row["job"]["instruction"]["instruction"] if row["job"] else ""
                found.examples.setdefault((task_of(row), told), instruction)
            for one in row["candidates"]:
                if one["key"] and one["verdict"]["task"] != task_of(row):
                    found.moved[f"{task_of(row)} → {one['verdict']['task']}"] += 1
    return found


def _finished(folder: Path) -> list[Path]:
    """The records of all finished shards."""
    paths = sorted((folder / shards.RECORDS).glob("[0-9]*.jsonl"))
    return [path for path in paths if path.with_suffix(".json").is_file()]


def _reasons(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if row["dropped"]:
        yield row["dropped"]["stage"], row["dropped"]["reason"]
    for one in row["candidates"]:
        if not one["verdict"]["kept"]:
            yield one["verdict"]["dropped_by"], one["verdict"]["reason"]


def _general(reason: str) -> str:
    """A sentence with its numbers and quotations taken out, so that like ones count together."""
    words, quoted = [], False
    for piece in QUOTE.split(APOSTROPHE.sub("\u2019", reason)):
        words.append("…" if quoted else piece)
        quoted = not quoted
    told = "".join(words).replace("\u2019", "'")
    return " ".join("#" if any(c.isdigit() for c in word) else word for word in told.split())


def samples(folder: Path, most: int) -> dict[str, list[shards.Pair]]:
    """Up to `most` pairs of each task, spread over the finished shards. All that is held is what is chosen:
    the records are read twice, once to count the pairs and once to find those."""
    finished = _finished(folder)
    counts = Counter(row["task"] for path in finished for row in index_rows(path))
    chosen = {
        task: {k * count // min(most, count) for k in range(min(most, count))}
        for task, count in counts.items()
    }
    shown: dict[str, list[shards.Pair]] = {task: [] for task in counts}
    seen: Counter[str] = Counter()
    for path in finished:
        keys = []
        for row in index_rows(path):
            if seen[row["task"]] in chosen[row["task"]]:
                keys.append(row["key"])
            seen[row["task"]] += 1
        if keys:
            for pair in shards.read_chosen(folder / shards.SHARDS / f"{path.stem}.tar", keys):
                shown[pair.task].append(pair)
    return shown


def page(
    folder: Path, found: Found, shown: dict[str, list[shards.Pair]], judged: dict[str, Any] | None = None
) -> Iterator[str]:
    """The report's HTML in pieces; `judged` as pairs.yields.judged_yield tells."""
    tally = found.tally
    tasks = [task for task in TASK_IDS if tally.jobs[task] or task in shown]
    title = f"Pairs in {escape(folder.name)}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
    yield f"<h1>{title}</h1><p>{escape(tally.line())}</p>"
    yield from _table(found, tasks)
    if judged is not None:
        yield from _judged(judged)
    if found.moved:
        told = ", ".join(f"{escape(name)} {count}" for name, count in found.moved.most_common())
        yield f"<p>Filed under another task by the task predictor: {told}.</p>"
    for task in tasks:
        yield f'<h2 id="{task}">{task}</h2>'
        yield from _sheet(shown.get(task, []))
        yield from _why(found, task)
    if tally.jobs[""]:
        yield f'<h2 id="none">{NO_TASK}</h2><p>Jobs that came to nothing before they had one.</p>'
        yield from _why(found, "")
    yield "</html>\n"


def _table(found: Found, tasks: Sequence[str]) -> Iterator[str]:
    tally = found.tally
    yield "<table><tr><th>task<th>jobs<th>candidates<th>pairs<th>of jobs<th>"
    for task in [*tasks, ""] if tally.jobs[""] else tasks:
        jobs, pairs = tally.jobs[task], tally.pairs[task]
        share = pairs / jobs if jobs else 0.0
        yield f'<tr><td><a href="#{task or "none"}">{task or NO_TASK}</a>'
        yield f"<td>{jobs}<td>{tally.candidates[task]}<td>{pairs}"
        yield f'<td>{share:.0%}<td class="words"><span class="bar" style="width:{share * 9:.2f}em"></span>'
    yield "</table>"


def _judged(judged: dict[str, Any]) -> Iterator[str]:
    yield "<p>Judged by the world's scene parser and rules:</p><table>"
    heads, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in yields.table(judged).split("\n")
    )
    yield "<tr><th>" + "<th>".join(map(escape, heads))
    for line in lines:
        yield "<tr><td>" + "<td>".join(map(escape, line))
    yield "</table>"


def _sheet(pairs: Sequence[shards.Pair]) -> Iterator[str]:
    if not pairs:
        yield '<p class="none">No pair.</p>'
        return
    yield '<div class="sheet">'
    for pair in pairs:
        mask = pair.mask
        pictures = [("before", pair.source), ("after", pair.target)]
        if mask is not None:
            pictures.append(("mask", mask))
        images = " ".join(f'<img alt="{name}" src="{_thumb(picture)}">' for name, picture in pictures)
        told = "; ".join(
            f"{score['name']} {score['value']:.3f}"
            for score in pair.record["scores"]
            if score["value"] is not None
        )
        about = f"{pair.key} · {pair.record['mask_kind']} mask" + (f" · {told}" if told else "")
        yield f"<figure>{images}<figcaption>{escape(pair.instruction)}"
        yield f'<div class="small">{escape(about)}</div></figcaption></figure>'
    yield "</div>"


def _why(found: Found, task: str) -> Iterator[str]:
    reasons = found.reasons.get(task)
    if not reasons:
        return
    yield '<p></p><table><tr><th>dropped because<th>times<th class="words">for example'
    for told, count in reasons.most_common(MOST_REASONS):
        example = found.examples[(task, told)]
        yield f'<tr><td>{escape(told)}<td>{count}<td class="words">{escape(example)}'
    yield "</table>"
    if len(reasons) > MOST_REASONS:
        yield f'<p class="small">and {len(reasons) - MOST_REASONS} other reasons</p>'


def _thumb(picture: Tensor) -> str:
    """A picture or mask, uint8, as a small picture inside the page."""
    from PIL import Image

    image = Image.fromarray(picture.to(torch.uint8).numpy()).convert("RGB")
    scale = SIDE / max(image.size)
    if scale < 1:
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=82)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def write_report(
    folder: Path, out: Path | None = None, most: int = 12, judged: dict[str, Any] | None = None
) -> Path:
    """Write the report on `folder` and return its path."""
    found = collect(folder)
    out = out or folder / "report.html"
    write_whole(out, (piece.encode() for piece in page(folder, found, samples(folder, most), judged)))
    return out


def _check(judge: bool, again: int, path: Path | None) -> None:
    """Options that need another, and a place to write to, before minutes of judging."""
    if not judge and (again or path is not None):
        name = "--json" if path is not None else "--again"
        raise EmuEditError(f"report: {name} needs the judgement; give --judge besides, or leave {name} out.")
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise EmuEditError(f"report: --json {path} is no file in a folder that exists; give one.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the report is written, 1 with one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m emu_edit.training.report", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that training.build_pairs wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default DIR/report.html")
    parser.add_argument(
        "--samples", type=at_least(0), default=12, metavar="N", help="pairs shown of each task (12)"
    )
    parser.add_argument("--judge", action="store_true", help="count how many pairs are right")
    again = "with --judge: of each task so many dropped candidates are made again and judged (0)"
    parser.add_argument("--again", type=at_least(0), default=0, metavar="N", help=again)
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --judge: write the counts there")
    options = parser.parse_args(arguments)
    try:
        judged = None
        _check(options.judge, options.again, options.json)
        if options.judge:
            judged = yields.judged_yield(
                options.folder,
                options.again,
                tell=lambda line: print(line, file=sys.stderr, flush=True),
            )
            print(yields.table(judged))
        if options.json and judged is not None:
            write_whole(options.json, (json.dumps(judged, indent=1) + "\n").encode())
        print(write_report(options.folder, options.out, options.samples, judged))
    except EmuEditError as slip:
        print(f"report: {str(slip).removeprefix('report: ')}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
