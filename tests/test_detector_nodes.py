"""Load Detector and Text to Mask without ComfyUI."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from test_mask_sources import Known, toy_dino, toy_sam
from toy_models import toy_pictures

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks.loading import load_detector, load_segmenter
from emu_edit.core.masks.phrases import target_of
from emu_edit.core.masks.sources import NONE_FOUND, DetectSettings, Found, Segmented, text_to_mask
from emu_edit.nodes import detectors, host
from emu_edit.nodes.detectors import (
    AFTER,
    EDITOR,
    NONE,
    NOW,
    LoadDetector,
    TextToMask,
    cancellable,
    models,
)

NUMBERS = {"threshold": 0.3, "text_threshold": 0.25, "max_instances": 0}


class Boxes:
    """Finds one box in the first picture, and remembers what it was asked for."""

    name = "a list"

    def detect(self, images, phrases, settings):
        self.asked = [phrase.text for phrase in phrases]
        hit = Found(torch.tensor([[1.0, 2.0, 5.0, 8.0]]), torch.tensor([0.9]), (phrases[0].text,))
        return (hit, *(NONE_FOUND for _ in images[1:]))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("grounding-dino", "sams"):
        (tmp_path / name).mkdir()
    (tmp_path / "grounding-dino" / "groundingdino_swint_ogc.pth").write_bytes(b"")
    (tmp_path / "sams" / "sam_vit_b_01ec64.pth").write_bytes(b"")
    (tmp_path / "sams" / "notes.txt").write_text("not a model")
    fake = SimpleNamespace(
        models_dir=str(tmp_path),
        folder_names_and_paths={},
        get_folder_paths=lambda kind: [],
        get_filename_list=lambda kind: [],
    )
    monkeypatch.setattr(host, "folder_paths", fake)
    return tmp_path


def test_masks_boxes_count_and_report():
    source = Boxes()
    given = TextToMask().find(source, toy_pictures(2, 20, 30), "add a hat to the dog", NOW, **NUMBERS)
    mask, boxes, count, report = given
    assert mask.shape == (2, 20, 30) and mask.sum(dim=(1, 2)).tolist() == [24.0, 0.0] and count == 1
    assert boxes[0][0]["label"] == "dog" and boxes[1] == [] and "picture 2: nothing was found" in report
    TextToMask().find(source, toy_pictures(1), "add a hat to the dog", AFTER, **NUMBERS)
    assert source.asked == ["hat"]


def test_slips_are_told_with_the_node():
    with pytest.raises(EmuEditError, match="^Text to Mask: text: "):
        TextToMask().find(Boxes(), toy_pictures(1), "  ", NOW, **NUMBERS)
    with pytest.raises(EmuEditError, match="^Text to Mask: threshold: "):
        TextToMask().find(Boxes(), toy_pictures(1), "ball", NOW, **{**NUMBERS, "threshold": 2.0})
    assert TextToMask.VALIDATE_INPUTS("the red ball") is True and TextToMask.VALIDATE_INPUTS() is True
    assert "empty" in str(TextToMask.VALIDATE_INPUTS(" "))


def test_the_menus_hold_what_is_on_disk_and_nothing_else(folders):
    assert list(models("detector")) == ["grounding-dino/groundingdino_swint_ogc.pth"]
    assert list(models("segmenter")) == ["sams/sam_vit_b_01ec64.pth"]
    assert LoadDetector.VALIDATE_INPUTS(EDITOR, NONE) is True
    assert "is not among the detectors" in str(LoadDetector.VALIDATE_INPUTS("../secret.pth", NONE))
    with pytest.raises(
        EmuEditError, match="^Load Detector, input segmenter: |^Load Detector, input detector: "
    ):
        LoadDetector().load("grounding-dino/groundingdino_swint_ogc.pth", "sams/sam_vit_b_01ec64.pth", "cpu")


def test_only_what_is_kept_is_segmented():
    class Counting:
        name = "a pen"
        boxes: list = []

        def segment(self, image, boxes):
            self.boxes = boxes.tolist()
            return torch.ones(len(boxes), *image.shape[:2])

    right, left = [20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 10.0, 10.0]
    pen, known = Counting(), Known({"ball": [right, left, [0.0, 0.2, 10.0, 10.0]]})
    source, images = Segmented(known, pen), torch.zeros(1, 32, 32, 3)
    assert text_to_mask(source, images, "the ball on the left").found[0].masks.shape == (1, 32, 32)
    assert pen.boxes == [left]
    text_to_mask(source, images, "ball", DetectSettings(max_instances=1))
    assert pen.boxes == [right]
    source.detect(images, target_of("ball").things, DetectSettings())
    assert pen.boxes == [right, left]  # one of the doubles is enough


def test_cancel_is_heard_between_pictures_and_batches_of_boxes(tmp_path, monkeypatch):
    class Cancelled(Exception):
        pass

    asked = []

    def cancelled_at(count):
        def stop():
            asked.append(len(asked))
            if len(asked) == count:
                raise Cancelled

        asked.clear()
        monkeypatch.setattr(host, "stop_if_interrupted", stop)

    toy_dino(tmp_path / "dino")
    toy_sam(tmp_path / "sam")
    detector = load_detector(tmp_path / "dino")
    source = Segmented(detector, load_segmenter(tmp_path / "sam"))
    numbers = {**NUMBERS, "threshold": 0.0, "text_threshold": 0.0}
    given = (toy_pictures(2, 40, 60), "ball", NOW)
    for count, finder in ((2, detector), (3, source), (4, source)):  # second picture, first's masks, boxes
        cancelled_at(count)
        with pytest.raises(Cancelled):
            TextToMask().find(finder, *given, **numbers)
    assert detector.poll is None and len(asked) == 4  # the loaded detector stays as it was


def test_the_bundled_editor_marks_things():
    (source,) = LoadDetector().load(EDITOR, NONE, "cpu")
    assert "Segment task" in source.name
    mask, _, _, report = TextToMask().find(source, toy_pictures(1), "the ball", NOW, **NUMBERS)
    assert mask.shape == (1, 64, 64) and "looked for 'ball'" in report


def test_a_cancellable_copy_is_brought_to_its_device_like_the_detector(tmp_path, monkeypatch):
    toy_dino(tmp_path / "dino")
    toy_sam(tmp_path / "sam")
    both = Segmented(load_detector(tmp_path / "dino"), load_segmenter(tmp_path / "sam"))
    for part in (both.detector, both.segmenter):
        detectors._handles[part] = object()
    brought = []
    memory = SimpleNamespace(load_models_gpu=lambda handles, force_full_load: brought.append(list(handles)))
    monkeypatch.setattr(host, "comfy_memory", memory)
    for one in (both, cancellable(both), both.detector, cancellable(both.detector)):
        detectors.make_resident(one)
    assert brought[0] == brought[1] and len(brought[0]) == 2
    assert brought[2] == brought[3] == brought[0][:1]
