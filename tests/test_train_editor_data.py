"""Readers of public layouts and of our shards, the order of a run, and what happens to damaged data."""

import itertools
import json
import os

import pytest
from training_data import INSTRUCTIONS, TASKS, encoded, pair_members, picture, write_shards, write_tar

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import shards as pair_shards
from emu_edit.training.data.pairs import BadPair, Unreadable, fit_pair
from emu_edit.training.data.skipped import SkipReport
from emu_edit.training.data.sources import open_source, open_sources
from emu_edit.training.data.stream import PairStream, Place, known_tasks


def everything(source):
    """All pairs by id, and all that cannot be used."""
    found = [pair for unit in source.units() for pair in source.read(unit)]
    good = {pair.id: pair.load(64) for pair in found if not isinstance(pair, BadPair)}
    return good, {pair.id: pair.reason for pair in found if isinstance(pair, BadPair)}


def save(path, number, size=(64, 64), kind="JPEG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(number, size), kind))


def test_our_shards(tmp_path):
    good, bad = everything(open_source(str(write_shards(tmp_path))))
    assert len(good) == 10 and not bad
    pair = good["00000000/00000002"]
    assert (pair.instruction, pair.task) == (INSTRUCTIONS[2], TASKS[2])
    assert (pair.source == picture(4)).all() and (pair.target == picture(5)).all()


def test_shards_as_the_pair_builder_writes_them(tmp_path):
    files = pair_members(3)
    written = {name: files[name] for name in sorted(files)}
    (tmp_path / "00000000.tar").write_bytes(pair_shards.members(written) + pair_shards.TAR_END)
    good, bad = everything(open_source(str(tmp_path)))
    assert good["00000000/00000003"].task == TASKS[3] and not bad


def test_damaged_shards_give_what_is_whole(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "empty.tar").write_bytes(b"")
    (folder / "noise.tar").write_bytes(bytes(range(256)) * 40)
    whole = write_tar(folder / "cut.tar", pair_members(0) | pair_members(1))
    whole.write_bytes(whole.read_bytes()[:-12000])
    members = pair_members(2) | pair_members(3) | pair_members(4) | pair_members(5)
    del members["00000002.target.png"], members["00000003.json"]
    members["00000004.json"] = b"{"
    write_tar(folder / "gaps.tar", members)
    good, bad = everything(open_source(str(tmp_path)))
    assert sorted(good) == ["cut/00000000", "gaps/00000005"]
    assert bad["empty.tar"] == "the shard is empty" or "damaged" in bad["empty.tar"]
    assert "damaged" in bad["noise.tar"] or "empty" in bad["noise.tar"]
    assert "cut off" in bad["cut.tar"] or "damaged" in bad["cut.tar"]
    assert bad["gaps/00000002"] == "its target picture is missing"
    assert bad["gaps/00000003"] == "its .json is missing"
    assert "cannot be used" in bad["gaps/00000004"]


@pytest.mark.parametrize("nested", ["", "shard-00/"])
def test_instruct_pix2pix_folders(tmp_path, nested):
    for name in ("0000001", "0000002"):
        folder = tmp_path / f"{nested}{name}"
        for seed in (11, 222):
            save(folder / f"{seed}_0.jpg", seed)
            save(folder / f"{seed}_1.jpg", seed + 1)
        (folder / "prompt.json").write_text(json.dumps({"input": "a", "edit": f"edit {name}", "output": "b"}))
    (tmp_path / f"{nested}0000002" / "222_1.jpg").unlink()
    source = open_source(str(tmp_path))
    found = {pair.id: pair for unit in source.units() for pair in source.read(unit)}
    assert len(found) == 4
    pair = found[f"{nested}0000001/222"].load(32)
    assert pair.instruction == "edit 0000001" and pair.task == "" and pair.source.shape == (32, 32, 3)
    with pytest.raises(Unreadable, match="target picture is missing"):
        found[f"{nested}0000002/222"].load(32)


def test_instruct_pix2pix_seeds_list(tmp_path):
    save(tmp_path / "7" / "1_0.jpg", 1)
    save(tmp_path / "7" / "1_1.jpg", 2)
    (tmp_path / "7" / "prompt.json").write_text('{"edit": "make it blue"}')
    (tmp_path / "seeds.json").write_text('[["7", ["1"]], ["8", ["2"]]]')
    good, bad = everything(open_source(str(tmp_path)))
    assert list(good) == ["7/1"] and bad == {"8": "its prompt.json is missing"}


def test_magicbrush_folder(tmp_path):
    for name in ("input", "output1", "output2"):
        save(tmp_path / "images" / "42" / f"42-{name}.png", len(name), kind="PNG")
    turns = [
        {
            "input": "42-input.png",
            "mask": "42-mask1.png",
            "output": "42-output1.png",
            "instruction": "add a hat",
        },
        {"input": "42-output1.png", "output": "42-output2.png", "instruction": "make it red"},
        {"input": "42-output2.png", "instruction": "no output"},
    ]
    (tmp_path / "edit_sessions.json").write_text(json.dumps({"42": turns}))
    good, bad = everything(open_source(str(tmp_path)))
    assert [good[name].instruction for name in ("42/1", "42/2")] == ["add a hat", "make it red"]
    assert "output" in bad["42/3"]


def test_pictures_that_come_later_are_noticed(tmp_path):
    """So that a cache does not go on skipping what was missing when it was made."""
    for place, folder in ((tmp_path / "m", "images/42"), (tmp_path / "i", "7")):
        (place / folder).mkdir(parents=True)
    turn = {"input": "a.png", "output": "b.png", "instruction": "add a hat"}
    (tmp_path / "m" / "edit_sessions.json").write_text(json.dumps({"42": [turn]}))
    (tmp_path / "i" / "7" / "prompt.json").write_text(json.dumps({"edit": "add a hat"}))
    for name, late in (("m", "images/42/b.png"), ("i", "7/1_1.jpg")):
        source = open_source(str(tmp_path / name))
        (unit,) = source.units()
        before = source.stamp(unit)
        assert source.stamp(unit) == before
        (tmp_path / name / late).touch()
        os.utime((tmp_path / name / late).parent, ns=(1, 1))
        assert source.stamp(unit) != before


LAYOUTS = {
    "ip2p": ("original_image", "edited_image", "edit_prompt", {}),
    "magicbrush": (
        "source_img",
        "target_img",
        "instruction",
        {"img_id": "9", "turn_index": 2, "mask_img": None},
    ),
    "ultraedit": ("source_image", "edited_image", "edit_prompt", {"mask_image": None, "clip_sim": 0.3}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parquet_layouts(tmp_path, layout):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    source, target, words, more = LAYOUTS[layout]
    cells = [{"bytes": encoded(picture(n)), "path": None} for n in range(6)]
    rows = [{source: cells[2 * n], target: cells[2 * n + 1], words: f"edit {n}", **more} for n in range(3)]
    rows[1][target] = None
    rows[2] |= {"img_id": "10"} if "img_id" in more else {}
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "train-0.parquet", row_group_size=2)
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1 this is none")
    found = open_source(str(tmp_path))
    good, bad = everything(found)
    assert found.name.startswith(layout)
    assert sorted(pair.instruction for pair in good.values()) == ["edit 0", "edit 2"]
    assert (next(iter(good.values())).source == picture(0)).all()
    assert "its target picture is missing" in bad.values() and "damaged" in bad["train-1.parquet"]
    if layout == "magicbrush":
        assert list(good) == ["9/2", "10/2"]


def test_parquet_of_two_kinds_in_one_folder(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name, layout in (("a", "ip2p"), ("b", "magicbrush")):
        columns = LAYOUTS[layout][:3]
        parquet.write_table(arrow.table({column: ["x"] for column in columns}), tmp_path / f"{name}.parquet")
    with pytest.raises(EmuEditError, match="b.parquet holds magicbrush pairs but .* ip2p"):
        open_source(str(tmp_path))


def test_parquet_of_something_else(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"words": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(EmuEditError, match="has the columns words; known are those of"):
        open_source(str(tmp_path))


def test_what_is_no_data_set(tmp_path):
    for words, sentence in (
        (str(tmp_path / "nothing"), "does not exist"),
        (str(tmp_path), "nothing to train on"),
        ("world:many", "world:COUNT"),
    ):
        with pytest.raises(EmuEditError, match=sentence):
            open_source(words)


def test_the_world():
    source = open_source("world:300:5")
    assert len(source.units()) == 2
    pairs = [pair for unit in source.units() for pair in source.read(unit)]
    assert len({pair.id for pair in pairs}) == 300
    made = pairs[0].load(64)
    assert made.source.shape == (64, 64, 3) and made.instruction and made.task


def stream(source, window=4, seed=3):
    return PairStream(source, seed, window, 64, SkipReport())


def ids(batches, count):
    return [[pair.id for pair in batch.items] for batch in itertools.islice(batches, count)]


def test_an_order_goes_on_where_it_was_left(tmp_path):
    source = open_sources([str(write_shards(tmp_path, shards=4, each=3))])
    whole = list(itertools.islice(stream(source).batches(Place(), 5, workers=1), 8))
    names = [[pair.id for pair in batch.items] for batch in whole]
    for stop in (1, 3, 6):
        assert ids(stream(source).batches(whole[stop - 1].after, 5, workers=1), 8 - stop) == names[stop:]
    first = sum(names, [])[:12]
    assert len(set(first)) == 12, "an epoch shows every pair once"
    assert sum(names, [])[12:24] != first, "and the next one in another order"


def test_processes_share_every_batch(tmp_path):
    source = open_sources([str(write_shards(tmp_path, shards=2, each=4))])
    together = ids(stream(source).batches(Place(), 4, workers=1), 4)
    apart = [ids(stream(source).batches(Place(), 2, rank, 2, workers=1), 4) for rank in (0, 1)]
    assert [a + b for a, b in zip(*apart, strict=True)] == together


def test_pairs_that_cannot_be_read_are_replaced_and_counted(tmp_path):
    members = {}
    for number in range(4):
        members |= pair_members(number)
    members["00000001.target.png"] = b"no picture"
    members["00000002.target.png"] = encoded(picture(5, (96, 64)))
    write_tar(tmp_path / "a.tar", members)
    report = SkipReport(tmp_path / "skipped.jsonl")
    batches = PairStream(open_source(str(tmp_path)), 0, 8, 64, report).batches(Place(), 4, workers=2)
    seen = {name for batch in ids(batches, 3) for name in batch}
    assert seen == {"a/00000000", "a/00000003"} and len(report) == 2
    sentence = report.sentence()
    assert sentence.startswith("2 pairs were skipped") and "damaged" in sentence
    assert "do not lie over each other" in sentence
    again = SkipReport(tmp_path / "skipped.jsonl")
    assert len(again) == 2 and "a/00000001" in again


def test_data_of_which_nothing_can_be_used(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    batches = stream(open_source(str(tmp_path))).batches(Place(), 2)
    with pytest.raises(EmuEditError, match=r"not one pair can be used. 1 pair was skipped"):
        next(batches)


def test_sizes_and_proportions():
    source, target = fit_pair(picture(1, (200, 100)), picture(2, (100, 50)), 64)
    assert source.shape == target.shape == (64, 64, 3)
    with pytest.raises(Unreadable, match="200x100 .* 100x100"):
        fit_pair(picture(1, (200, 100)), picture(2, (100, 100)), 64)


def test_tasks_come_from_the_data_or_the_predictor():
    asked = []

    def predict(texts):
        asked.extend(texts)
        return ["style", "pose"]

    names = ("local", "style")
    found = known_tasks(names, ["local", "", "unknown"], ["a", "b", "c"], predict)
    assert found == ["local", "style", ""] and asked == ["b", "c"]


def test_two_data_sets_whose_pairs_are_numbered_alike(tmp_path):
    places = [str(write_shards(tmp_path / name, shards=1, each=2)) for name in ("x", "y")]
    good, _ = everything(open_sources(places))
    assert sorted(good) == [
        "0:00000000/00000000",
        "0:00000000/00000001",
        "1:00000000/00000000",
        "1:00000000/00000001",
    ]
