"""Pairs on disk: names and bytes of shards, reading them, whole writes, exports."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time

import numpy as np
import pytest
import torch
from PIL import Image

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs import durable, export, shards
from emu_edit.core.pairs.records import Candidate, Instruction, PairJob, Score, Verdict

WORDS = Instruction("local", "make the ball blue", "a red ball", "a blue ball", "ball", "ball")


def made(number: int, size: int = 16, **options):
    """A pair with soft pictures, its record and its files."""
    draw = torch.Generator().manual_seed(number)
    source, target = torch.rand(2, size, size, 3, generator=draw)
    mask = torch.rand(size, size, generator=draw)
    masks = {"precise": (mask > 0.5).float(), "soft": mask, "box": torch.ones(size, size)}
    job = PairJob(f"{number:08d}", number, WORDS)
    candidate = Candidate(source, target, WORDS, 1, number, "soft", masks, {"steps": 4}, **options)
    verdict = Verdict("local", True, (Score("l1", 0.1, 0.5, True),), rank=0.5)
    record = shards.pair_record(f"{number:08d}", job, candidate, verdict)
    return candidate, record, shards.pair_files(record, candidate)


def folder_of(tmp_path, counts=(2, 3)):
    """A folder of pairs with one shard for each count; returns the folder and the candidates."""
    candidates, number = [], 0
    for shard, count in enumerate(counts):
        pieces = []
        for _ in range(count):
            candidate, _, files = made(number)
            candidates.append(candidate)
            pieces.append(shards.members(files))
            number += 1
        durable.write_whole(tmp_path / "shards" / f"{shard:08d}.tar", [*pieces, shards.TAR_END])
    return tmp_path, candidates


def as_bytes(picture):
    return (picture * 255).round().to(torch.uint8)


def test_a_shard_is_a_plain_tar_of_the_names_promised(tmp_path):
    folder, _ = folder_of(tmp_path, (2,))
    with tarfile.open(folder / "shards" / "00000000.tar") as archive:
        infos = archive.getmembers()
    endings = ["json", "mask.box.png", "mask.precise.png", "mask.soft.png", "source.png", "target.png"]
    assert [m.name for m in infos] == [f"{key:08d}.{ending}" for key in (0, 1) for ending in endings]
    assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in infos} == {(0, 0, 0, 0o644, "")}


def test_members_equal_what_tarfile_itself_writes():
    _, _, files = made(3)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    mine = shards.members(files)
    assert expected.getvalue()[: len(mine)] == mine
    assert not any(expected.getvalue()[len(mine) :])


def test_pairs_come_back_as_they_went_in(tmp_path):
    folder, candidates = folder_of(tmp_path)
    pairs = list(shards.read_pairs(folder))
    assert [pair.key for pair in pairs] == [f"{k:08d}" for k in range(5)]
    for pair, candidate in zip(pairs, candidates, strict=True):
        assert torch.equal(pair.source, as_bytes(candidate.source))
        assert torch.equal(pair.target, as_bytes(candidate.target))
        assert torch.equal(pair.mask, as_bytes(candidate.masks["soft"]))
        assert set(pair.masks) == {"precise", "soft", "box"}
        assert (pair.task, pair.instruction) == ("local", "make the ball blue")
        again = Candidate.from_json(
            pair.record["candidate"],
            pair.source / 255,
            pair.target / 255,
            {k: m / 255 for k, m in pair.masks.items()},
        )
        assert again.parameters == {"steps": 4} and PairJob.from_json(pair.record["job"]).id == pair.key


def test_a_folder_is_read_by_number_and_task(tmp_path):
    folder, _ = folder_of(tmp_path)
    found = shards.PairFolder(folder)
    assert len(found) == 5 and found.tasks == ["local"] * 5
    straight = list(shards.read_pairs(folder))
    for index in (4, 0, 2, -1):
        assert found[index].key == straight[index].key
        assert torch.equal(found[index].target, straight[index].target)
    assert [pair.key for pair in found[1:3]] == ["00000001", "00000002"]
    assert len(shards.PairFolder(folder, tasks=["remove"])) == 0


def test_damage_is_told_in_a_sentence(tmp_path):
    with pytest.raises(EmuEditError, match="holds no shards"):
        shards.shard_paths(tmp_path)
    folder, _ = folder_of(tmp_path, (2,))
    path = folder / "shards" / "00000000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EmuEditError, match="cannot be read"):
        list(shards.read_pairs(folder))
    broken = whole.replace(b"IHDR", b"IXDR", 1)
    path.write_bytes(broken)
    with pytest.raises(EmuEditError, match="pair 00000000"):
        list(shards.read_pairs(folder))


def as_it_is(record):
    return record


STRANGE = [
    ("{}/x", as_it_is),  # a place of the test's own
    ("../../x", as_it_is),
    ("._00000001", as_it_is),
    ("x", as_it_is),
    ("\u0663", as_it_is),
    ("00000001", lambda record: []),
    ("00000001", lambda record: {name: record[name] for name in record if name != "task"}),
    ("00000001", lambda record: {name: record[name] for name in record if name != "seed"}),
    ("00000001", lambda record: record | {"task": "../../x"}),
    ("00000001", lambda record: record | {"task": ["local"]}),
    ("00000001", lambda record: record | {"seed": "../.."}),
    ("00000001", lambda record: record | {"instruction": 3}),
    ("00000001", lambda record: record | {"input_caption": None}),
    ("00000001", lambda record: record | {"mask_kind": {}}),
    ("00000001", lambda record: record | {"scores": [{"name": "x"}]}),
]


@pytest.mark.parametrize("key, change", STRANGE)
def test_what_no_writer_of_shards_makes_is_refused_and_written_nowhere(key, change, tmp_path):
    place, key = tmp_path / "a" / "b", key.format(tmp_path)
    folder, _ = folder_of(place / "pairs", (1,))
    _, record, files = made(1)
    files |= {"00000001.json": shards.dump(change(record))}
    strange = shards.members({name.replace("00000001", key, 1): data for name, data in files.items()})
    path = folder / "shards" / "00000000.tar"
    path.write_bytes(path.read_bytes().removesuffix(shards.TAR_END) + strange + shards.TAR_END)
    before = files_of(tmp_path)
    for layout in export.FORMATS:
        with pytest.raises(EmuEditError, match="cannot be read"):
            export.export_pairs(folder, place / "out", layout)
    assert all(name in before or name.startswith("a/b/out/") for name in files_of(tmp_path))
    with pytest.raises(EmuEditError, match="cannot be read"):
        shards.PairFolder(folder)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_members_of_a_shard_that_are_no_files_are_refused(kind, tmp_path):
    folder, _ = folder_of(tmp_path, (1,))
    path = folder / "shards" / "00000000.tar"
    info = tarfile.TarInfo("00000001.json")
    info.type, info.linkname = kind, "00000000.json"
    path.write_bytes(path.read_bytes().removesuffix(shards.TAR_END) + info.tobuf() + shards.TAR_END)
    for read in (shards.read_pairs, shards.PairFolder):
        with pytest.raises(EmuEditError, match="'00000001.json' in it is no file of a pair"):
            list(read(folder))


def test_pictures_of_a_pair_that_are_not_of_one_size_are_refused(tmp_path):
    folder, _ = folder_of(tmp_path, (1,))
    _, record, files = made(1)
    for name in ("00000001.target.png", "00000001.mask.box.png"):
        other = files | {name: made(1, 8)[2][name]}
        path = folder / "shards" / "00000001.tar"
        path.write_bytes(shards.members(other) + shards.TAR_END)
        with pytest.raises(EmuEditError, match="pair 00000001 .*not of one size"):
            list(shards.read_pairs(folder))


def test_records_are_the_same_line_whatever_their_order():
    assert shards.dump({"b": 1, "a": "é"}) == shards.dump({"a": "é", "b": 1}) == '{"a": "é", "b": 1}'.encode()
    with pytest.raises(ValueError):
        shards.dump({"a": float("nan")})


class Killed(BaseException):
    """Stands for kill -9: nothing in the program answers it."""


@pytest.mark.parametrize("step", ["begin", "writing", "written", "renamed"])
def test_a_kill_at_any_step_of_a_write_leaves_old_or_new(tmp_path, monkeypatch, step):
    path = tmp_path / "a.bin"
    durable.write_whole(path, b"old")

    def stop(name, where):
        if name == step:
            raise Killed

    monkeypatch.setattr(durable, "at_step", stop)
    with pytest.raises(Killed):
        durable.write_whole(path, b"brand new")
    monkeypatch.undo()
    assert path.read_bytes() == (b"brand new" if step == "renamed" else b"old")
    assert durable.clear_parts(tmp_path) == (1 if step in ("writing", "written") else 0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_two_writers_of_one_file_do_not_touch_each_others_half(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    inner = []

    def meet(name, where):
        if name == "writing" and not inner:
            inner.append(True)
            durable.write_whole(path, b"the other's")
            assert path.read_bytes() == b"the other's"
            assert durable.clear_parts(tmp_path, older=60) == 0

    monkeypatch.setattr(durable, "at_step", meet)
    durable.write_whole(path, [b"one ", b"half"])
    assert path.read_bytes() == b"one half" and [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_only_old_halves_are_cleared_where_others_write(tmp_path):
    for name, age in ((".a.bin.1.part", 100), (".b.bin.2.part", 0)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert durable.clear_parts(tmp_path, older=60) == 1
    assert [p.name for p in tmp_path.iterdir()] == [".b.bin.2.part"]
    assert durable.is_part(".a.bin.1.part", "a.bin") and not durable.is_part(".a.binx.part", "a.bin")


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    durable.write_whole(path, b"old")

    def full(step, where):
        if step == "writing":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "at_step", full)
    with pytest.raises(EmuEditError, match="the disk is full: a.bin"):
        durable.write_whole(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def opened(path):
    return torch.from_numpy(np.array(Image.open(path)))


def test_export_as_an_image_folder(tmp_path):
    folder, candidates = folder_of(tmp_path / "pairs", (2,))
    assert export.export_pairs(folder, tmp_path / "out", "imagefolder") == 2
    place = tmp_path / "out" / "train"
    rows = [json.loads(line) for line in (place / "metadata.jsonl").read_text().splitlines()]
    assert [row["edit_prompt"] for row in rows] == ["make the ball blue"] * 2
    for row, candidate in zip(rows, candidates, strict=True):
        assert torch.equal(opened(place / row["input_image_file_name"]), as_bytes(candidate.source))
        assert torch.equal(opened(place / row["edited_image_file_name"]), as_bytes(candidate.target))
        assert torch.equal(opened(place / row["mask_file_name"]), as_bytes(candidate.masks["soft"]))
        assert row["task"] == "local" and row["output_caption"] == "a blue ball"


def test_export_in_the_layout_of_instructpix2pix(tmp_path):
    folder, candidates = folder_of(tmp_path / "pairs", (2,))
    export.export_pairs(folder, tmp_path / "out", "instructpix2pix")
    seeds = json.loads((tmp_path / "out" / "seeds.json").read_text())
    assert [name for name, _ in seeds] == ["00000000", "00000001"]
    for (name, (seed,)), candidate in zip(seeds, candidates, strict=True):
        place = tmp_path / "out" / name
        told = json.loads((place / "prompt.json").read_text())
        assert told == {"edit": "make the ball blue", "input": "a red ball", "output": "a blue ball"}
        for side, picture in (("0", candidate.source), ("1", candidate.target)):
            found = opened(place / f"{seed}_{side}.jpg").float()
            assert float((found.mean() - as_bytes(picture).float().mean()).abs()) < 3


def test_export_as_target_and_control_folders(tmp_path):
    folder, candidates = folder_of(tmp_path / "pairs", (1,))
    done = []
    export.export_pairs(folder, tmp_path / "out", "folders", done.append)
    name = "00000000_local"
    assert files_of(tmp_path / "out") == [
        f"control/{name}.png",
        f"mask/{name}.png",
        f"target/{name}.png",
        f"target/{name}.txt",
    ]
    assert (tmp_path / "out" / "target" / f"{name}.txt").read_text() == "make the ball blue\n"
    assert torch.equal(opened(tmp_path / "out" / "control" / f"{name}.png"), as_bytes(candidates[0].source))
    assert done == [1]


def test_exports_that_cannot_be_are_told(tmp_path):
    folder, _ = folder_of(tmp_path / "pairs", (1,))
    with pytest.raises(EmuEditError, match="'zip' is no layout"):
        export.export_pairs(folder, tmp_path / "out", "zip")
    with pytest.raises(EmuEditError, match="lies inside"):
        export.export_pairs(folder, folder / "out", "folders")
    with pytest.raises(EmuEditError, match="holds no shards"):
        export.export_pairs(tmp_path, tmp_path / "out", "folders")
