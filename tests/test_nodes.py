"""The nodes without ComfyUI: schemas, help, translations, runs on a toy editor, sentences for slips."""

from __future__ import annotations

import inspect
import json
from types import SimpleNamespace

import pytest
import torch
from interruption import Stopped, press_stop
from toy_models import toy_backbone, toy_pictures

from emu_edit.core.errors import EmuEditError
from emu_edit.core.tasks import TASK_IDS, TaskVector
from emu_edit.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, host
from emu_edit.nodes.edit import EditByInstruction
from emu_edit.nodes.sequence import SequentialEditThreshold
from emu_edit.nodes.tasks import PickTask

# Saved workflows hold these ids, input names and output names: append, never rename or reorder.
IDS = {
    "EmuEditLoadEditor": (["editor", "device", "precision"], ["editor"]),
    "EmuEditExamplePicture": (["picture"], ["image", "instruction"]),
    "EmuEditTask": (["task", "instruction", "editor"], ["task", "name"]),
    "EmuEditInstruct": (
        ["editor", "image", "instruction", "seed", "steps", "text_guidance", "image_guidance"]
        + ["guidance_rescale", "sampler", "size", "task", "mask"],
        ["edited"],
    ),
    "EmuEditSequentialThreshold": (
        ["previous", "edited", "alpha", "sigma", "mask", "size", "history", "mode", "fit", "align", "colour"]
        + ["compare_in", "detail", "feather", "specks", "holes"],
        ["kept", "change", "report", "history"],
    ),
    "EmuEditLoadScorer": (["preset", "clip", "dino", "device"], ["scorer"]),
    "EmuEditScores": (
        ["before", "after", "full_scale", "mask", "scorer", "input_caption", "output_caption"],
        ["table", "heat_map", "l1", "l1_inside", "l1_outside", "psnr", "ssim", "ssim_inside"]
        + ["ssim_outside", "clip_dir", "clip_im", "clip_out", "dino", "scores"],
    ),
    "EmuEditCompare": (["before", "after", "mode"], []),
    "EmuEditTaskForEditor": (
        ["instruction", "task", "family", "target_caption"],
        ["prompt", "task", "alpha", "mask_policy", "multiple", "size", "note"],
    ),
    "EmuEditSizeGuard": (["image", "multiple", "mode", "longest_side"], ["image", "size", "report"]),
    "EmuEditSizeRestore": (["edited", "size"], ["image"]),
    "EmuEditPredictTask": (
        ["instruction", "threshold", "if_unsure", "predictor"],
        ["task", "name", "confidence", "ranking", "target", "note"],
    ),
    "EmuEditLoadDetector": (["detector", "segmenter", "device"], ["detector"]),
    "EmuEditTextToMask": (
        ["detector", "image", "text", "look_for", "threshold", "text_threshold", "max_instances"],
        ["mask", "boxes", "count", "report"],
    ),
    "EmuEditSoftMask": (
        ["mode", "grow", "blur", "unit", "mask", "boxes", "image", "instances", "specks", "holes"]
        + ["precise_weight", "soft_weight", "box_weight"],
        ["mask", "precise", "soft", "box", "background", "report"],
    ),
    "EmuEditMaskPreview": (
        ["image", "opacity", "tile", "mask", "precise", "soft", "box", "background"],
        ["preview"],
    ),
    "EmuEditTaskExamples": (["folder", "most"], ["source", "target", "instructions"]),
    "EmuEditTaskInversion": (
        ["editor", "source", "target", "instructions", "name", "steps", "rate", "seed", "batch", "start"]
        + ["held_out", "size", "save_memory"],
        ["task", "report", "preview"],
    ),
    "EmuEditWriteInstructions": (
        ["captions", "task", "count", "seed", "backend", "server", "server_model", "key_variable"]
        + ["local_model", "timeout", "tries", "price_in", "price_out"],
        ["instructions", "table", "report", "count"],
    ),
    "EmuEditFilterPairs": (
        ["clip_image", "clip_text", "clip_direction", "depth", "outside", "changed", "detector_threshold"]
        + ["lettering", "reassign", "keep", "depth_model", "reader", "pairs", "source", "target"]
        + ["instructions", "mask", "scorer", "detector"],
        ["kept", "source", "target", "mask", "instructions", "scores", "report", "count"],
    ),
    "EmuEditLoadTextToImage": (["model", "device", "precision"], ["model"]),
    "EmuEditAttentionControl": (
        ["enabled", "self_fraction", "cross_fraction", "blend", "alignment", "self_most_tokens", "reweight"]
        + ["word_windows", "blend_before", "blend_after", "blend_threshold"],
        ["control"],
    ),
    "EmuEditMakePair": (
        ["model", "task", "instruction", "source_caption", "target_caption", "original_object"]
        + ["edited_object", "candidates", "seed", "steps", "guidance", "sampler", "size", "words", "control"]
        + ["precise", "soft", "box", "detector", "instructions", "pictures"],
        ["pairs", "source", "target", "mask", "parameters", "report", "count"],
    ),
    "EmuEditInspectPair": (
        ["pairs", "candidate", "words", "tile"],
        ["picked", "pairs", "source", "target", "precise", "soft", "box", "sheet", "info"],
    ),
    "EmuEditSavePairs": (["pairs", "name", "layout"], ["folder", "report", "count"]),
}
NUMBERS = {
    "seed": 3,
    "steps": 2,
    "text_guidance": -1.0,
    "image_guidance": -1.0,
    "guidance_rescale": 0.0,
    "sampler": "ddim",
    "size": 0,
}
nodes = pytest.mark.parametrize("node", NODE_CLASS_MAPPINGS.values(), ids=NODE_CLASS_MAPPINGS)


