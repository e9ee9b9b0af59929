"""Editor families: the shipped facts, wording, users' own files and what is wrong with them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu_edit.core import family_files
from emu_edit.core.editor_families import ask, fill
from emu_edit.core.errors import EmuEditError
from emu_edit.core.family_files import FORMAT, mask_policies, read_families, task_advice
from emu_edit.core.tasks import TASK_IDS
from emu_edit.core.thresholding import WHOLE_PICTURE_TASKS
from emu_edit.nodes import families as families_node

SHIPPED = read_families()
WORDS = st.lists(
    st.sampled_from(["{instruction}", "{target_caption}", "{", "}", "a ball", ". ", "; ", "\n", "\\1"]),
    max_size=5,
).map("".join)
GOOD = {"prompt": "Edit: {instruction}", "multiple": 8, "size": {"side": "longest", "pixels": 640}}


def write(folder, name, families, **frame):
    frame = {"format": FORMAT, "version": 1, "families": families} | frame
    (folder / name).write_text(json.dumps(frame), encoding="utf-8")


def test_shipped_families_are_whole():
    assert not SHIPPED.problems
    names = ("FLUX.1 Kontext", "FLUX.2", "Qwen-Image-Edit", "HiDream-E1-Full", "HiDream-E1.1", "ICEdit")
    names += ("OmniGen2", "Step1X-Edit", "InstructPix2Pix", "Emu Edit small", "any editor")
    assert set(names) <= set(SHIPPED.families)
    for family in SHIPPED.families.values():
        assert family.sources and all(s.startswith("https://") for s in family.sources), family.name
        assert family.note and family.multiple in (8, 16, 32, 64)
        for task in TASK_IDS:
            asked = ask(SHIPPED, family.name, "Make the ball blue.", task, "a blue ball")
            assert "ake the ball blue" in asked.prompt and "{" not in asked.prompt
            assert asked.mask in mask_policies()
    assert list(task_advice()) == list(TASK_IDS)


def test_whole_picture_tasks_get_no_threshold():
    for task, advice in task_advice().items():
        assert (advice.mask == "whole") == (advice.alpha == 0) == (task in WHOLE_PICTURE_TASKS), task


def test_published_formats_to_the_letter():
    def prompt(family, instruction, caption=""):
        return ask(SHIPPED, family, instruction, "auto", caption).prompt

    assert prompt("ICEdit", "make the girl wear pink sunglasses") == (
        "A diptych with two side-by-side images of the same scene. On the right, the scene is exactly the "
        "same as on the left but make the girl wear pink sunglasses"
    )
    assert prompt(
        "HiDream-E1-Full", "Convert the image into a Ghibli style.", "A person in a light pink t-shirt."
    ) == (
        "Editing Instruction: Convert the image into a Ghibli style. "
        "Target Image Description: A person in a light pink t-shirt."
    )
    assert prompt("HiDream-E1.1", "convert the image into a Ghibli style") == (
        "convert the image into a Ghibli style"
    )
    assert prompt("FLUX.1 Kontext", "Change the background to a beach.") == (
        "Change the background to a beach, while keeping the subject in the exact same position, scale, and "
        "pose"
    )


def test_a_missing_caption_is_told():
    asked = ask(SHIPPED, "HiDream-E1-Full", "Remove the ball.")
    assert asked.prompt == "Editing Instruction: Remove the ball."
    assert "Without target_caption" in asked.note
    assert "Without" not in ask(SHIPPED, "HiDream-E1-Full", "Remove the ball.", target_caption="a floor").note
    assert ask(SHIPPED, "OmniGen2", "Remove the ball.").prompt == "Remove the ball."


def test_task_is_read_or_picked():
    read = ask(SHIPPED, "any editor", "remove the red ball")
    assert (read.task, read.alpha, read.mask) == ("remove", 0.03, "box") and read.reason
    picked = ask(SHIPPED, "any editor", "remove the red ball", "global")
    assert (picked.task, picked.alpha, picked.mask) == ("global", 0.0, "whole")
    assert ask(SHIPPED, "Qwen-Image-Edit", "remove the red ball").alpha == 0.05
    assert ask(SHIPPED, "Qwen-Image-Edit", "make it winter").alpha == 0.0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("Kontex", "add a hat"), "no editor family 'Kontex'; known are any editor"),
        (("any editor", "  "), "it is empty"),
        (("any editor", "add a hat", "juggle"), "no task 'juggle'"),
    ],
)
def test_slips_are_one_sentence(arguments, words):
    with pytest.raises(EmuEditError, match=words) as slip:
        ask(SHIPPED, *arguments)
    assert "\n" not in str(slip.value)


@given(WORDS, WORDS)
def test_users_words_are_never_read_as_places(instruction, caption):
    words = " ".join(instruction.split()).rstrip(" .;,")
    assert fill("<{instruction}>", instruction, caption) == f"<{words}>"
    told = " ".join(caption.split())
    assert fill("{target_caption}|{instruction}", instruction, caption) == f"{told}|{words}"


def test_braces_in_the_words_stay():
    assert fill("do {instruction}", "write {target_caption} on the sign", "no") == (
        "do write {target_caption} on the sign"
    )
    assert fill("{instruction}", "  Keep this.\nAnd this.  ") == "Keep this.\nAnd this."


def test_users_families_are_added_and_replace(tmp_path):
    more = {"tasks": {"add": {"alpha": 0.1, "mask": "whole"}}, "alpha": 0.2, "note": "mine", "sources": []}
    write(tmp_path, "mine.json", {"Mine": GOOD | more, "ICEdit": GOOD})
    write(tmp_path, "other.json", {"Other": GOOD})
    found = read_families([tmp_path])
    assert not found.problems and set(found.families) - set(SHIPPED.families) == {"Mine", "Other"}
    assert ask(found, "ICEdit", "add a hat").prompt == "Edit: add a hat"
    mine = ask(found, "Mine", "add a hat")
    assert (mine.alpha, mine.mask, mine.multiple, mine.pixels, mine.side) == (0.1, "whole", 8, 640, "longest")
    assert ask(found, "Mine", "remove the hat").alpha == 0.2


@pytest.mark.parametrize(
    "change, words",
    [
        ({"promt": "x"}, "unknown entry 'promt'; did you mean 'prompt'?"),
        ({"colour": "x"}, "unknown entry 'colour'; known are prompt"),
        ({"prompt": "no place"}, "prompt must be text with the place {instruction}"),
        ({"prompt": "{instruction} {caption}"}, "unknown place {caption}"),
        ({"prompts": {"juggle": "{instruction}"}}, "unknown task 'juggle'"),
        ({"prompts": ["{instruction}"]}, "prompts must be an object"),
        ({"without_caption": "x"}, "without_caption must be text"),
        ({"multiple": 0}, "multiple must be a whole number"),
        ({"multiple": True}, "multiple must be a whole number"),
        ({"multiple": "16"}, "multiple must be a whole number"),
        ({"size": 512}, "size must be such as"),
        ({"size": {"side": "height", "pixels": 512}}, "size must be such as"),
        ({"size": {"side": "area", "pixels": 10**9}}, "size, pixels must be a whole number"),
        ({"alpha": float("nan")}, "alpha must be a number from 0 to 1"),
        ({"alpha": 3}, "alpha must be a number from 0 to 1"),
        ({"tasks": {"add": {"alpha": "x"}}}, "tasks, add: alpha must be a number"),
        ({"tasks": {"add": {"mask": "x"}}}, "tasks, add: the mask must be one of precise"),
        ({"tasks": {"add": 3}}, "tasks, add: give alpha, mask or both"),
        ({"note": 3}, "note must be text"),
        ({"sources": "x"}, "sources must be a list"),
    ],
)
def test_a_bad_family_is_a_sentence_and_costs_only_itself(tmp_path, change, words):
    write(tmp_path, "mine.json", {"Bad": GOOD | change, "Good": GOOD})
    found = read_families([tmp_path])
    (problem,) = found.problems
    assert problem.startswith("mine.json: the family 'Bad'") and words in problem and "\n" not in problem
    assert "Good" in found.families and "Bad" not in found.families
    with pytest.raises(EmuEditError) as slip:
        ask(found, "Bad", "add a hat")
    assert words in str(slip.value)


def test_a_bad_file_is_a_sentence_and_costs_only_itself(tmp_path):
    (tmp_path / "a_broken.json").write_text("{")
    (tmp_path / "b_binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c_list.json").write_text("[]")
    write(tmp_path, "d_future.json", {"Mine": GOOD}, version=2)
    write(tmp_path, "e_empty.json", {})
    write(tmp_path, "f_good.json", {"Mine": GOOD, "Bad": 3, " ": GOOD})
    write(tmp_path, "g_twice.json", {"Mine": GOOD})
    (tmp_path / "h_folder.json").mkdir()
    (tmp_path / "notes.txt").write_text("not read")
    found = read_families([tmp_path, tmp_path / "absent"])
    assert [p[0] for p in found.problems] == [*"abcdef"[:5], "f", "f", "g", "h"]
    assert all("\n" not in p for p in found.problems)
    assert set(found.families) - set(SHIPPED.families) == {"Mine"}
    assert "also in f_good.json" in found.problems[-2]


def test_the_help_page_shows_a_valid_file(root, tmp_path):
    page = (root / "web" / "docs" / "EmuEditTaskForEditor.md").read_text(encoding="utf-8")
    (tmp_path / "mine.json").write_text(page.split("```json")[1].split("```")[0])
    found = read_families([tmp_path])
    assert not found.problems
    asked = ask(found, "My editor", "Add a hat.", target_caption="a man with a hat")
    assert asked.prompt == "Add a hat. a man with a hat" and asked.mask == "box"
    for family in ("FLUX.1 Kontext", "FLUX.2", "Qwen-Image-Edit", "ICEdit"):
        assert f"| {ask(found, family, 'make the ball blue').prompt} |" in page


def test_a_changed_file_makes_the_node_run_again(tmp_path, monkeypatch):
    beside, folder = tmp_path / "core", tmp_path / "models"
    for place in (beside, folder):
        place.mkdir()
    monkeypatch.setattr(family_files, "SHIPPED", beside / "editor_families.json")
    monkeypatch.setattr(families_node, "folders", lambda: [folder])
    seen = [families_node.TaskForEditor.IS_CHANGED()]
    for file in (beside / "editor_families.mine.json", folder / "other.json"):
        file.write_text("{}")
        seen.append(families_node.TaskForEditor.IS_CHANGED())
    assert len(set(seen)) == 3
