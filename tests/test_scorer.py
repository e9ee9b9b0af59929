"""CLIP and DINO scores on tiny random models, against the formulas written out plainly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from toy_models import toy_pictures
from toy_scorers import CLIP_SIZE, DINO_SIZE, toy_clip, toy_dino

from emu_edit.core.errors import EmuEditError
from emu_edit.core.metric_models import load_clip, load_dino, read_shape
from emu_edit.core.metric_presets import PRESETS, preset, why_excluded
from emu_edit.core.scorer import Scorer, crop, squash

IN, OUT = "a red ball", "a blue ball"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("scorers")
    return root / "toy-clip", root / "toy-dino"


@pytest.fixture(scope="module")
def models(folders):
    return toy_clip(folders[0]), toy_dino(folders[1])


@pytest.fixture(scope="module")
def scorers(models, folders):
    clip, dino = load_clip(folders[0]), load_dino(folders[1])
    return {name: Scorer(preset(name), clip, dino) for name in PRESETS}


def bicubic(plane: np.ndarray, size: int) -> np.ndarray:
    """Plain bicubic (Keys, a = -0.75) of [H,W] to [size,size]: four taps to each side, edges repeated."""

    def matrix(length: int) -> np.ndarray:
        found = np.zeros((size, length))
        for i in range(size):
            centre = (i + 0.5) * length / size - 0.5
            for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
                t = abs(centre - tap)
                if t <= 1:
                    weight = 1.25 * t**3 - 2.25 * t**2 + 1
                else:
                    weight = -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
                found[i, min(max(tap, 0), length - 1)] += weight
        return found

    return matrix(plane.shape[0]) @ plane @ matrix(plane.shape[1]).T


def cropped(image: np.ndarray, shorter: int, size: int) -> np.ndarray:
    """The published recipe on one 8-bit picture, by hand: Pillow's bicubic, then the middle."""
    height, width = image.shape[:2]
    if width <= height:
        wide, tall = shorter, int(shorter * height / width)
    else:
        wide, tall = int(shorter * width / height), shorter
    resized = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.BICUBIC))
    top, left = int(round((tall - size) / 2.0)), int(round((wide - size) / 2.0))
    return resized[top : top + size, left : left + size].astype(np.float32) / 255


def standard(pixels: np.ndarray, mean, std) -> torch.Tensor:
    """[h,w,3] -> [1,3,h,w], colours standardised."""
    return torch.tensor((pixels - np.array(mean)) / np.array(std), dtype=torch.float32).permute(2, 0, 1)[None]


CLIP_STATISTICS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DINO_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def features(found) -> np.ndarray:
    """transformers 4 gives the tensor itself, transformers 5 an output around it."""
    tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return tensor[0].detach().double().numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("name, height, width", [("paper-like", 40, 61), ("ultraedit-like", 61, 40)])
@torch.no_grad()
def test_scores_equal_the_formulas(scorers, models, name, height, width):
    clip, dino = models
    before, after = toy_pictures(1, height, width), toy_pictures(1, height, width, seed=9)
    tokenizer = scorers[name].clip.tokenizer

    def seen(picture: torch.Tensor) -> np.ndarray:
        pixels = picture[0].double().numpy()
        if name == "paper-like":
            small = np.stack([bicubic(pixels[..., c], CLIP_SIZE) for c in range(3)], -1)
        else:
            small = cropped((pixels * 255).round().astype(np.uint8), CLIP_SIZE, CLIP_SIZE)
        return features(clip.get_image_features(pixel_values=standard(small, *CLIP_STATISTICS)))

    def told(caption: str) -> np.ndarray:
        return features(clip.get_text_features(**tokenizer([caption], return_tensors="pt")))

    def watched(picture: torch.Tensor) -> np.ndarray:
        pixels = (picture[0].double().numpy() * 255).round().astype(np.uint8)
        small = standard(cropped(pixels, round(DINO_SIZE * 256 / 224), DINO_SIZE), *DINO_STATISTICS)
        return dino(pixel_values=small).last_hidden_state[0, 0].double().numpy()

    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    (found,) = scorers[name].scores(before, after, [IN], [OUT])
    assert found == pytest.approx(
        {
            "clip_dir": cosine(unit(seen(after)) - unit(seen(before)), unit(told(OUT)) - unit(told(IN))),
            "clip_im": cosine(seen(before), seen(after)),
            "clip_out": cosine(seen(after), told(OUT)),
            "clip_out_unedited": cosine(seen(before), told(OUT)),
            "dino": cosine(watched(before), watched(after)),
        },
        abs=2e-4,
    )
    # The toy models do look: none of this would be found by chance.
    assert abs(found["clip_im"]) < 0.999 and abs(found["dino"]) < 0.999


def test_preprocessing_by_hand():
    picture = toy_pictures(2, 37, 50)
    ours = squash(picture, 24)
    assert ours.shape == (2, 3, 24, 24)
    np.testing.assert_allclose(ours[1, 2], bicubic(picture[1, ..., 2].double().numpy(), 24), atol=1e-5)
    for height, width in ((37, 50), (50, 37), (33, 33), (20, 31)):
        picture = torch.rand(1, height, width, 3)
        pixels = (picture[0].numpy() * 255).round().astype(np.uint8)
        assert torch.equal(
            crop(picture, 32, 28)[0], torch.tensor(cropped(pixels, 32, 28)).permute(2, 0, 1).contiguous()
        )


