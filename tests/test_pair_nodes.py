"""Load Text to Image, Attention Control, Make Pair, Inspect Pair and Save Pairs as nodes, outside ComfyUI."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from interruption import Stopped, press_stop
from toy_models import toy_backbone

from emu_edit.core.masks.sources import NONE_FOUND, Found
from emu_edit.core.pairs.generate import generate_pair
from emu_edit.core.pairs.records import Candidate, Instruction, Score, Verdict
from emu_edit.core.pairs.shards import read_pairs
from emu_edit.core.pairs.sheet import cells, text_lines
from emu_edit.nodes import host, text_to_image
from emu_edit.nodes.control import AttentionControl
from emu_edit.nodes.host import NodeError
from emu_edit.nodes.pair_files import SavePairs
from emu_edit.nodes.pair_sheet import InspectPair
from emu_edit.nodes.pairs import MakePair
from emu_edit.nodes.text_to_image import BUNDLED, LoadTextToImage

WORDS = Instruction("local", "make the ball blue", "a red ball", "a blue ball", "red ball", "blue ball")
CONTROL = {
    "enabled": True,
    "self_fraction": 0.5,
    "cross_fraction": 0.75,
    "blend": 0.25,
    "alignment": "refine",
    "self_most_tokens": 0,
    "reweight": "",
    "word_windows": "",
    "blend_before": "",
    "blend_after": "",
    "blend_threshold": 0.3,
}
MAKE = {
    "task": WORDS.task,
    "instruction": WORDS.instruction,
    "source_caption": WORDS.input_caption,
    "target_caption": WORDS.output_caption,
    "original_object": WORDS.original_object,
    "edited_object": WORDS.edited_object,
    "candidates": 1,
    "seed": 7,
    "steps": 2,
    "guidance": 0.0,
    "sampler": "ddim",
    "size": 0,
    "words": "",
}


@pytest.fixture(scope="module")
def model():
    return toy_backbone(in_channels=4)


def square(count=1, side=64):
    mask = torch.zeros(count, side, side)
    mask[:, 16:48, 16:48] = 1
    return mask


class Finder:
    """Finds everything in the middle, or nothing."""

    name = "finder"

    def __init__(self, finds=True):
        self.finds = finds

    def detect(self, images, phrases, settings):
        box = torch.tensor([[16.0, 16.0, 48.0, 48.0]])
        found = Found(box, torch.ones(1), (phrases[0].text,), square())
        return [found if self.finds else NONE_FOUND for _ in images]


def make(model, **changes):
    return MakePair().make(model, **{**MAKE, **changes})


def control(**changes):
    return AttentionControl().choose(**{**CONTROL, **changes})[0]


def fake_pairs(count=3, side=16, judged=True):
    found = []
    for k in range(count):
        torch.manual_seed(k)
        verdict = Verdict(
            "local", True, (Score("changed", 0.5, 0.1, True), Score("depth", reason="no model"))
        )
        found.append(
            Candidate(
                torch.rand(side, side, 3),
                torch.rand(side, side, 3),
                WORDS,
                k,
                seed=k,
                mask_kind="soft",
                masks={"precise": torch.zeros(side, side), "soft": torch.full((side, side), 0.5)},
                maps={"ball": torch.rand(4, 4)},
                metadata={"verdict": verdict.to_json()} if judged else {},
            )
        )
    return found


@pytest.fixture
def comfy(tmp_path, monkeypatch):
    """ComfyUI's output and temp folders under tmp_path."""
    for name in ("output", "temp"):
        (tmp_path / name).mkdir()
    fake = SimpleNamespace(
        get_output_directory=lambda: str(tmp_path / "output"),
        get_temp_directory=lambda: str(tmp_path / "temp"),
    )
    monkeypatch.setattr(host, "folder_paths", fake)
    return tmp_path


def test_the_menu_offers_the_bundled_base_and_says_when_it_is_not_there(tmp_path, monkeypatch):
    assert next(iter(text_to_image.bases())) == BUNDLED
    monkeypatch.setattr(text_to_image, "bases", lambda: {BUNDLED: tmp_path / "gone"})
    assert "is not there" in str(LoadTextToImage.VALIDATE_INPUTS(BUNDLED))
    assert "is an editor" in str(LoadTextToImage.VALIDATE_INPUTS("bundled small editor"))
    with pytest.raises(NodeError, match="^Load Text to Image, input model: "):
        LoadTextToImage().load("no such", "cpu", "float32")


