"""Filters of pairs: their numbers by hand, what they drop and why, and a model that is missing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks.phrases import Phrase
from emu_edit.core.masks.sources import NONE_FOUND, DetectSettings, Found
from emu_edit.core.pairs.filters.clip import ClipFilter
from emu_edit.core.pairs.filters.depth import DepthFilter, depth_distance
from emu_edit.core.pairs.filters.difference import ChangedFilter, OutsideFilter
from emu_edit.core.pairs.filters.judge import judge_all
from emu_edit.core.pairs.filters.lettering import LetteringFilter, likeness
from emu_edit.core.pairs.filters.presence import PresenceFilter
from emu_edit.core.pairs.filters.task import TaskFilter
from emu_edit.core.pairs.records import Candidate, Instruction, Score
from emu_edit.core.predictor import bundled_predictor

SIDE = 8


def words(task="local", old="red ball", new="blue cup", told="turn the red ball into a blue cup"):
    return Instruction(task, told, f"a {old or 'plain'} picture", f"a {new or 'plain'} scene", old, new)


def candidate(task="local", change=0.5, spill=0.0, mask=True, index=0, side=SIDE, **named):
    """A grey picture whose left half changes by `change` and whose right half by `spill`."""
    source = torch.full((side, side, 3), 0.25)
    target = source.clone()
    target[:, : side // 2] += change
    target[:, side // 2 :] += spill
    left = torch.zeros(side, side)
    left[:, : side // 2] = 1.0
    return Candidate(
        source,
        target,
        words(task, **named),
        index,
        mask_kind="precise" if mask else "blank",
        masks={"precise": left} if mask else {},
    )


def scores_of(filter_, one) -> dict[str, Score]:
    (finding,) = filter_.look([one])
    return {score.name: score for score in finding.scores}


# --- what changed where


def test_outside_is_the_mean_difference_that_the_mask_leaves():
    one = candidate(change=0.5, spill=0.04)
    score = scores_of(OutsideFilter(0.05), one)["outside"]
    assert score.value == pytest.approx(0.04, abs=1e-6) and score.passed
    assert scores_of(OutsideFilter(0.03), one)["outside"].passed is False
    soft = Candidate(
        one.source,
        one.target,
        one.instruction,
        mask_kind="soft",
        masks={"soft": torch.full((SIDE, SIDE), 0.75)},
    )
    # every pixel weighs 0.25, so it is the plain mean
    assert scores_of(OutsideFilter(1), soft)["outside"].value == pytest.approx(0.27, abs=1e-6)


def test_a_whole_picture_edit_has_no_outside_but_must_change():
    blank = candidate("global", mask=False, change=0.02)
    assert scores_of(OutsideFilter(), blank)["outside"].passed is None
    assert scores_of(ChangedFilter(0.005), blank)["changed"].value == pytest.approx(0.01, abs=1e-6)
    still = candidate(change=0.0, spill=0.3)
    score = scores_of(ChangedFilter(), still)["changed"]
    assert score.value == 0 and score.passed is False and "nothing" in score.reason


def test_a_batch_of_several_sizes_equals_single_looks():
    many = [candidate(change=0.1 * k, spill=0.01 * k, side=(8, 12)[k % 2], index=k) for k in range(1, 6)]
    for filter_ in (OutsideFilter(), ChangedFilter()):
        together = filter_.look(many)
        assert together == [filter_.look([one])[0] for one in many]


# --- CLIP


class Eye:
    """A scorer whose embeddings are given."""

    clip = object()

    def __init__(self, images: list, texts: list):
        self.images, self.texts = images, texts
        self.calls = 0

    def image_embeddings(self, pictures):
        changed = bool((pictures[:, 0, 0, 0] > 0.26).any())
        return torch.tensor([self.images[1 if changed else 0]] * len(pictures), dtype=torch.float32)

    def text_embeddings(self, captions):
        return torch.tensor([self.texts[1 if "scene" in one else 0] for one in captions], dtype=torch.float32)


def eye(images, texts, **limits):
    return scores_of(ClipFilter(Eye(images, texts), **limits), candidate())  # type: ignore[arg-type]


def test_clip_numbers_by_hand():
    # Lengths must not matter: embeddings are normalised before the differences.
    found = eye([[2, 0, 0], [3, 4, 0]], [[0, 0, 5], [0, 3, 4]])
    assert found["clip_image"].value == pytest.approx(0.6)
    assert found["clip_text_before"].value == pytest.approx(0.0)
    assert found["clip_text_after"].value == pytest.approx(0.48)
    moved, meant = torch.tensor([-0.4, 0.8, 0.0]), torch.tensor([0.0, 0.6, -0.2])
    assert found["clip_direction"].value == pytest.approx(float(F.cosine_similarity(moved, meant, dim=0)))
    assert [found[n].passed for n in found] == [False, False, True, True]


def test_clip_thresholds_and_what_they_say():
    images, texts = [[1, 0, 0.0], [0.8, 0.6, 0.0]], [[1, 0, 0.5], [0.8, 0.6, 0.5]]
    assert all(score.passed for score in eye(images, texts).values())
    assert "unlike each other" in eye(images, texts, image=0.81)["clip_image"].reason
    assert eye(images, texts, direction=0.99)["clip_direction"].passed is True
    backwards = eye(images, texts[::-1])["clip_direction"]
    assert backwards.passed is False and "another direction" in backwards.reason
    still = eye([images[0]] * 2, texts)["clip_direction"]
    assert still.value is None and still.passed is False and "no difference" in still.reason
    with pytest.raises(EmuEditError, match="CLIP image is 7"):
        ClipFilter(Eye(images, texts), image=7)  # type: ignore[arg-type]


def test_clip_leaves_maps_and_boxes_alone():
    for task in ("detect", "segment", "color", "depth", "sketch"):
        (score,) = scores_of(ClipFilter(Eye([], [])), candidate(task)).values()  # type: ignore[arg-type]
        assert score.passed is None and task in score.reason


def test_clip_agrees_with_the_scorer(tmp_path):
    from toy_scorers import toy_clip

    from emu_edit.core.metric_models import load_clip
    from emu_edit.core.metric_presets import PRESETS
    from emu_edit.core.scorer import Scorer

    toy_clip(tmp_path)
    preset = next(iter(PRESETS.values()))
    scorer = Scorer(preset, load_clip(tmp_path))
    torch.manual_seed(4)
    many = [
        Candidate(torch.rand(20, 30, 3), torch.rand(20, 30, 3), words(new=f"blue {thing}"))
        for thing in ("cup", "house")
    ]
    expected = scorer.scores(
        torch.stack([one.source for one in many]),
        torch.stack([one.target for one in many]),
        [one.instruction.input_caption for one in many],
        [one.instruction.output_caption for one in many],
    )
    for finding, row in zip(ClipFilter(scorer).look(many), expected, strict=True):
        values = {score.name: score.value for score in finding.scores}
        for ours, theirs in (
            ("clip_image", "clip_im"),
            ("clip_direction", "clip_dir"),
            ("clip_text_after", "clip_out"),
        ):
            assert values[ours] == pytest.approx(row[theirs], abs=1e-5)


# --- depth


def test_depth_is_told_up_to_scale_and_shift():
    torch.manual_seed(0)
    depth, even = torch.rand(6, 5).double(), torch.ones(6, 5).double()
    assert depth_distance(depth, depth * 7 - 3, even) == pytest.approx(0, abs=1e-12)
    upside_down = depth_distance(depth, -depth, even)
    spread = (depth - depth.mean()).abs().mean() / (depth.max() - depth.min())
    assert upside_down == pytest.approx(float(spread))  # the best it may fit is a flat map
    flat = torch.full((6, 5), 2.0).double()
    assert depth_distance(flat, flat, even) == 0 and depth_distance(flat, depth, even) > 0.1
    ramp = torch.arange(4.0).repeat(4, 1).double()
    bumped = ramp.clone()
    bumped[0, 0] = 9
    outside = torch.ones(4, 4).double()
    outside[0, 0] = 0
    assert depth_distance(ramp, bumped, outside) == pytest.approx(0, abs=1e-12)
    assert depth_distance(ramp, bumped, torch.ones(4, 4).double()) > 0.1


class Red:
    name = "the red channel as depth"

    def depth(self, images):
        return images[..., 0]


def test_depth_looks_outside_the_mask_where_shapes_may_change():
    ramp = torch.linspace(0, 1, SIDE).repeat(SIDE, 1)[..., None].repeat(1, 1, 3)
    base = candidate()
    target = ramp.clone()
    target[:, : SIDE // 2] = torch.rand(SIDE, SIDE // 2, 3)
    values = {}
    for task in ("local", "texture", "style"):
        one = Candidate(ramp, target, words(task), mask_kind="precise", masks=base.masks)
        values[task] = scores_of(DepthFilter(Red()), one)["depth"]
    assert values["local"].value == pytest.approx(0, abs=1e-6) and values["local"].passed
    assert values["texture"].value > 0.1 and values["texture"].passed is False
    assert values["style"].passed is None
    full = Candidate(ramp, target, words("local"), mask_kind="box", masks={"box": torch.ones(SIDE, SIDE)})
    assert "nothing to compare" in scores_of(DepthFilter(Red()), full)["depth"].reason


# --- what is there


class Detector:
    """Finds what it is told is where; target pictures are brighter than 0.3 in the corner."""

    name = "a table"

    def __init__(self, before: dict, after: dict, attributes: bool = False):
        self.before, self.after = before, after
        self.tells_attributes = attributes

    def detect(self, images, phrases, settings):
        finds = []
        for image in images:
            known = self.after if float(image[0, 0, 0]) > 0.3 else self.before
            rows = [(p, known[p.text]) for p in phrases if p.text in known]
            if not rows:
                finds.append(NONE_FOUND)
                continue
            boxes = torch.tensor([box for _, (box, _) in rows], dtype=torch.float32)
            marks = torch.tensor([score for _, (_, score) in rows])
            finds.append(Found(boxes, marks, tuple(p.text for p, _ in rows)))
        return tuple(finds)


IN, OUT = [0, 0, 4, 8], [4, 0, 8, 8]


@pytest.mark.parametrize(
    ("task", "names", "after", "verdicts"),
    [
        ("add", {"old": "", "new": "hat"}, {"hat": (IN, 0.6)}, {"present": True}),
        ("add", {"old": "", "new": "hat"}, {}, {"present": False}),
        ("add", {"old": "", "new": "hat"}, {"hat": (OUT, 0.9)}, {"present": False}),
        ("remove", {"old": "dog", "new": ""}, {}, {"absent": True}),
        ("remove", {"old": "dog", "new": ""}, {"dog": (IN, 0.4)}, {"absent": False}),
        ("remove", {"old": "dog", "new": ""}, {"dog": (OUT, 0.4)}, {"absent": True}),
        ("local", {"old": "cat", "new": "fox"}, {"fox": (IN, 0.5)}, {"present": True, "absent": True}),
        (
            "local",
            {"old": "cat", "new": "fox"},
            {"fox": (IN, 0.5), "cat": (IN, 0.4)},
            {"present": True, "absent": False},
        ),
        ("local", {"old": "red ball", "new": "blue ball"}, {"blue ball": (IN, 0.5)}, {"present": True}),
        ("texture", {"old": "car", "new": "brick car"}, {"brick car": (IN, 0.5)}, {"present": True}),
        ("texture", {"old": "car", "new": ""}, {}, {"present": False}),
    ],
)
def test_there_gone_replaced(task, names, after, verdicts):
    found = scores_of(PresenceFilter(Detector({}, after)), candidate(task, **names))
    assert {name: score.passed for name, score in found.items()} == verdicts
    for score in found.values():
        assert score.passed or score.reason


def test_a_detector_that_tells_attributes_is_asked_for_the_old_one_too():
    after = {"blue ball": (IN, 1.0), "red ball": (IN, 1.0)}
    one = candidate("local", old="red ball", new="blue ball")
    assert scores_of(PresenceFilter(Detector({}, after, True)), one)["absent"].passed is False
    bigger = candidate("local", old="red ball", new="red ball")
    assert list(scores_of(PresenceFilter(Detector({}, after, True)), bigger)) == ["present"]


def test_marked_things_are_looked_for_in_the_source_and_nothing_counts_at_no_threshold():
    one = candidate("detect", old="dog", new="dog")
    assert scores_of(PresenceFilter(Detector({"dog": (IN, 0.5)}, {})), one)["present"].passed
    lenient = PresenceFilter(Detector({}, {}), DetectSettings(threshold=0.0))
    assert scores_of(lenient, one)["present"].passed is False
    assert scores_of(lenient, candidate("style"))["present"].passed is None


# --- lettering, task


class Reader:
    def __init__(self, *read: str, crop: bool = False):
        self.texts, self.wants_crop, self.seen = read, crop, None

    def read(self, picture):
        self.seen = picture.shape
        return [SimpleNamespace(text=text) for text in self.texts]


@pytest.mark.parametrize(
    ("old", "new", "read", "passed"),
    [
        ("", "Open late", ("open", "late"), {"lettering": True}),
        ("", "Open late", ("oven",), {"lettering": False}),
        ("SALE", "", (), {"lettering_gone": True}),
        ("SALE", "", ("sale!",), {"lettering_gone": False}),
        ("tea", "coffee", ("coffee",), {"lettering": True, "lettering_gone": True}),
        ("tea", "coffee", ("tea",), {"lettering": False, "lettering_gone": False}),
        ("Museum", "Museum", ("museum",), {"lettering": True}),
    ],
)
def test_lettering(old, new, read, passed):
    one = candidate("text", old=old, new=new)
    found = scores_of(LetteringFilter(Reader(*read)), one)
    assert {name: score.passed for name, score in found.items()} == passed


def test_a_reader_without_a_finder_gets_the_masks_box():
    reader = Reader("x", crop=True)
    LetteringFilter(reader).look([candidate("text", new="x")])
    assert reader.seen == (8, 5, 3)  # the left half and a margin of one pixel
    assert likeness("abc", []) == 0 and likeness("A-b c", ["abc"]) == 1


def test_the_predictor_reassigns_and_drops_nobody():
    judged = judge_all(
        [
            candidate("local", told="remove the red ball from the picture"),
            candidate("remove", told="remove the red ball from the picture"),
            candidate("local", told="hm hm"),
        ],
        [TaskFilter(bundled_predictor())],
    )
    assert [one.task for one in judged] == ["remove", "remove", "local"]
    assert all(one.kept for one in judged)
    assert "goes under it" in judged[0].scores[0].reason and judged[0].scores[0].value < 0.5


def test_the_phrase_of_an_object_has_its_noun():
    assert Phrase("blue cup", "cup").head == "cup"