def inputs_of(node) -> dict[str, tuple]:
    """Every input of a node in order: name -> (kind, options)."""
    schema = node.INPUT_TYPES()
    return {name: spec for part in ("required", "optional") for name, spec in schema.get(part, {}).items()}


@pytest.fixture(scope="module")
def editor():
    return toy_backbone(task_width=12)


def test_ids_and_sockets_are_stable():
    assert list(NODE_CLASS_MAPPINGS) == list(IDS)
    for name, node in NODE_CLASS_MAPPINGS.items():
        assert (list(inputs_of(node)), list(node.RETURN_NAMES)) == IDS[name]
    assert len(set(NODE_DISPLAY_NAME_MAPPINGS.values())) == len(IDS)


@nodes
def test_schema_explains_itself(node, root):
    assert node.CATEGORY.split("/")[0] == "Emu Edit"
    assert node.DESCRIPTION.endswith(".") and node.SEARCH_ALIASES
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
    assert all(node.OUTPUT_TOOLTIPS)
    for name, (kind, options) in inputs_of(node).items():
        assert options["tooltip"].strip(), name
        if isinstance(kind, list) and kind:
            assert options["default"] in kind
        if kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"]
    taken = list(inspect.signature(getattr(node, node.FUNCTION)).parameters)[1:]
    assert taken == list(inputs_of(node))
    page = (root / "web" / "docs" / f"{node.ID}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {node.DISPLAY_NAME}\n")


@nodes
def test_translations_are_complete(node, root):
    english, chinese = (
        json.loads((root / "locales" / lang / "nodeDefs.json").read_text(encoding="utf-8"))
        for lang in ("en", "zh")
    )
    entry = {
        "display_name": node.DISPLAY_NAME,
        "description": node.DESCRIPTION,
        "inputs": {
            name: {"name": name, "tooltip": options["tooltip"]}
            for name, (_, options) in inputs_of(node).items()
        },
        "outputs": {
            str(i): {"name": name, "tooltip": tip}
            for i, (name, tip) in enumerate(zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True))
        },
    }
    assert english[node.ID] == entry
    assert set(english) == set(chinese) == set(IDS)

    def keys(tree):
        return {k: keys(v) for k, v in tree.items()} if isinstance(tree, dict) else None

    assert keys(chinese[node.ID]) == keys(entry)


