"""`emu-edit keep` on files."""

from __future__ import annotations

import json

import torch

from emu_edit.commands.main import main
from emu_edit.core.picture_files import load_picture, save_picture


def files(tmp_path):
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(1, 3, 9, 9, generator=generator)
    before = torch.nn.functional.interpolate(coarse, (80, 80), mode="bicubic").clamp(0.1, 0.9).movedim(1, -1)
    edited = before.clone()
    edited[:, 20:50, 30:60] = torch.tensor([0.95, 0.1, 0.2])
    save_picture(tmp_path / "before.png", before)
    save_picture(tmp_path / "after.jpg", edited)
    return str(tmp_path / "before.png"), str(tmp_path / "after.jpg")


def test_keep_writes_the_picture_and_the_mask(tmp_path, capsys):
    before, after = files(tmp_path)
    out, mask = str(tmp_path / "kept.png"), str(tmp_path / "mask.png")
    assert main(["keep", before, after, "-o", out, "--mask-out", mask, "--mode", "hysteresis", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0.05 < report["pictures"][0]["changed"] < 0.3
    taken = load_picture(mask)[0, ..., 0] > 0
    assert torch.equal(load_picture(out)[0][~taken], load_picture(before)[0][~taken])
    assert bool(taken[35, 45]) and not bool(taken[5, 5])
    assert main(["keep", before, after, "-o", out, "--no-align", "--colour", "none"]) == 0
    assert "of the pixels are the edit's" in capsys.readouterr().out


def test_slips_are_one_line(tmp_path, capsys):
    before, after = files(tmp_path)
    out = str(tmp_path / "kept.png")
    for extra in (["--mode", "best"], ["--fit", "bend"], ["--colour", "red"], ["--compare-in", "cmyk"]):
        assert main(["keep", before, after, "-o", out, *extra]) == 1
        error = capsys.readouterr().err
        assert error.startswith("emu-edit keep: ") and error.count("\n") == 1 and "choose" in error
    assert main(["keep", before, str(tmp_path / "none.png"), "-o", out]) == 1
    assert not (tmp_path / "kept.png").exists()
