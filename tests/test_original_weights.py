"""Original SAM and GroundingDINO weights on transformers' models give what the original packages give."""

from __future__ import annotations

from collections import Counter

import peers
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SamConfig,
    SamModel,
)

from emu_edit.core.errors import EmuEditError
from emu_edit.core.masks import original_dino, original_sam

# What no checkpoint needs to hold: counters, and a normalisation that a backbone does not use.
COUNTERS = ("relative_position_index", "position_ids", "token_type_ids", "swin.layernorm.weight")
COUNTERS += ("swin.layernorm.bias",)
SIDE = 96  # pixels of the tiny SAM's square


@pytest.fixture(autouse=True)
def inference():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def stirred(model: torch.nn.Module, seed: int, size: float) -> torch.nn.Module:
    """Random weights everywhere, also where a fresh model has zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tiny_sam(package):
    """The original classes in a small shape: four blocks, two of them global, windows that need padding."""
    parts = package.modeling
    return parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            depth=4,
            embed_dim=32,
            img_size=SIDE,
            mlp_ratio=4,
            norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
            num_heads=2,
            patch_size=8,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=[1, 3],
            window_size=5,
            out_chans=32,
        ),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=32,
            image_embedding_size=(SIDE // 8, SIDE // 8),
            input_image_size=(SIDE, SIDE),
            mask_in_chans=16,
        ),
        mask_decoder=parts.MaskDecoder(
            num_multimask_outputs=3,
            transformer=parts.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=48, num_heads=8),
            transformer_dim=32,
            iou_head_depth=3,
            iou_head_hidden_dim=24,
        ),
    )


def shapes(state) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_sam_masks_are_the_same():
    package = peers.segment_anything()
    original = stirred(tiny_sam(package), 1, 0.2)
    config, weights = original_sam.convert(original.state_dict(), "test")
    ours = SamModel.from_pretrained(None, config=SamConfig(**config), state_dict=weights).eval()
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[10.0, 12.0, 60.0, 80.0], [0.0, 0.0, 95.0, 95.0], [50.0, 5.0, 70.0, 30.0]])
    features = original.image_encoder(pixels)
    sparse, dense = original.prompt_encoder(points=None, boxes=boxes, masks=None)
    for several in (False, True):
        expected, quality = original.mask_decoder(
            features, original.prompt_encoder.get_dense_pe(), sparse, dense, several
        )
        found = ours(pixel_values=pixels, input_boxes=boxes[None], multimask_output=several)
        torch.testing.assert_close(found.pred_masks[0], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.iou_scores[0], quality, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1 and (expected > 0).any() and (expected < 0).any()


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_every_published_sam_fits(size):
    package = peers.segment_anything()
    with torch.device("meta"):
        original = package.build.sam_model_registry[size]()
        config, weights = original_sam.convert(original.state_dict(), size)
        ours = SamModel(SamConfig(**config))
    assert shapes(weights) == shapes(ours.state_dict())
    if size == "vit_b":  # transformers' own defaults are this model's
        told = ours.config.to_dict()
        plain = SamConfig().to_dict()
        for part in ("vision_config", "prompt_encoder_config", "mask_decoder_config"):
            assert {k: told[part][k] for k in config[part]} == {
                k: _listed(plain[part][k]) for k in config[part]
            }


def _listed(value):
    return list(value) if isinstance(value, tuple) else value


def tiny_bert() -> BertModel:
    return BertModel(
        BertConfig(
            vocab_size=1100,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=1,
            intermediate_size=96,
            max_position_embeddings=40,
            attn_implementation="eager",
        )
    )


class Words:
    """A tokenizer that gives the same ids whatever is asked: [CLS] two words . one word . [SEP]"""

    ids = torch.tensor([[101, 7, 8, 1012, 9, 1012, 102]])

    def convert_tokens_to_ids(self, tokens):
        return [101, 102, 1012, 1029]

    def __call__(self, captions, **options):
        from transformers import BatchEncoding

        row = self.ids.expand(len(captions), -1)
        return BatchEncoding(
            {
                "input_ids": row,
                "token_type_ids": torch.zeros_like(row),
                "attention_mask": torch.ones_like(row),
            }
        )


def dino(package, monkeypatch, backbone, bert, width=256, layers=2, forward=64, queries=30):
    """The original detector around a Swin backbone and a BERT."""
    old = peers.OldBert(bert)
    monkeypatch.setattr(package.dino.get_tokenlizer, "get_tokenlizer", lambda kind: Words())
    monkeypatch.setattr(package.dino.get_tokenlizer, "get_pretrained_language_model", lambda kind: old)
    place = package.backbone.build_position_encoding(
        _options(hidden_dim=width, position_embedding="sine", pe_temperatureH=20, pe_temperatureW=20)
    )
    joined = package.backbone.Joiner(backbone, place)
    joined.num_channels = backbone.num_features[1:]
    transformer = package.transformer.build_transformer(
        _options(
            hidden_dim=width,
            dropout=0.0,
            nheads=8,
            num_queries=queries,
            dim_feedforward=forward,
            enc_layers=layers,
            dec_layers=layers,
            pre_norm=False,
            query_dim=4,
            transformer_activation="relu",
            num_patterns=0,
            num_feature_levels=4,
            enc_n_points=4,
            dec_n_points=4,
            two_stage_type="standard",
            embed_init_tgt=True,
            use_text_enhancer=True,
            use_fusion_layer=True,
            use_checkpoint=False,
            use_transformer_ckpt=False,
            use_text_cross_attention=True,
            text_dropout=0.0,
            fusion_dropout=0.0,
            fusion_droppath=0.1,
        )
    )
    return package.dino.GroundingDINO(
        joined,
        transformer,
        num_queries=queries,
        iter_update=True,
        query_dim=4,
        num_feature_levels=4,
        nheads=8,
        two_stage_type="standard",
        two_stage_bbox_embed_share=False,
        two_stage_class_embed_share=False,
        dn_number=0,
    )


def _options(**values):
    from types import SimpleNamespace

    return SimpleNamespace(**values)


def test_detections_are_the_same(monkeypatch):
    package = peers.grounding_dino()
    swin = package.swin.SwinTransformer(
        pretrain_img_size=64,
        embed_dim=16,
        depths=[1, 2, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=5,
        out_indices=(1, 2, 3),
    )
    original = stirred(dino(package, monkeypatch, swin, tiny_bert()), 4, 0.05)
    config, weights = original_dino.convert(original.state_dict(), "test")
    ours = GroundingDinoForObjectDetection.from_pretrained(
        None, config=GroundingDinoConfig(**config), state_dict=weights
    ).eval()
    pixels = torch.randn(1, 3, 130, 170, generator=torch.Generator().manual_seed(5))
    expected = original(pixels, captions=["red ball. tail."])
    found = ours(pixel_values=pixels, input_ids=Words.ids, attention_mask=torch.ones_like(Words.ids))
    wide = expected["pred_logits"].shape[-1]
    assert wide == found.logits.shape[-1] == 256
    torch.testing.assert_close(
        found.logits.sigmoid(), expected["pred_logits"].sigmoid(), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(found.pred_boxes, expected["pred_boxes"], atol=1e-4, rtol=1e-4)
    assert expected["pred_boxes"].std(dim=1).min() > 0.01
    assert expected["pred_logits"][..., :7].sigmoid().std() > 0.01


@pytest.mark.parametrize("name", ["swin_T_224_1k", "swin_B_384_22k"])
def test_every_published_detector_fits(name, monkeypatch):
    package = peers.grounding_dino()
    steps = torch.linspace  # the original asks for the values of one, which the meta device does not have
    monkeypatch.setattr(torch, "linspace", lambda *values, **_: steps(*values, device="cpu"))
    with torch.device("meta"):
        swin = package.swin.build_swin_transformer(
            name, pretrain_img_size=int(name.split("_")[2]), out_indices=(1, 2, 3), dilation=False
        )
        original = dino(package, monkeypatch, swin, BertModel(BertConfig()), 256, 6, 2048, 900)
        config, weights = original_dino.convert(original.state_dict(), name)
        ours = GroundingDinoForObjectDetection(GroundingDinoConfig(**config))
    plain = GroundingDinoConfig().to_dict()
    told = {key: value for key, value in config.items() if not isinstance(value, dict)}
    assert told == {key: plain[key] for key in told}  # transformers' defaults are the published model's
    # Releases of transformers call the backbone's parts differently, but never change their number or shape.
    wanted = {n: s for n, s in shapes(ours.state_dict()).items() if not n.endswith(COUNTERS)}
    assert Counter(s for n, s in shapes(weights).items() if not n.endswith(COUNTERS)) == Counter(
        wanted.values()
    )


@pytest.mark.parametrize("module", [original_sam, original_dino])
def test_foreign_weights_are_refused(module):
    with pytest.raises(EmuEditError, match="^some.pth: these are not the weights of "):
        module.convert({"layer.weight": torch.zeros(2)}, "some.pth")
