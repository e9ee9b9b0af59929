"""Folders of examples for task inversion: both layouts, and a sentence for everything that is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from emu_edit.core.errors import EmuEditError
from emu_edit.core.task_examples import TaskExample, check_examples, read_examples


def paint(path, size=(24, 16), colour=(200, 30, 60), mode="RGB"):
    Image.new(mode, size, colour).save(path)


def write(folder, name="a", words="make it red", source=(24, 16), target=(24, 16)):
    paint(folder / f"{name}.source.png", source)
    paint(folder / f"{name}.target.png", target, (0, 255, 0))
    (folder / f"{name}.txt").write_text(words, encoding="utf-8")


def test_names_are_read_in_order(tmp_path):
    for name in ("b", "a.1", "c"):
        write(tmp_path, name, f"do {name}\n")
    (tmp_path / "readme.md").write_text("no example")
    found = read_examples(tmp_path)
    assert [(e.name, e.instruction) for e in found] == [("a.1", "do a.1"), ("b", "do b"), ("c", "do c")]
    assert found[0].source.shape == found[0].target.shape == (1, 16, 24, 3)
    assert torch.equal(found[0].target[0, 0, 0], torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_listings_are_read(tmp_path, ending):
    paint(tmp_path / "x.png")
    paint(tmp_path / "y.jpg")
    rows = [{"source": "x.png", "target": "y.jpg", "instruction": w, "extra": 1} for w in ("one", "two")]
    text = json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows)) + "\n"
    (tmp_path / f"examples.{ending}").write_text(text, encoding="utf-8")
    assert [e.instruction for e in read_examples(tmp_path)] == ["one", "two"]


def test_sizes_may_differ_between_examples_and_by_scale_within_one(tmp_path):
    write(tmp_path, "a", source=(24, 16))
    write(tmp_path, "b", source=(12, 8), target=(48, 32))
    assert read_examples(tmp_path)[1].target.shape == (1, 32, 48, 3)
    write(tmp_path, "c", source=(24, 16), target=(16, 24))
    with pytest.raises(EmuEditError, match="c: the source is 24x16 pixels but the target 16x24; crop"):
        read_examples(tmp_path)


def test_transparent_pictures_are_flattened_on_white(tmp_path):
    write(tmp_path)
    paint(tmp_path / "a.source.png", colour=(0, 0, 0, 0), mode="RGBA")
    assert bool((read_examples(tmp_path)[0].source == 1).all())


def spoil_target(folder):
    (folder / "a.target.png").unlink()


def spoil_words(folder):
    (folder / "a.txt").unlink()


def spoil_text(folder):
    (folder / "a.txt").write_text("  \n")


def spoil_picture(folder):
    (folder / "a.source.png").write_bytes(b"\x89PNG broken")


def spoil_double(folder):
    paint(folder / "a.source.jpg")


def spoil_listing(folder):
    (folder / "examples.json").write_text("{not json")


def spoil_entry(folder):
    (folder / "examples.json").write_text('[{"source": "a.source.png", "target": 3}]')


def spoil_missing(folder):
    (folder / "examples.json").write_text(
        '[{"source": "a.source.png", "target": "no.png", "instruction": "x"}]'
    )


def spoil_outside(folder):
    paint(folder.parent / "outside.png")
    rows = [{"source": "a.source.png", "target": "../outside.png", "instruction": "x"}]
    (folder / "examples.json").write_text(json.dumps(rows))


def spoil_absolute(folder):
    rows = [{"source": str(folder / "a.source.png"), "target": "a.target.png", "instruction": "x"}]
    (folder / "examples.json").write_text(json.dumps(rows))


def spoil_all(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_target, "a.source.png is there but a.target.png is not; add it"),
        (spoil_words, "a.txt is missing; write the instruction of 'a' into it"),
        (spoil_text, "a: its instruction is empty"),
        (spoil_picture, "a: picture: .*a.source.png cannot be read"),
        (spoil_double, "both the source of 'a'; keep one"),
        (spoil_listing, "examples.json is not readable as JSON"),
        (spoil_entry, "examples.json, entry 1 is not"),
        (spoil_missing, "entry 1: picture: .*no.png does not exist"),
        (spoil_outside, "entry 1 names '../outside.png', outside its folder"),
        (spoil_absolute, "entry 1 names .*, outside its folder"),
        (spoil_all, "holds no NAME.source.png and no examples.json"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, spoil, words):
    folder = tmp_path / "examples"
    folder.mkdir()
    write(folder)
    spoil(folder)
    with pytest.raises(EmuEditError, match=words):
        read_examples(folder)


def test_no_folder_is_told(tmp_path):
    with pytest.raises(EmuEditError, match="does not exist; give a folder"):
        read_examples(tmp_path / "none")


def test_tensors_are_checked():
    good = torch.rand(1, 8, 8, 3)
    with pytest.raises(EmuEditError, match="there are none"):
        check_examples([])
    with pytest.raises(EmuEditError, match="example 2, source: 192 of its values are NaN"):
        check_examples([TaskExample(good, good, "x"), TaskExample(good * torch.nan, good, "x")])
    with pytest.raises(EmuEditError, match="holds 2 pictures before and 1 after"):
        check_examples([TaskExample(good.repeat(2, 1, 1, 1), good, "x")])