def test_control_reads_words_and_windows():
    chosen = control(
        reweight="blue: 2\n\nball: -1.5", word_windows="blue: 0.1-0.5\nball: 0.2", self_most_tokens=256
    )
    assert chosen.on and chosen.settings.self_most_tokens == 256
    assert chosen.settings.reweight == {"blue": 2.0, "ball": -1.5}
    assert chosen.settings.word_windows == {"blue": (0.1, 0.5), "ball": (0.0, 0.2)}
    assert control(blend_before="ball, sky", blend_after="cup").settings.blend_words == (
        ("ball", "sky"),
        ("cup",),
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reweight": "blue"}, "'blue' is not 'word: number'"),
        ({"reweight": "blue: much"}, "'much' is not a number"),
        ({"word_windows": "blue: 0.1-x"}, "is not a share"),
        ({"word_windows": "blue: 0.1-1.5"}, "0..1"),
        ({"word_windows": "red: 0.5-0.1"}, "begins at 0.5 and ends at 0.1"),
        ({"blend_before": "ball"}, "one caption only"),
        ({"self_fraction": 1.5}, "self_fraction"),
    ],
)
def test_slips_of_control_are_told(changes, says):
    with pytest.raises(NodeError, match="^Attention Control: ") as problem:
        control(**changes)
    assert says in str(problem.value)


def test_a_pair_under_masks_is_what_core_makes(model):
    chosen = control()
    masks = {"precise": square(), "soft": square() * 0.5}
    pairs, source, target, mask, lines, report, count = make(model, control=chosen, **masks)
    assert count == len(pairs) == 2 and [one.mask_kind for one in pairs] == ["precise", "soft"]
    assert set(pairs[0].masks) == {"precise", "soft"} and torch.equal(mask[1], masks["soft"][0])
    from dataclasses import replace

    expected = generate_pair(
        model, ["a red ball"] * 2, ["a blue ball"] * 2, torch.cat(list(masks.values())),
        replace(chosen.settings, steps=2), [7, 7],
    )  # fmt: skip
    assert torch.equal(source, expected.source) and torch.equal(target, expected.target)
    assert list(pairs[0].maps) == ["red", "blue"]
    told = [json.loads(line) for line in lines.splitlines()]
    assert [row["generation"]["self_fraction"] for row in told] == [0.5, 0.5]
    assert report.startswith("2 candidates.")
    assert Instruction.from_json(pairs[0].metadata["job"]["instruction"]) == WORDS


def test_without_control_its_shares_are_drawn_for_each_seed_and_again_the_same(model):
    first, again = (make(model, candidates=2)[0] for _ in range(2))
    shares = [one.parameters["self_fraction"] for one in first]
    assert shares[0] != shares[1] and all(0.3 <= share <= 0.9 for share in shares)
    assert first[0].seed == 7 and first[0].mask is None
    assert all(torch.equal(a.target, b.target) for a, b in zip(first, again, strict=True))


def test_control_off_changes_the_target(model):
    on, off = (make(model, control=control(enabled=e, blend=0.0))[0][0] for e in (True, False))
    assert torch.equal(on.source, off.source) and not torch.equal(on.target, off.target)


def test_add_is_made_backwards(model):
    there, gone = "a red ball", "a sky"
    words = {"task": "add", "source_caption": gone, "target_caption": there, "control": control()}
    added = make(model, **words)[0][0]
    erased = make(model, **{**words, "task": "remove", "source_caption": there, "target_caption": gone})[0][0]
    assert torch.equal(added.target, erased.source) and torch.equal(added.source, erased.target)


def test_local_blend_of_add_names_the_captions_as_its_boxes_do(model):
    words = {
        "task": "add",
        "source_caption": "a sky",
        "target_caption": "a red ball",
        "instruction": "add a ball",
    }
    blended = control(blend_before="sky", blend_after="ball", blend_threshold=0.5)
    added = make(model, **words, control=blended)[0][0]
    assert added.parameters["generation"]["blend_words"] == [["ball"], ["sky"]]  # made from its end
    by_recipe = make(model, **words, control=blended, detector=Finder())[0][0]
    assert by_recipe.parameters["generation"]["blend_words"] == [["ball"], ["sky"]]


def test_one_instruction_that_cannot_be_made_leaves_the_others(model):
    longer = Instruction("local", "make it", "a red ball", "a very big blue ball", "red ball", "blue ball")
    lines = "\n".join(json.dumps(row.to_json()) for row in (WORDS, longer))
    swap = control(alignment="swap")
    pairs, *_, report, count = make(model, instructions=lines, detector=Finder(), control=swap)
    assert count == 3 and {one.instruction.instruction for one in pairs} == {WORDS.instruction}
    assert "local, 'make it': none: " in report