def test_edit_gives_core_edit(editor):
    from emu_edit.core.edit import EditSettings, edit

    image = toy_pictures(2, 50, 70)
    (edited,) = EditByInstruction().run(editor, image, "remove the red ball", **NUMBERS, task="remove")
    expected = edit(editor, image, "remove the red ball", "remove", settings=EditSettings(steps=2, seed=3))
    assert torch.equal(edited, expected.images)
    assert edited.shape == image.shape and edited.dtype == torch.float32


def test_edit_reads_the_task_from_the_words_when_none_is_wired(editor, monkeypatch):
    seen = []
    monkeypatch.setattr("emu_edit.nodes.edit.edit", lambda *a, **k: seen.append(k["task"]) or result)
    result = SimpleNamespace(images=toy_pictures(), notes=())
    EditByInstruction().run(editor, toy_pictures(), "remove the red ball", **NUMBERS)
    EditByInstruction().run(toy_backbone(), toy_pictures(), "remove the red ball", **NUMBERS)
    EditByInstruction().run(editor, toy_pictures(), "remove the red ball", **NUMBERS, task="none")
    assert seen == ["remove", "none", "none"]


def test_edit_mask_keeps_the_rest_bit_for_bit(editor):
    image = toy_pictures()
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:40, 20:40] = 1
    (edited,) = EditByInstruction().run(editor, image, "add a hat", **NUMBERS, mask=mask)
    assert torch.equal(edited[mask == 0], image[mask == 0])
    assert not torch.equal(edited[mask == 1], image[mask == 1])


def test_blank_mask_of_load_image_is_no_mask(editor):
    image = toy_pictures(1, 48, 80)
    (plain,) = EditByInstruction().run(editor, image, "add a hat", **NUMBERS)
    (masked,) = EditByInstruction().run(editor, image, "add a hat", **NUMBERS, mask=torch.zeros(1, 64, 64))
    assert torch.equal(plain, masked)


def test_edit_shows_progress_with_pictures_and_stops_when_told(editor, monkeypatch):
    shown = []
    bar = SimpleNamespace(update_absolute=lambda done, total, preview: shown.append((done, total, preview)))
    monkeypatch.setattr(host, "comfy_utils", SimpleNamespace(ProgressBar=lambda total: bar))
    EditByInstruction().run(editor, toy_pictures(), "add a hat", **NUMBERS)
    assert [s[:2] for s in shown] == [(1, 2), (2, 2)]
    assert shown[0][2][0] == "JPEG" and shown[0][2][1].size == (64, 64)

    press_stop(monkeypatch)
    with pytest.raises(Stopped):
        EditByInstruction().run(editor, toy_pictures(), "add a hat", **NUMBERS)


def test_large_latents_are_not_decoded_for_the_preview():
    from emu_edit.nodes.edit import quick_look

    assert quick_look(None, torch.zeros(1, 16, 64, 64)) is None


@pytest.mark.parametrize(
    "change, beginning",
    [
        ({"instruction": "  "}, "Edit by Instruction, input instruction: "),
        ({"image": toy_pictures() * float("nan")}, "Edit by Instruction, input image: "),
        ({"image": torch.rand(1, 8, 8, 4)}, "Edit by Instruction, input image: "),
        ({"mask": torch.ones(3, 64, 64)}, "Edit by Instruction, input mask: "),
        ({"mask": torch.ones(1, 64, 20)}, "Edit by Instruction, input mask: "),
        ({"task": "juggle"}, "Edit by Instruction, input task: "),
        ({"task": TaskVector("mine", torch.zeros(12), base="another")}, "Edit by Instruction, input task: "),
        ({"task": TaskVector("mine", torch.zeros(5), base="")}, "Edit by Instruction, input task: "),
    ],
)
def test_slips_are_told_with_node_and_input(editor, change, beginning):
    wired = {"editor": editor, "image": toy_pictures(), "instruction": "add a hat", **NUMBERS, **change}
    with pytest.raises(EmuEditError) as slip:
        EditByInstruction().run(**wired)
    sentence = str(slip.value)
    assert sentence.startswith(beginning) and "\n" not in sentence
    assert sentence.count("Edit by Instruction") == 1
    assert not sentence.removeprefix(beginning).startswith("the ")
    assert slip.value.__cause__ is None and slip.value.__suppress_context__


