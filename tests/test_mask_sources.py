"""Text to mask: reading of answers, sources with tiny random models, the editor's paint, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from toy_models import toy_backbone, toy_pictures
from transformers import (
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    Sam2Config,
    Sam2Model,
    SamConfig,
    SamModel,
)

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks import detect, kinds, loading, painted, pth
from emu_edit.core.masks.phrases import target_of
from emu_edit.core.masks.sources import NONE_FOUND, DetectSettings, Found, Segmented, text_to_mask

ALL = DetectSettings(0.0, 0.0)


def toy_tokenizer(folder):
    """BERT's special tokens at their published places, and some words."""
    words = [f"[unused{i}]" for i in range(1040)]
    words[0], words[100], words[101], words[102], words[103] = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    words[1012], words[1029] = ".", "?"
    for i, word in enumerate(("red", "green", "ball", "cube", "tail", "dog", "hat", "##s")):
        words[200 + i] = word
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    return BertTokenizerFast(str(folder / "vocab.txt"))


def toy_dino(folder, seed=0):
    torch.manual_seed(seed)
    backbone = {"model_type": "swin", "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2]}
    config = GroundingDinoConfig(
        backbone_config=backbone | {"window_size": 4, "image_size": 64, "out_indices": [2, 3, 4]},
        text_config={
            "model_type": "bert",
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 64,
            "vocab_size": 1040,
        },
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=20,
    )
    model = GroundingDinoForObjectDetection(config).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 64, "longest_edge": 96}})
    )
    toy_tokenizer(folder)
    return model


SAM = {
    "vision_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
        "window_size": 2,
        "global_attn_indexes": [1],
        "output_channels": 16,
        "mlp_dim": 64,
        "num_pos_feats": 8,
    },
    "prompt_encoder_config": {
        "hidden_size": 16,
        "image_size": 64,
        "patch_size": 16,
        "mask_input_channels": 4,
    },
    "mask_decoder_config": {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    },
}


def toy_sam(folder):
    torch.manual_seed(1)
    model = SamModel(SamConfig(**SAM)).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    toy_dino(root / "dino")
    toy_sam(root / "sam")
    return root


class Known:
    """A source that finds what it is told to: {phrase: [box, ...]} for each picture."""

    name = "a list"

    def __init__(self, *known, score=0.9):
        self.known, self.score, self.asked = known, score, []

    def detect(self, images, phrases, settings):
        self.asked.append([phrase.text for phrase in phrases])
        finds = []
        for _, known in zip(images, self.known, strict=False):
            rows = [(box, phrase.text) for phrase in phrases for box in known.get(phrase.text, [])]
            boxes = torch.tensor([box for box, _ in rows]).reshape(-1, 4)
            scores = self.score - 0.01 * torch.arange(len(rows))
            finds.append(Found(boxes, scores, tuple(label for _, label in rows)) if rows else NONE_FOUND)
        return tuple(finds)


def test_a_batch_keeps_its_empty_pictures():
    box = [2.0, 3.0, 10.0, 12.0]
    source = Known({"ball": [box]}, {}, {"ball": [box, [20.0, 20.0, 30.0, 30.0]]})
    found = text_to_mask(source, torch.zeros(3, 32, 40, 3), "make the ball blue")
    mask = found.mask()
    assert mask.shape == (3, 32, 40) and mask.sum(dim=(1, 2)).tolist() == [72.0, 0.0, 172.0]
    assert mask[0, 3:12, 2:10].min() == 1
    assert [len(boxes) for boxes in found.bounding_boxes()] == [1, 0, 2] and found.count == 3
    first = found.bounding_boxes()[0][0]
    assert (first["x"], first["y"], first["width"], first["height"], first["label"]) == (2, 3, 8, 9, "ball")
    assert found.report().splitlines()[1] == "picture 2: nothing was found, the mask is empty"
    json.dumps(found.bounding_boxes())