def test_recipes_keep_the_maps_of_the_words_asked_for(model):
    whole = {
        "task": "global",
        "source_caption": "a ball",
        "target_caption": "a ball at night",
        "original_object": "",
        "edited_object": "",
        "detector": Finder(),
    }
    assert set(make(model, **whole)[0][0].maps) == {"at", "night"}
    assert set(make(model, **whole, words="ball")[0][0].maps) == {"ball"}
    assert set(make(model, detector=Finder())[0][0].maps) == {"ball"}


def test_real_pictures_are_cut_to_the_middle_and_not_squashed(model):
    wide = torch.zeros(1, 64, 192, 3)
    wide[:, :, 64:128] = torch.rand(1, 64, 64, 3)
    row = json.dumps(WORDS.reassigned("color").to_json() | {"instruction": "increase the brightness"})
    pairs, *_, count = make(model, instructions=row, pictures=wide)
    assert count and torch.allclose(pairs[0].source, wide[0, :, 64:128], atol=1e-6)
    alone = make(model, task="color", instruction="increase the brightness", pictures=wide)[0]
    assert torch.equal(alone[0].source, pairs[0].source)  # wired pictures are used without a list as well
    *_, report, _ = make(model, pictures=wide, soft=square())
    assert "pictures are not used here" in report
    *_, report, _ = make(model, pictures=wide)  # a task that needs none is made by hand, as ever
    assert "pictures are not used here" in report


def test_empty_masks_are_left_out_and_told(model):
    pairs, *_, report, _ = make(model, precise=torch.zeros(1, 64, 64), soft=square())
    assert [one.mask_kind for one in pairs] == ["soft"] and "Empty masks were left out (precise)" in report
    pairs, *_, report, _ = make(model, precise=torch.zeros(1, 48, 48))
    assert [one.mask_kind for one in pairs] == ["blank"] and "the whole picture may change" in report


def test_a_list_of_instructions_goes_by_recipe_and_tells_what_came_to_nothing(model):
    rows = [
        WORDS,
        Instruction("global", "make it night", "a ball", "a ball at night"),
        WORDS.reassigned("pose"),
    ]
    lines = "\n".join(json.dumps(row.to_json()) for row in rows)
    pairs, *_, report, count = make(model, instructions=lines, detector=Finder(), control=control())
    assert [one.mask_kind for one in pairs] == ["precise", "soft", "box", "blank"] and count == 4
    assert {one.parameters["self_fraction"] for one in pairs} == {0.5}
    assert pairs[0].metadata["job"]["id"] == "make-00000" and pairs[3].task == "global"
    assert "pose, 'make the ball blue': none: it needs" in report
    with pytest.raises(NodeError, match="no pair came of 1 instructions.*was not found"):
        make(model, detector=Finder(False))
    with pytest.raises(NodeError, match="3 instructions came with masks"):
        make(model, instructions=lines, soft=square())
    with pytest.raises(NodeError, match="pictures: there are 2 for 3"):
        make(model, instructions=lines, pictures=torch.rand(2, 64, 64, 3))


def test_steps_are_shown_and_can_be_interrupted(model, monkeypatch):
    shown = []
    bar = SimpleNamespace(update_absolute=lambda done, total, preview: shown.append((done, total)))
    monkeypatch.setattr(host, "comfy_utils", SimpleNamespace(ProgressBar=lambda total: bar))
    make(model, candidates=2)
    assert shown == [(1, 4), (2, 4), (3, 4), (4, 4)]

    press_stop(monkeypatch)
    with pytest.raises(Stopped):
        make(model)


def test_an_editor_makes_no_pairs():
    with pytest.raises(NodeError, match="^Make Pair: .* is an editor"):
        make(toy_backbone())


def test_a_sheet_shows_all_there_is():
    one = fake_pairs(1)[0]
    titles = [title for title, _ in cells(one)]
    assert titles == ["source", "target", "difference", "precise", "soft *", "map: ball"]
    assert [title for title, _ in cells(one, ["cup"])][-1] == "soft *"
    lines = [line for line, _ in text_lines(one, 200)]
    assert "changed 0.5 (threshold 0.1): passed" in lines and "depth: not run - no model" in lines
    found = InspectPair().inspect([one], 1, "", 64)["result"]
    # Six cells of 64 with gaps of 6, a title above them, six lines of text below.
    assert found[7].shape == (1, 6 + 18 + 64 + 6 + 6 * 18 + 6, 6 * 70 + 6, 3)


