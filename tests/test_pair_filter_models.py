"""The models of filters from folders: a depth estimator, a reader of lettering, and folders without."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from test_pair_filters import candidate, scores_of, words

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs.filters.depth import DepthFilter
from emu_edit.core.pairs.filters.lettering import LetteringFilter
from emu_edit.core.pairs.filters.models import IMAGENET, Preparation, is_metric, load_depth, load_reader
from emu_edit.core.pairs.recipes.annotators import DepthAnnotator
from emu_edit.core.pairs.records import Candidate


def lively(model):
    """With random weights so large that its depth is no even plane, which those of a new model give."""
    for one in model.parameters():
        if one.dim() > 1:
            torch.nn.init.xavier_normal_(one)
    return model


def depth_anything(folder, **options):
    """A tiny random Depth Anything's folder."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=12,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        head_in_index=-1,
        **options,
    )
    lively(DepthAnythingForDepthEstimation(config)).save_pretrained(folder)
    prepared = {"size": {"height": 28, "width": 28}, "ensure_multiple_of": 14, "keep_aspect_ratio": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))


def metric_depth_anything(folder):
    depth_anything(folder, depth_estimation_type="metric", max_depth=20)


def glpn(folder):
    from transformers import GLPNConfig, GLPNForDepthEstimation

    torch.manual_seed(0)
    config = GLPNConfig(
        num_encoder_blocks=4,
        depths=[1] * 4,
        hidden_sizes=[8] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
    )
    lively(GLPNForDepthEstimation(config)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 64}}))


def zoedepth(folder):
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation

    torch.manual_seed(0)
    backbone = BeitConfig(
        image_size=64,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8] * 4,
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=8,
    )
    lively(ZoeDepthForDepthEstimation(config)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 64}}))


@pytest.mark.parametrize("make", [depth_anything, metric_depth_anything, glpn, zoedepth])
def test_maps_are_white_near_whatever_the_network_gives(make, tmp_path):
    make(tmp_path)
    estimator = load_depth(tmp_path)
    picture = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(3))
    values = estimator.depth(picture[None])[0]
    near = DepthAnnotator(estimator).annotate(picture)[..., 0]
    assert float(values.max() - values.min()) > 1e-3 and float(near.min()) == 0 and float(near.max()) == 1
    small = F.interpolate(near[None, None], values.shape, mode="area")[0, 0]
    alike = float(torch.corrcoef(torch.stack([values.flatten(), small.flatten()]))[0, 1])
    assert alike > 0.9 if make is depth_anything else alike < -0.9  # metres are large where far


def test_which_networks_give_metres():
    from transformers import DepthProConfig, DPTConfig

    assert not is_metric(DPTConfig()) and is_metric(DPTConfig(add_projection=True))
    assert not is_metric(DepthProConfig())  # the inverse of depth, before transformers' post-processing


def test_a_depth_estimator_from_a_folder(tmp_path):
    depth_anything(tmp_path)
    estimator = load_depth(tmp_path)
    pictures = torch.rand(2, 20, 40, 3)
    depth = estimator.depth(pictures)
    assert depth.shape[0] == 2 and depth.dtype == torch.float32 and bool(torch.isfinite(depth).all())
    torch.testing.assert_close(depth[:1], estimator.depth(pictures[:1]), atol=1e-5, rtol=1e-4)
    same = Candidate(pictures[0], pictures[0], words("texture"))
    assert scores_of(DepthFilter(estimator), same)["depth"].value == pytest.approx(0, abs=1e-6)


def test_pictures_are_prepared_as_the_folder_says():
    wide = torch.rand(1, 20, 40, 3)
    kept = Preparation(28, 28, 14, True)(wide)
    assert kept.shape == (1, 3, 14, 28)  # of the scales 1.4 and 0.7 the latter changes the picture least
    assert Preparation(32, 48)(wide).shape == (1, 3, 32, 48)
    grey = Preparation(8, 8, mean=(0.5,) * 3, std=(0.25,) * 3)(torch.full((1, 8, 8, 3), 0.75))
    assert torch.allclose(grey, torch.ones_like(grey))


@pytest.mark.parametrize(
    ("told", "white"),
    [
        (None, (1 - IMAGENET[0][0]) / IMAGENET[1][0]),
        ({"do_rescale": True, "size_divisor": 4}, 1.0),  # GLPN's: no mean is known, none is taken off
        ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 1.0),
        ({"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 2.0),
        ({"do_rescale": False, "image_mean": [100.0] * 3, "image_std": [50.0] * 3}, 3.1),  # DPT on DINOv2
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 1.0),
    ],
)
def test_white_becomes_what_the_folder_says(told, white, tmp_path):
    if told is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    planes = Preparation.read(tmp_path, 8)(torch.ones(1, 8, 8, 3))
    assert float(planes[0, 0, 0, 0]) == pytest.approx(white, rel=1e-5)


def test_a_reader_from_a_folder(tmp_path):
    from toy_models import toy_tokenizer
    from transformers import TrOCRConfig, TrOCRForCausalLM, VisionEncoderDecoderModel, ViTConfig, ViTModel

    tokenizer = toy_tokenizer()
    torch.manual_seed(0)
    vision = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    text = TrOCRConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        cross_attention_hidden_size=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
    )
    model = VisionEncoderDecoderModel(encoder=ViTModel(vision), decoder=TrOCRForCausalLM(text))
    model.config.decoder_start_token_id = tokenizer.bos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.decoder_start_token_id = tokenizer.bos_token_id
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    reader = load_reader(tmp_path)
    one = candidate("text", old="", new="ball", side=40)
    first, again = (scores_of(LetteringFilter(reader), one) for _ in range(2))
    assert reader.wants_crop and first == again and list(first) == ["lettering"]


def test_folders_that_hold_nothing(tmp_path):
    for load, what in ((load_depth, "depth estimator"), (load_reader, "reader of lettering")):
        with pytest.raises(EmuEditError, match=f"{what}: .* holds no config.json"):
            load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "dpt"}')
    with pytest.raises(EmuEditError, match="cannot be read"):
        load_depth(tmp_path)
