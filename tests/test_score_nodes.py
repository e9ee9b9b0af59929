"""Scores, Load Scorer, Compare and Task for Editor, without ComfyUI and with a stand-in for its folders."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from toy_models import toy_pictures

from emu_edit.core.errors import EmuEditError
from emu_edit.core.metric_presets import PRESETS, Preset, Shape
from emu_edit.core.metrics import pixel_scores
from emu_edit.core.picture_files import load_picture
from emu_edit.nodes import host, host_files, scorers
from emu_edit.nodes.families import TaskForEditor
from emu_edit.nodes.score import MODEL_NAMES, PIXEL_NAMES, Compare, Scores, captions_for
from emu_edit.nodes.scorers import LoadScorer

SCHEMA = ("table", "heat_map", *PIXEL_NAMES, *MODEL_NAMES, "scores")
TOY = Preset(
    "toy", Shape("CLIP ViT-16/8", 16, 2, 8), Shape("DINO ViT-16/7", 16, 2, 7), "squash", True, ("a", "b")
)


def measured(**inputs) -> dict:
    wired = {"before": toy_pictures(), "after": toy_pictures(seed=9), "full_scale": 0.25, **inputs}
    return dict(zip(SCHEMA, Scores().measure(**wired), strict=True))


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A stand-in for ComfyUI's folder_paths over tmp_path/models and tmp_path/temp."""
    kinds = (*scorers.KINDS, host_files.FAMILY_FOLDER)
    for kind in kinds:
        (tmp_path / "models" / kind).mkdir(parents=True)
    fake = SimpleNamespace(
        get_folder_paths=lambda kind: [str(tmp_path / "models" / kind)],
        get_temp_directory=lambda: str(tmp_path / "temp"),
    )
    monkeypatch.setattr(host, "folder_paths", fake)
    return tmp_path / "models"


@pytest.fixture
def toys(models, monkeypatch):
    from toy_scorers import toy_clip, toy_dino

    toy_clip(models / scorers.SCORER_FOLDER / "toy" / "clip")
    toy_dino(models / "clip_vision" / "toy-dino")
    monkeypatch.setattr(scorers, "PRESETS", {**PRESETS, "toy": TOY})
    monkeypatch.setattr(scorers, "preset", lambda name: {**PRESETS, "toy": TOY}[name])
    return models


def test_scores_are_cores():
    mask = torch.zeros(1, 64, 64)
    mask[:, :20] = 1
    found = measured(mask=mask)
    (entry,), _ = pixel_scores(toy_pictures(), toy_pictures(seed=9), mask)
    assert found["l1"] == entry["whole"]["l1"] and found["ssim_outside"] == entry["outside"]["ssim"]
    assert found["l1_inside"] == entry["inside"]["l1"] and found["psnr"] == entry["whole"]["psnr"]
    assert all(math.isnan(found[name]) for name in MODEL_NAMES)
    assert "| L1 ↓ " in found["table"] and "| no edit |" in found["table"]
    assert found["heat_map"].shape == (1, 64, 64, 3)
    told = json.loads(found["scores"])
    assert told["pictures"][0]["l1_outside"] == entry["outside"]["l1"] and told["scorer"] is None


def test_without_a_mask_inside_is_not_a_number():
    for blank in (None, torch.zeros(1, 64, 64)):  # ComfyUI's stand-in for no mask
        found = measured(before=toy_pictures(1, 48, 48), after=toy_pictures(1, 48, 48, seed=9), mask=blank)
        assert math.isnan(found["l1_inside"]) and math.isnan(found["ssim_outside"])
        assert "inside" not in found["table"] and "whole" in found["table"]