def test_empty_instruction_is_found_before_anything_runs():
    assert EditByInstruction.VALIDATE_INPUTS(instruction="add a hat") is True
    assert EditByInstruction.VALIDATE_INPUTS() is True
    assert "empty" in str(EditByInstruction.VALIDATE_INPUTS(instruction=" \n"))


def test_task_picks_reads_and_refuses(editor):
    assert PickTask().pick("remove") == ("remove", "remove")
    assert PickTask().pick("none") == ("none", "none")
    assert PickTask().pick("auto", "remove the red ball") == ("remove", "remove")
    assert PickTask().pick("auto", "remove the red ball", toy_backbone()) == ("none", "none")
    with pytest.raises(EmuEditError, match="^Task, input instruction: "):
        PickTask().pick("auto")
    assert PickTask.INPUT_TYPES()["required"]["task"][0] == ["auto", "none", *TASK_IDS]
    assert PickTask.VALIDATE_INPUTS("remove") is True
    assert "juggle" in str(PickTask.VALIDATE_INPUTS("juggle"))


def test_threshold_keeps_and_reports():
    previous = torch.full((1, 32, 32, 3), 0.5)
    edited = previous + 0.01
    edited[:, 8:24, 8:24] = 0.9
    kept, change, words, _ = SequentialEditThreshold().keep(previous, edited, 0.03, 1.0)
    assert torch.equal(kept[0, 0], previous[0, 0]) and torch.equal(kept[0, 16, 16], edited[0, 16, 16])
    assert change.shape == (1, 32, 32) and "% changed" in words
    _, _, words, _ = SequentialEditThreshold().keep(previous, previous.repeat(2, 1, 1, 1), 0.03, 1.0)
    assert [line.split(":")[0] for line in words.splitlines()] == ["picture 1", "picture 2"]
    assert words.count("nothing changed") == 2
    with pytest.raises(EmuEditError, match="^Sequential Edit Threshold, input previous: 3072 of its values"):
        SequentialEditThreshold().keep(previous * float("nan"), edited, 0.03, 1.0)


def test_remarks_are_written_on_the_node_and_taken_away(editor, monkeypatch):
    sent = []
    server = SimpleNamespace(send_progress_text=lambda words, node: sent.append((words, node)))
    context = SimpleNamespace(node_id="7")
    monkeypatch.setattr(host, "comfy_server", SimpleNamespace(PromptServer=SimpleNamespace(instance=server)))
    monkeypatch.setattr(host, "comfy_running", SimpleNamespace(get_executing_context=lambda: context))
    for instruction in ("add a hat", "add a hat " + "very " * 30 + "red", "add a hat", "add a hat"):
        EditByInstruction().run(editor, toy_pictures(), instruction, **NUMBERS)
    assert [node for _, node in sent] == ["7", "7"]
    assert "too long" in sent[0][0] and sent[1][0] == ""


def test_a_blank_mask_of_the_pictures_own_size_is_meant():
    from emu_edit.nodes.inputs import drawn

    blank, picture = torch.zeros(1, 64, 64), torch.zeros(1, 128, 128, 3)
    assert drawn(blank, picture) is None and drawn(None, picture) is None
    assert drawn(blank, torch.zeros(1, 64, 64, 3)) is blank
    painted = blank.clone()
    painted[0, 3, 3] = 1
    assert drawn(painted, picture) is painted
    assert drawn(torch.zeros(1, 128, 128), picture) is not None


def test_a_predicted_task_is_left_out_for_an_editor_without_tasks():
    plain, image = toy_backbone(), toy_pictures()
    (task, name) = PickTask().pick("auto", instruction="remove the red ball")
    assert name == "remove"
    (bare,) = EditByInstruction().run(plain, image, "remove the red ball", **NUMBERS, task="none")
    (edited,) = EditByInstruction().run(plain, image, "remove the red ball", **NUMBERS, task=task)
    assert torch.equal(edited, bare)
    with pytest.raises(EmuEditError, match="no tasks"):
        EditByInstruction().run(plain, image, "remove the red ball", **NUMBERS, task="remove")