def test_the_owner_stands_in_for_the_part():
    dog = [0.0, 0.0, 9.0, 9.0]
    source = Known({"tail": [[1.0, 1.0, 3.0, 3.0]]}, {})
    found = text_to_mask(source, torch.zeros(2, 16, 16, 3), "make the dog's tail blue")
    assert source.asked == [["tail"], ["dog"]]
    source = Known({"dog": [dog]})
    found = text_to_mask(source, torch.zeros(1, 16, 16, 3), "make the dog's tail blue")
    assert found.found[0].labels == ("dog",) and "where it was not found: 'dog'" in found.report()


def test_sides_doubles_and_the_best_few():
    boxes = [[20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 10.0, 10.0], [0.0, 0.2, 10.0, 10.0], [0.0, 20.0, 10.0, 30.0]]
    images = torch.zeros(1, 32, 32, 3)
    assert text_to_mask(Known({"ball": boxes}), images, "ball").count == 3
    assert text_to_mask(Known({"ball": boxes}), images, "ball", DetectSettings(max_instances=2)).count == 2
    found = text_to_mask(Known({"ball": boxes}), images, "the ball on the right")
    assert found.bounding_boxes()[0][0]["x"] == 20
    found = text_to_mask(Known({"ball": boxes}), images, "the ball at the bottom")
    assert found.bounding_boxes()[0][0]["y"] == 20


def test_words_without_a_thing():
    images = torch.zeros(2, 8, 8, 3)
    found = text_to_mask(Known({}, {}), images, "make it winter")
    assert found.mask().min() == 1 and found.count == 0 and "whole picture" in found.report()
    found = text_to_mask(Known({}, {}), images, "change the background to a beach")
    assert found.mask().max() == 0 and "background" in found.report()
    found = text_to_mask(Known({}, {}), images, "add a tree")
    assert found.mask().min() == 1 and "'tree' is not there yet" in found.report()
    source = Known({"tree": [[1.0, 1.0, 3.0, 3.0]]}, {})
    assert text_to_mask(source, images, "add a tree", after=True).count == 1


@pytest.mark.parametrize(
    "change, beginning",
    [
        ({"words": "  "}, "text: "),
        ({"images": torch.zeros(1, 8, 8, 4)}, "the picture: "),
        ({"images": torch.full((1, 8, 8, 3), float("nan"))}, "the picture: "),
    ],
)
def test_bad_input_is_one_sentence(change, beginning):
    given = {"source": Known({}), "images": torch.zeros(1, 8, 8, 3), "words": "ball"} | change
    with pytest.raises(EmuEditError, match=f"^{beginning}"):
        text_to_mask(**given)
    for settings in ({"threshold": 2.0}, {"text_threshold": float("nan")}, {"max_instances": -1}):
        with pytest.raises(EmuEditError):
            DetectSettings(**settings)


def test_answers_are_read_as_transformers_reads_them(tmp_path):
    tokenizer = toy_tokenizer(tmp_path / "words")
    things = target_of("red ball, tail").things
    ids = tokenizer("red ball. tail.", return_tensors="pt")["input_ids"]
    spans = detect.phrase_spans(tokenizer, ids[0].tolist(), things)
    assert [(span.text, span.tokens, span.head) for span in spans] == [
        ("red ball", (1, 2), (2,)),
        ("tail", (4,), (4,)),
    ]
    generator = torch.Generator().manual_seed(3)
    logits = torch.full((1, 50, 256), -float("inf"))
    logits[:, :, [1, 2, 4]] = 2 * torch.randn(1, 50, 3, generator=generator) - 1
    centres = 0.3 + 0.3 * torch.rand(1, 50, 4, generator=generator)
    outputs = type("Answer", (), {"logits": logits, "pred_boxes": centres, "input_ids": ids})
    processor = GroundingDinoProcessor.__new__(GroundingDinoProcessor)
    processor.tokenizer = tokenizer
    expected = processor.post_process_grounded_object_detection(
        outputs, ids, threshold=0.4, text_threshold=0.4, target_sizes=[(30, 50)]
    )[0]
    order = expected["scores"].argsort(descending=True)
    found = detect.read_answer(logits[0].sigmoid(), centres[0], spans, DetectSettings(0.4, 0.0), 30, 50)
    torch.testing.assert_close(found.scores, expected["scores"][order])
    torch.testing.assert_close(found.boxes, expected["boxes"][order])
    sure = detect.read_answer(logits[0].sigmoid(), centres[0], spans, DetectSettings(0.4, 0.4), 30, 50)
    assert 0 < sure.count < found.count  # what is only red is no red ball