def test_inspect_gives_the_picked_one(comfy):
    several = fake_pairs()
    shown = InspectPair().inspect(several, 2, "", 64)
    picked, all_of_them, source, target, precise, soft, box, _, info = shown["result"]
    assert picked == [several[1]] and all_of_them == several
    assert torch.equal(source[0], several[1].source) and torch.equal(target[0], several[1].target)
    assert not precise.any() and bool((soft == 0.5).all()) and bool((box == 1).all())
    assert json.loads(info)["number"] == 2
    told = shown["ui"]
    assert told["emu_edit_picked"] == [1] and told["emu_edit_labels"] == ["local, soft, kept"] * 3
    for name in ("emu_edit_sheets", "emu_edit_strips"):
        assert all((comfy / "temp" / file["filename"]).is_file() for file in told[name])
        assert len({file["filename"] for file in told[name]}) == 3


def test_inspect_of_none_and_beyond_the_last(comfy, monkeypatch):
    told = []
    monkeypatch.setattr(host, "remark", told.extend)
    shown = InspectPair().inspect([], 1, "", 64)
    assert shown["result"][0] == [] and len(shown["result"]) == len(InspectPair.RETURN_TYPES)
    several = fake_pairs(2, judged=False)
    assert InspectPair().inspect(several, 5, "cup", 64)["result"][0] == [several[1]]
    assert told[1].startswith("There is no candidate 5") and "No map was kept of cup" in told[2]


def test_saved_pairs_are_read_back_and_nothing_is_overwritten(comfy):
    several = fake_pairs()
    first, second = (SavePairs().save(several, "sets/mine", "imagefolder")["result"] for _ in range(2))
    assert [first[0], second[0]] == ["sets/mine_00001", "sets/mine_00002"] and first[2] == 3
    assert first[1].startswith("3 pairs in 1 shard: sets/mine_00001; imagefolder: ")
    folder = comfy / "output" / first[0]
    pairs = list(read_pairs(folder))
    assert [pair.key for pair in pairs] == ["00000000", "00000001", "00000002"]
    expected = (several[1].source * 255).round().to(torch.uint8)
    assert torch.equal(pairs[1].source, expected) and set(pairs[1].masks) == {"precise", "soft"}
    assert pairs[1].record["scores"][0]["value"] == 0.5 and pairs[1].record["seed"] == 1
    assert "verdict" not in pairs[1].record["candidate"]["metadata"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["pairs"] == 3 and (folder / manifest["index"]).is_file()
    rows = (comfy / "output" / "sets/mine_00001_imagefolder/train/metadata.jsonl").read_text().splitlines()
    assert len(rows) == 3


def test_many_pairs_take_several_shards(comfy, monkeypatch):
    monkeypatch.setattr("emu_edit.core.pairs.save.PAIRS_IN_SHARD", 2)
    shown = SavePairs().save(fake_pairs(), "few", "shards only")["result"]
    folder = comfy / "output" / shown[0]
    assert sorted(path.name for path in (folder / "shards").iterdir()) == ["00000000.tar", "00000001.tar"]
    assert [pair.key for pair in read_pairs(folder)] == ["00000000", "00000001", "00000002"]


@pytest.mark.parametrize(
    "name", ["../out", "/etc/pairs", "a/../../b", "", "a//b", "..", "C:\\pairs", "a/.hidden"]
)
def test_no_name_leads_out_of_the_output_folder(comfy, name):
    assert "no folder below the output folder" in str(SavePairs.VALIDATE_INPUTS(name))
    with pytest.raises(NodeError, match="no folder below"):
        SavePairs().save(fake_pairs(1), name, "shards only")
    assert not list((comfy / "output").iterdir())


def test_a_link_out_of_the_output_folder_is_refused(comfy):
    (comfy / "elsewhere").mkdir()
    (comfy / "output" / "link").symlink_to(comfy / "elsewhere")
    with pytest.raises(NodeError, match="leads out of the output folder"):
        SavePairs().save(fake_pairs(1), "link/mine", "shards only")
    assert not list((comfy / "elsewhere").iterdir())


def test_no_pairs_save_nothing(comfy):
    assert SavePairs().save([], "none", "shards only")["result"][2] == 0
    assert not list((comfy / "output").iterdir())
