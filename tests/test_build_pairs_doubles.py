"""No pair twice in a data set, however it was built, and no job of a picture that becomes another's."""

from __future__ import annotations

import json
from dataclasses import replace

from PIL import Image
from test_build_pairs import PLAN, ROOT, Killed, ToyJobs, toy, toy_build, tree  # noqa: F401
from test_build_pairs_faults import rows_of
from test_build_pairs_jobs import READY, pictures

from emu_edit.core.pairs import durable, shards
from emu_edit.core.pairs.recipes import table
from emu_edit.core.pairs.records import Instruction, PairJob
from emu_edit.training import build_pairs
from emu_edit.training.pairs.doubles import Doubles, dump

REAL = table.RECIPES  # before the fixture puts toys in
LONG = replace(PLAN, count=30, patience=100)


class Repeating(ToyJobs):
    """What the first 22 jobs ask for comes three times, in other words and later chunks; no pictures."""

    def item(self, n):
        item = super().item(n)
        if not isinstance(item, PairJob):
            return item
        k = n % 22 if n < 66 else n
        words = f"make it bright {k}" if n < 22 else f"Please, make it bright {k}!"
        told = Instruction("color", words, f"a ball {k}", f"A bright ball {k}.")
        return replace(item, instruction=told, picture="")


def test_what_a_double_takes_on_the_disk_is_as_told():
    told = f"{len(dump([1, 2])) // 2} bytes of each job"
    assert told in Doubles.__doc__ and told in (ROOT / "docs" / "pairs.md").read_text(encoding="utf-8")


def test_doubles_are_dropped_over_the_whole_data_set(tmp_path):
    toy_build(tmp_path, LONG, Repeating(LONG))
    said = [pair.record["input_caption"] for pair in shards.read_pairs(tmp_path)]
    assert len(said) == len(set(said)) == 30
    rows = rows_of(tmp_path)
    kept = {row["number"] for row in rows if any(one["key"] for one in row["candidates"])}
    doubles = [row for row in rows if row["dropped"] and row["dropped"]["stage"] == "duplicate"]
    assert len(doubles) > 8
    for row in doubles:
        assert row["candidates"] and "says the same of the same picture" in row["dropped"]["reason"]
        assert any(n % 22 == row["number"] % 22 and n < row["number"] for n in kept)


def test_doubles_are_the_same_ones_under_kills_and_when_made_longer(tmp_path, monkeypatch):
    toy_build(tmp_path / "whole", LONG, Repeating(LONG))
    count = [0]

    def stop(step, path):
        count[0] += 1
        if count[0] % 37 == 0:
            raise Killed

    monkeypatch.setattr(durable, "at_step", stop)
    for _ in range(200):
        try:
            toy_build(tmp_path / "killed", LONG, Repeating(LONG))
            break
        except Killed:
            pass
    monkeypatch.setattr(durable, "at_step", lambda step, path: None)
    assert count[0] > 200 and tree(tmp_path / "killed") == tree(tmp_path / "whole")
    for pairs in (9, 17, 30):
        toy_build(tmp_path / "grown", replace(LONG, count=pairs), Repeating(LONG))
    assert tree(tmp_path / "grown") == tree(tmp_path / "whole")


def from_pictures(folder, out, *more):
    command = ["--out", str(out), "--count", "50", "--pictures", str(folder), "--size", "32", "--quiet"]
    assert build_pairs.main([*command, *more]) == 1  # there are not so many


def test_one_picture_twice_is_a_double_and_two_that_are_called_alike_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "RECIPES", REAL)
    folder = pictures(tmp_path / "in")
    with Image.open(folder / "1.png") as again:
        again.save(folder / "8.png", compress_level=1)  # other bytes, the same pixels
    ready, told = (
        tmp_path / "ready.jsonl",
        {"0": "make it darker", "1": "make it darker", "2": "make it darker"},
    )
    told |= {"8": "Please, make it darker.", "9": "make it darker"}
    lines = [READY | {"picture": f"{name}.png", "instruction": words} for name, words in told.items()]
    ready.write_text("\n".join(json.dumps(line) for line in lines))
    options = ["--tasks", "color", "--filters", "changed", "--instructions", str(ready), "--chunk-jobs", "2"]
    from_pictures(folder, tmp_path / "out", *options)
    lost = {row["number"]: row["dropped"]["stage"] for row in rows_of(tmp_path / "out") if row["dropped"]}
    assert lost == {3: "duplicate", 4: "recipe"}
    (folder / "3.txt").write_text((folder / "0.txt").read_text())
    Image.new("RGB", (40, 32), "red").save(folder / "3.png")
    from_pictures(folder, tmp_path / "alike", "--tasks", "sketch", "--filters", "changed")
    kept = {pair.record["job"]["picture"] for pair in shards.read_pairs(tmp_path / "alike")}
    assert {"0.png", "3.png"} <= kept  # one caption, two pictures, one chunk


def test_digests_are_small_and_come_back():
    seen, digests = Doubles(), [0, 1, 2**64 - 1]
    assert len(dump(digests)) == 3 * 16
    seen.load(dump(digests))
    assert [seen.take(digest) for digest in (0, 2**64 - 1, 5, 5)] == [False, False, True, False]


def of_pictures(out):
    return {pair.key: pair.record["job"]["picture"] for pair in shards.read_pairs(out)}


def test_pictures_that_are_added_or_go_shift_no_job(tmp_path):
    folder, out = pictures(tmp_path / "in"), tmp_path / "out"
    options = [
        "--tasks",
        "color,sketch",
        "--filters",
        "changed,task",
        "--chunk-jobs",
        "1",
        "--shard-jobs",
        "2",
    ]
    from_pictures(folder, out, *options)
    before = of_pictures(out)
    assert len(before) == 6
    (folder / "0.png").unlink()
    for name in ("00", "01"):  # they come before 1.png by name
        Image.new("RGB", (40, 32), (200, 30, 40 * int(name))).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("a red wall\n")
    from_pictures(folder, out, *options)
    after = of_pictures(out)
    assert {key: after[key] for key in before} == before
    assert set(list(after.values())[6:]) == {"00.png", "01.png"}
    names = [json.loads(line) for line in (out / "pictures.jsonl").read_text().splitlines()]
    assert names == ["0.png", "1.png", "2.png", "9.png", "00.png", "01.png"]