def test_detector_and_segmenter_from_folders(folders):
    source = Segmented(loading.load_detector(folders / "dino"), loading.load_segmenter(folders / "sam"))
    assert source.name == "dino and sam" and source.detector.shortest == 64 and source.segmenter.side == 64
    images = torch.cat([toy_pictures(2, 40, 60), torch.zeros(1, 40, 60, 3)])  # one of them all black
    found = text_to_mask(source, images, "red ball", replace(ALL, max_instances=3))
    assert found.mask().shape == (3, 40, 60) and all(1 <= here.count <= 3 for here in found.found)
    for here in found.found:
        assert here.masks.shape == (here.count, 40, 60) and set(here.masks.unique().tolist()) <= {0.0, 1.0}
        assert (here.boxes >= 0).all() and (here.boxes[:, 2] <= 60).all() and (here.boxes[:, 3] <= 40).all()
    alone = text_to_mask(source, images[1:2], "red ball", replace(ALL, max_instances=3))
    torch.testing.assert_close(alone.found[0].boxes, found.found[1].boxes)
    none = text_to_mask(source, images, "red ball", DetectSettings(1.0))
    assert none.count == 0 and none.mask().max() == 0 and "nothing was found" in none.report()


def test_a_list_too_long_for_the_prompt(folders):
    source = loading.load_detector(folders / "dino")
    colours = [f"{first}{second}ish" for first in "bcdfgklm" for second in "aeioubcdfgkl"]
    words = [f"red {colour}" for colour in colours]  # 96 phrases of 3 tokens: 288 and 2, of which 256 fit
    found = text_to_mask(source, toy_pictures(1, 40, 60), ", ".join(words), replace(ALL, max_instances=2))
    assert found.count == 2
    assert found.notes[-1].startswith("not looked for, since dino has no room for so many: ")
    assert found.notes[-1].split(": ")[1] == ", ".join(words[84:])
    assert repr(words[83]) in found.notes[0] and repr(words[84]) not in found.notes[0]
    short = text_to_mask(source, toy_pictures(1, 40, 60), ", ".join(words[:84]), ALL)
    assert "no room" not in short.report()


