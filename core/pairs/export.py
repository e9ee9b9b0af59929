"""Pairs in the layouts of other trainers: Hugging Face's imagefolder, InstructPix2Pix's, and two folders.

Each exporter streams a folder of pairs, holds one in memory, and writes files whole. What was exported before
under the same names is replaced by the same bytes, so an interrupted export is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import EmuEditError
from .durable import write_whole
from .shards import dump, png, read_pairs, shard_paths

FORMATS = ("imagefolder", "instructpix2pix", "folders")


def export_pairs(folder: Path, out: Path, layout: str, on_pair: Callable[[int], None] | None = None) -> int:
    """Write the pairs of `folder` to `out` in one of FORMATS and return how many there were.

    on_pair(done) is called after each and may raise to interrupt. Raises EmuEditError for an unknown layout,
    a folder without pairs, and an `out` inside of `folder`.
    """
    writers = {"imagefolder": _imagefolder, "instructpix2pix": _instructpix2pix, "folders": _folders}
    if layout not in writers:
        raise EmuEditError(f"export: {layout!r} is no layout; give one of {', '.join(FORMATS)}.")
    folder, out = Path(folder), Path(out)
    shard_paths(folder)
    if out.resolve().is_relative_to(folder.resolve()):
        raise EmuEditError(f"export: {out} lies inside the folder of pairs; give another place.")
    done = 0
    for done, _ in enumerate(writers[layout](folder, out), 1):
        if on_pair is not None:
            on_pair(done)
    return done


def _imagefolder(folder: Path, out: Path) -> Iterator[None]:
    """Pictures in train/ and metadata.jsonl, whose *_file_name columns `load_dataset("imagefolder")` opens:
    input_image, edited_image and, where there is one, mask; with edit_prompt as InstructPix2Pix trainers of
    diffusers name it.
    """
    place = out / "train"
    rows: list[bytes] = []
    for pair in read_pairs(folder):
        row: dict[str, Any] = {
            "input_image_file_name": f"{pair.key}.source.png",
            "edited_image_file_name": f"{pair.key}.target.png",
            "edit_prompt": pair.instruction,
            "task": pair.task,
            "input_caption": pair.record["input_caption"],
            "output_caption": pair.record["output_caption"],
        }
        write_whole(place / row["input_image_file_name"], png(pair.source))
        write_whole(place / row["edited_image_file_name"], png(pair.target))
        if pair.mask is not None:
            row["mask_file_name"] = f"{pair.key}.mask.png"
            write_whole(place / row["mask_file_name"], png(pair.mask))
        rows.append(dump(row) + b"\n")
        yield
    write_whole(place / "metadata.jsonl", rows)


def _instructpix2pix(folder: Path, out: Path) -> Iterator[None]:
    """The layout of InstructPix2Pix's own data set: a folder for each pair with prompt.json ("edit", "input",
    "output") and SEED_0.jpg, SEED_1.jpg, and seeds.json over all. The pictures are JPEG of quality 95.
    """
    rows: list[bytes] = []
    for pair in read_pairs(folder):
        seed = str(pair.record["seed"])
        place = out / pair.key
        words = {
            "edit": pair.instruction,
            "input": pair.record["input_caption"],
            "output": pair.record["output_caption"],
        }
        write_whole(place / "prompt.json", dump(words))
        write_whole(place / f"{seed}_0.jpg", _jpeg(pair.source))
        write_whole(place / f"{seed}_1.jpg", _jpeg(pair.target))
        rows.append(dump([pair.key, [seed]]))  # type: ignore[arg-type]
        yield
    write_whole(out / "seeds.json", b"[" + b",\n".join(rows) + b"]\n")


def _folders(folder: Path, out: Path) -> Iterator[None]:
    """target/ and control/ with pictures of the same names and the instruction as target/NAME.txt, as
    trainers of LoRAs for editors read them; mask/ besides where there are masks.
    """
    for pair in read_pairs(folder):
        name = f"{pair.key}_{pair.task}"
        write_whole(out / "control" / f"{name}.png", png(pair.source))
        write_whole(out / "target" / f"{name}.png", png(pair.target))
        write_whole(out / "target" / f"{name}.txt", pair.instruction.encode() + b"\n")
        if pair.mask is not None:
            write_whole(out / "mask" / f"{name}.png", png(pair.mask))
        yield


def _jpeg(picture: Any) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, format="JPEG", quality=95)
    return file.getvalue()
