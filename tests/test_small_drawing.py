"""What the text-to-image base draws is read by the scene parser: true pictures pass, empty ones do not."""

import json

import numpy as np
import torch
from small_recipe import TINY

from emu_edit.core.checkpoints import save_editor
from emu_edit.training.small import drawing
from emu_edit.training.small.base import base_of
from emu_edit.training.small.models import build_editor
from emu_edit.training.small.render import render
from emu_edit.training.small.wording import vocabulary


def test_true_pictures_are_read_and_bare_backdrops_hold_no_things():
    scenes = drawing.scenes_to_draw(3, seed=7)
    assert drawing.scenes_to_draw(3, seed=7) == scenes
    assert all(not scene.effect and scene.text is None and not scene.style for scene in scenes)
    true = drawing.read(scenes, [render(scene) for scene in scenes])
    assert true["backdrop"] == 1.0 and true["thing"] > 0.8 and true["shape"] >= true["thing"]
    bare = drawing.read(scenes, [render(drawing.replace(scene, objects=())) for scene in scenes])
    assert bare["backdrop"] == 1.0 and bare["thing"] == bare["all"] == 0.0


def test_the_command_tells_and_shows(tmp_path, capsys):
    editor = build_editor(TINY, vocabulary(), torch.rand(8, 3, 64, 64) * 2 - 1)
    folder = save_editor(base_of(editor, TINY), tmp_path / "base")
    drawing.main(
        [
            "--model",
            str(folder),
            "--pictures",
            "2",
            "--steps",
            "1",
            "--guidance",
            "1",
            "--json",
            "--sheet",
            str(tmp_path / "sheet.png"),
        ]  # fmt: skip
    )
    told = json.loads(capsys.readouterr().out)
    assert told["pictures"] == 2 and told["drawn"].keys() == told["true_pictures"].keys()
    assert told["true_pictures"]["backdrop"] == 1.0
    shown = np.asarray(drawing.Image.open(tmp_path / "sheet.png"))
    assert shown.shape == (128, 256, 3)
