"""`emu-edit invert` and training.invert_task: files written whole, slips told before work, Ctrl-C."""

from __future__ import annotations

import json

import pytest
import torch
from toy_models import toy_backbone, toy_pictures

from emu_edit.commands.main import main
from emu_edit.core.picture_files import save_picture
from emu_edit.core.task_files import load_task
from emu_edit.training import invert_task as training

QUICK = ["--steps", "2", "--batch", "2", "--start", "none", "--rate", "0.3"]


@pytest.fixture(scope="module")
def toy():
    made = toy_backbone(task_width=12)
    torch.nn.init.normal_(made.unet.class_embedding.weight, std=0.3)
    return made


@pytest.fixture
def editor(toy, monkeypatch):
    monkeypatch.setattr("emu_edit.commands.invert.open_editor", lambda *_: toy)
    monkeypatch.setattr(training, "load_editor", lambda *_: toy)
    return toy


@pytest.fixture
def examples(tmp_path):
    folder = tmp_path / "examples"
    folder.mkdir()
    for index, picture in enumerate(toy_pictures(2)):
        save_picture(folder / f"{index}.source.png", picture)
        save_picture(folder / f"{index}.target.png", 1 - picture)
        (folder / f"{index}.txt").write_text("turn it over\n")
    return folder


def test_a_folder_becomes_a_task_file(editor, examples, tmp_path, capsys):
    out, sheet, report = tmp_path / "over.safetensors", tmp_path / "over.png", tmp_path / "over.json"
    code = main(
        ["invert", str(examples), "-o", str(out), "--sheet", str(sheet), "--json", str(report), *QUICK]
    )
    said = capsys.readouterr().out
    assert code == 0 and f"wrote {out}" in said and "learnt 'over' from 2 examples" in said
    task = load_task(out, editor)
    assert (task.name, task.examples) == ("over", 2) and out.stat().st_size < 4096
    assert sheet.is_file()
    found = json.loads(report.read_text())
    assert found["history"][0][0] == 0 and set(found["starts"]) == {"none"} and found["seconds"] > 0

    log = tmp_path / "log.jsonl"
    again = tmp_path / "again.safetensors"
    assert training.main([str(examples), "-o", str(again), "--log", str(log), "--device", "cpu", *QUICK]) == 0
    assert torch.equal(load_task(again).vector, task.vector)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["-o", "task.png"], "let it end in .safetensors"),
        (["-o", "no/where.safetensors"], "give a file in a folder that exists"),
        (["--steps", "0"], "steps is 0"),
        (["--sheet", "sheet.txt"], "does not end in a picture format"),
        (["--json", "no/where.json"], "json: no/where.json cannot be written"),
        (["--start", "fly"], "start is 'fly'"),
    ],
)
def test_slips_are_told_and_write_nothing(editor, examples, tmp_path, monkeypatch, capsys, change, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["invert", str(examples), "-o", "task.safetensors", *QUICK, *change]) == 1
    said = capsys.readouterr().err
    assert said.startswith("emu-edit invert: ") and words in said and said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_examples_are_told_before_the_editor_loads(examples, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emu_edit.commands.invert.open_editor", None)
    (examples / "1.target.png").unlink()
    assert main(["invert", str(examples), "-o", str(tmp_path / "t.safetensors")]) == 1
    assert "1.source.png is there but 1.target.png is not; add it" in capsys.readouterr().err


def test_ctrl_c_leaves_an_earlier_file_as_it_was(editor, examples, tmp_path, monkeypatch, capsys):
    out = tmp_path / "over.safetensors"
    out.write_bytes(b"earlier")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("emu_edit.commands.invert.Bar.show", stop)
    assert main(["invert", str(examples), "-o", str(out), *QUICK]) == 130
    assert out.read_bytes() == b"earlier" and sorted(p.name for p in tmp_path.iterdir()) == [
        "examples",
        out.name,
    ]