def test_sam_2_gives_a_mask_for_each_box(tmp_path):
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "image_size": [64, 64],
                "blocks_per_stage": [1, 1, 1, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 1, 1],
                "window_size_per_stage": [4, 4, 4, 2],
                "global_attention_blocks": [],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={
            "hidden_size": 32,
            "image_size": 64,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    torch.manual_seed(2)
    Sam2Model(config).eval().save_pretrained(tmp_path / "sam2")
    segmenter = loading.load_segmenter(tmp_path / "sam2")
    assert segmenter.stretched and segmenter.side == 64
    masks = segmenter.segment(
        toy_pictures(1, 30, 50)[0], torch.tensor([[1.0, 2.0, 20.0, 25.0], [5.0, 5.0, 50.0, 30.0]])
    )
    assert (
        masks.shape == (2, 30, 50) and segmenter.segment(toy_pictures()[0], torch.zeros(0, 4)).shape[0] == 0
    )


def test_what_lies_on_disk(folders, tmp_path):
    assert kinds.kind_of(folders / "dino") == "detector" and kinds.kind_of(folders / "sam") == "segmenter"
    for name, kind in (("sam_vit_b_01ec64.pth", "segmenter"), ("groundingdino_swint_ogc.pth", "detector")):
        (tmp_path / name).write_bytes(b"")
        assert kinds.kind_of(tmp_path / name) == kind
    (tmp_path / "other.pth").write_bytes(b"")
    assert kinds.kind_of(tmp_path / "other.pth") is None and kinds.kind_of(tmp_path) is None
    with pytest.raises(EmuEditError, match="is no detector"):
        loading.load_detector(folders / "sam")
    with pytest.raises(EmuEditError, match="is no segmenter"):
        loading.load_segmenter(folders / "dino")


class Trap:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return (print, ("code was run",))


def test_files_are_opened_as_weights_alone(tmp_path, capsys):
    good, bad, cut = (tmp_path / f"{name}.pth" for name in ("good", "bad", "cut"))
    torch.save({"model": {"module.a.weight": torch.ones(2)}, "epoch": 3}, good)
    assert list(pth.read_state(good)) == ["a.weight"]
    torch.save({"model": {"a.weight": torch.ones(2)}, "extra": Trap()}, bad)
    cut.write_bytes(good.read_bytes()[:200])
    for path in (bad, cut, tmp_path / "absent.pth"):
        with pytest.raises(EmuEditError) as slip:
            pth.read_state(path)
        assert "\n" not in str(slip.value)
    assert "code was run" not in capsys.readouterr().out
    with pytest.raises(EmuEditError, match="not the weights of SAM"):
        loading.load_segmenter(good)
    with pytest.raises(EmuEditError, match="not the weights of GroundingDINO"):
        loading.load_detector(good)


def test_damaged_folders_are_told(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "sam", tmp_path / "sam")
    weights = tmp_path / "sam" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EmuEditError, match="truncated"):
        loading.load_segmenter(tmp_path / "sam")


def test_paint_is_read_back():
    before = toy_pictures(2)
    share = torch.zeros(2, 64, 64)
    share[:, 10:30, 20:50], share[:, 30:33, 20:50] = 1.0, 0.5
    painted_picture = before + share[..., None] * (torch.tensor(painted.PAINT) - before)
    torch.testing.assert_close(painted.painted_mask(before, painted_picture), share, atol=1e-4, rtol=0)
    red = before.clone()
    red[:, :9] = torch.tensor([1.0, 0.0, 0.0])  # another change is not paint
    assert painted.painted_mask(before, red).max() < 0.05


def test_the_difference_of_two_pictures():
    before = torch.zeros(1, 32, 32, 3)
    after = before.clone()
    after[:, 8:24, 8:24] = 0.5
    mask = painted.changed_mask(before, after)
    assert mask[0, 16, 16] == 1 and mask[0, 0, 0] < 1e-6 and painted.changed_mask(before, before).max() == 0
    with pytest.raises(EmuEditError, match="^pictures: 2 before against 3 after"):
        painted.changed_mask(before.repeat(2, 1, 1, 1), after.repeat(3, 1, 1, 1))


def test_the_editor_is_a_source(monkeypatch):
    editor = toy_backbone(task_width=12)
    asked = []

    def fake(backbone, images, order, task, *rest):
        asked.append((order, task))
        painted_picture = images.clone()
        painted_picture[0, 4:20, 4:30] = torch.tensor(painted.PAINT)
        if images.max() == 0:
            painted_picture[0, 4:20, 40:60] = torch.tensor(painted.PAINT)
        return type("Result", (), {"images": painted_picture})

    monkeypatch.setattr(painted, "edit", fake)
    found = text_to_mask(painted.EditorSource(editor), toy_pictures(2) * 0.5, "make the red ball blue")
    assert asked == [("segment the red ball", "segment")]
    assert [here.count for here in found.found] == [1, 0]
    assert found.bounding_boxes()[0][0]["x"] == 4 and found.mask()[0].sum() == 16 * 26
    source = painted.EditorSource(editor)
    two = text_to_mask(source, torch.zeros(1, 64, 64, 3), "the ball on the right")
    assert two.count == 1 and two.bounding_boxes()[0][0]["x"] == 40 and two.mask()[0, :, :32].max() == 0
    with pytest.raises(EmuEditError, match="has no task 'segment'"):
        painted.EditorSource(toy_backbone())