def test_no_direction_is_none_never_zero(scorers):
    scorer = scorers["paper-like"]
    before, after = toy_pictures(3), toy_pictures(3, seed=9)
    after[2] = before[2]
    rows = scorer.scores(before, after, [IN, "A  red ball", IN], [OUT, IN, OUT])
    assert [row["clip_dir"] is None for row in rows] == [False, True, True]
    assert rows[2]["clip_im"] == pytest.approx(1) and rows[2]["dino"] == pytest.approx(1)
    assert rows[2]["clip_out"] == pytest.approx(rows[2]["clip_out_unedited"])


def test_only_what_was_asked_is_scored(scorers, folders):
    before, after = toy_pictures(1), toy_pictures(1, seed=9)
    scorer = scorers["paper-like"]
    assert set(scorer.scores(before, after)[0]) == {"clip_im", "dino"}
    assert set(scorer.scores(before, after, None, [OUT])[0]) == {
        "clip_im",
        "clip_out",
        "clip_out_unedited",
        "dino",
    }
    bare = Scorer(preset("paper-like"))
    assert bare.scores(before, after, [IN], [OUT]) == [{}]
    with pytest.raises(EmuEditError, match="has no CLIP"):
        bare.image_embeddings(before)
    with pytest.raises(EmuEditError, match="2 output captions for 1 pictures"):
        scorer.scores(before, after, [IN], [OUT, OUT])


def test_batches_equal_singles_and_long_captions_are_cut(scorers):
    scorer = scorers["ultraedit-like"]
    before, after = toy_pictures(3), toy_pictures(3, seed=9)
    captions = [IN, OUT, "a ball " * 40]
    together = scorer.scores(before, after, captions, captions[::-1])
    for i in range(3):
        (alone,) = scorer.scores(before[i : i + 1], after[i : i + 1], [captions[i]], [captions[2 - i]])
        assert together[i] == pytest.approx(alone, abs=1e-5)


def test_results_name_models_and_preprocessing(scorers):
    told = scorers["paper-like"].describe()
    assert json.loads(json.dumps(told)) == told
    assert told["clip"]["model"] == "CLIP ViT-16/8 (toy-clip)" and told["clip"]["as_in_preset"] is False
    assert "without antialiasing or crop" in told["clip"]["preprocessing"]
    assert "centre crop" in scorers["ultraedit-like"].describe()["clip"]["preprocessing"]
    assert told["dino"]["model"] == "DINO ViT-16/7 (toy-dino)" and "256" not in told["dino"]["preprocessing"]
    assert (told["rows"], scorers["ultraedit-like"].describe()["rows"]) == ("all", "filtered")


def test_rows_left_out_by_the_presets():
    paper, ultra = preset("paper-like"), preset("ultraedit-like")
    assert why_excluded(paper, IN, IN) == "" and why_excluded(ultra, IN, OUT) == ""
    assert why_excluded(ultra, IN, " A red  ball") == "identical captions"
    assert why_excluded(ultra, "A train station in city.", OUT) == "placeholder caption"
    with pytest.raises(EmuEditError, match="no preset 'mine'"):
        preset("mine")


def test_folders_are_recognised_by_their_configuration(tmp_path):
    def shape(kind: str, config: dict) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config))
        found = read_shape(tmp_path, kind)
        return found.label if found else ""

    large = {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14}
    assert shape("clip", {"model_type": "clip", "vision_config": large}) == PRESETS["paper-like"].clip.label
    assert shape("clip", {"model_type": "clip"}) == PRESETS["ultraedit-like"].clip.label
    small = {"model_type": "vit", "hidden_size": 384}
    assert shape("dino", small) == PRESETS["paper-like"].dino.label
    assert shape("dino", {"model_type": "dinov2", "hidden_size": 768}) == "DINOv2 ViT-B/14"
    assert shape("clip", small) == "" and shape("dino", {"model_type": "bert"}) == ""
    assert read_shape(tmp_path / "absent", "clip") is None


def test_bad_folders_are_one_sentence(folders, models, tmp_path):
    import shutil

    def broken(name, change):
        folder = tmp_path / name
        shutil.copytree(folders[0], folder)
        change(folder)
        with pytest.raises(EmuEditError) as slip:
            load_clip(folder)
        assert "\n" not in str(slip.value).strip()
        return str(slip.value)

    assert "pickled" in broken("pickle", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"))
    cut = broken("cut", lambda f: (f / "model.safetensors").write_bytes(b"\x10\x00\x00"))
    assert "not a safetensors file" in cut
    assert "no CLIP model" in broken("none", lambda f: (f / "config.json").write_text("{}"))
    kept = ("config.json", "model.safetensors")
    assert "no tokenizer" in broken("dumb", lambda f: [p.unlink() for p in f.iterdir() if p.name not in kept])

    def lose(folder):
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensors.pop("visual_projection.weight")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    assert "lacks 1 weights" in broken("lost", lose)
    with pytest.raises(EmuEditError, match="no DINO model"):
        load_dino(folders[0])