def test_equal_pictures_and_batches():
    picture = toy_pictures(3)
    found = measured(before=picture, after=picture)
    assert (found["l1"], found["psnr"]) == (0, math.inf) and found["ssim"] == pytest.approx(1)
    assert json.loads(found["scores"])["pictures"][2]["psnr"] == "infinite"
    mixed = measured(before=picture, after=torch.cat([picture[:1], toy_pictures(2, seed=9)]))
    assert "1 ∞" in mixed["table"] and "[" in mixed["table"] and math.isfinite(mixed["psnr"])


def test_scorer_found_by_its_preset(toys):
    names = LoadScorer.INPUT_TYPES()["required"]
    assert names["clip"][0] == ["auto", "none", "emu_edit_scorers/toy/clip"]
    assert names["dino"][0] == ["auto", "none", "clip_vision/toy-dino"]
    (scorer,) = LoadScorer().load("toy", "auto", "auto", "cpu")
    found = measured(scorer=scorer, input_caption="a red ball", output_caption="a blue ball")
    assert all(math.isfinite(found[name]) for name in MODEL_NAMES)
    assert "CLIP ViT-16/8 (clip): bicubic" in found["table"]
    (again,) = LoadScorer().load("toy", "emu_edit_scorers/toy/clip", "none", "cpu")
    assert again.clip is scorer.clip and again.dino is None and not again.notes


def test_missing_models_are_a_sentence_not_a_failure(toys):
    (scorer,) = LoadScorer().load("paper-like", "auto", "auto", "auto")
    found = measured(scorer=scorer, input_caption="a", output_caption="b")
    assert math.isnan(found["clip_dir"]) and "No CLIP ViT-L/14 was found" in found["table"]
    (other,) = LoadScorer().load("paper-like", "emu_edit_scorers/toy/clip", "none", "cpu")
    assert "not the model of paper-like" in measured(scorer=other)["table"]


def test_captions_and_rows_left_out(toys):
    (scorer,) = LoadScorer().load("toy", "auto", "none", "cpu")
    pictures = {"before": toy_pictures(2), "after": toy_pictures(2, seed=9), "scorer": scorer}
    found = measured(**pictures, input_caption="a ball\na hat", output_caption="a ball\na cap")
    assert "toy leaves out 1 of these edits: identical captions." in found["table"]
    told = json.loads(found["scores"])
    assert told["pictures"][0]["left_out"] == "identical captions" and told["pictures"][0]["clip_dir"] is None
    assert told["all"]["rows"] == 1 and told["all"]["excluded"] == {"identical captions": 1}
    assert found["clip_im"] == pytest.approx(told["pictures"][1]["clip_im"])
    assert "CLIPdir needs both captions" in measured(**pictures, output_caption="a cap")["table"]
    assert "only with Load Scorer" in measured(output_caption="a cap")["table"]
    with pytest.raises(EmuEditError, match="^Scores, input output_caption: 3 lines"):
        measured(**pictures, output_caption="a\nb\nc")


def test_captions_for():
    assert captions_for(None, 2, "x") is None and captions_for(" \n ", 1, "x") is None
    assert captions_for("two\nlines", 1, "x") == ["two lines"]
    assert captions_for("one", 3, "x") == ["one"] * 3
    assert captions_for("a\n\nb", 2, "x") == ["a", "b"]


@pytest.mark.parametrize(
    "change, beginning",
    [
        ({"before": toy_pictures() * float("nan")}, "Scores: the picture before: "),
        ({"after": toy_pictures(2), "before": toy_pictures(3)}, "Scores: 3 pictures before"),
        ({"mask": torch.ones(2, 64, 64)}, "Scores, input mask: holds 2 masks for 1 picture"),
    ],
)
def test_slips_are_told_with_node_and_input(change, beginning):
    with pytest.raises(EmuEditError) as slip:
        measured(**change)
    assert str(slip.value).startswith(beginning) and "\n" not in str(slip.value)


def test_menu_names_are_the_only_paths(models):
    for name in ("../secret", str(models), "clip_vision/.."):
        assert "not among the folders" in str(LoadScorer.VALIDATE_INPUTS("paper-like", name, "none"))
        with pytest.raises(EmuEditError, match="^Load Scorer, input clip: "):
            LoadScorer().load("paper-like", name, "none", "cpu")
    assert LoadScorer.VALIDATE_INPUTS("paper-like", "auto", "none") is True
    with pytest.raises(EmuEditError, match="^Load Scorer, input preset: "):
        LoadScorer().load("mine", "none", "none", "cpu")


def test_broken_folders_do_not_empty_the_menu(toys):
    broken = toys / "clip_vision" / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    assert list(scorers.folders("dino")) == ["clip_vision/toy-dino"]
    before = LoadScorer.IS_CHANGED("toy", "auto", "auto", "cpu")
    (toys / "clip_vision" / "toy-dino" / "config.json").touch()
    assert LoadScorer.IS_CHANGED("toy", "auto", "auto", "cpu") != before


def test_compare_shows_files_that_the_browser_can_fetch(models, tmp_path):
    before, after = toy_pictures(2), toy_pictures(2, 32, 32, seed=9)
    shown = Compare().show(before, after, "flicker")["ui"]
    assert shown["emu_edit_mode"] == ["flicker"]
    assert [len(shown[f"emu_edit_{name}"]) for name in ("before", "after")] == [2, 2]
    files = [entry["filename"] for entry in shown["emu_edit_before"] + shown["emu_edit_after"]]
    assert len(set(files)) == 4
    saved = load_picture(tmp_path / "temp" / files[1])
    assert (saved - before[1:]).abs().max() <= 0.5 / 255 + 1e-6
    # The second is brought to the first one's size, so that they lie over each other.
    assert load_picture(tmp_path / "temp" / files[2]).shape == (1, 64, 64, 3)
    again = Compare().show(before, after, "slider")["ui"]["emu_edit_before"][0]["filename"]
    assert again not in files


def test_compare_outside_comfyui_writes_nothing():
    assert Compare().show(toy_pictures(), toy_pictures(), "slider")["ui"]["emu_edit_before"] == []


def test_task_for_editor(models):
    prompt, task, alpha, mask, multiple, size, note = TaskForEditor().word(
        "Remove the red ball.", "auto", "FLUX.1 Kontext"
    )
    assert prompt == "Remove the red ball, while keeping everything else unchanged"
    assert (task, alpha, mask, multiple, size) == ("remove", 0.03, "box", 16, 1024)
    assert note.startswith("task remove: ") and "1024 x 1024 pixels in all" in note
    caption = "a room"
    assert TaskForEditor().word("x", "local", "HiDream-E1-Full", caption)[0].endswith(caption)
    with pytest.raises(EmuEditError, match="^Task for Editor: instruction"):
        TaskForEditor().word(" ", "auto", "any editor")


def test_task_for_editor_takes_users_families(models, caplog):
    folder = models / host_files.FAMILY_FOLDER
    before = TaskForEditor.IS_CHANGED()
    family = {"prompt": "Please {instruction}", "multiple": 8, "size": {"side": "width", "pixels": 256}}
    frame = {"format": "emu-edit-editor-families", "version": 1}
    (folder / "mine.json").write_text(json.dumps({**frame, "families": {"Mine": family, "Bad": {}}}))
    assert TaskForEditor.IS_CHANGED() != before
    assert "Mine" in TaskForEditor.INPUT_TYPES()["required"]["family"][0]
    assert TaskForEditor().word("add a hat", "auto", "Mine")[0] == "Please add a hat"
    assert "mine.json: the family 'Bad'" in str(TaskForEditor.VALIDATE_INPUTS("Bad", "add a hat"))
    assert "mine.json: the family 'Bad'" in caplog.text
    assert TaskForEditor.VALIDATE_INPUTS("Mine", "add a hat") is True
    assert "empty" in str(TaskForEditor.VALIDATE_INPUTS("Mine", " "))
    assert TaskForEditor.VALIDATE_INPUTS("Mine") is True
