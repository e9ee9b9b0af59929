"""A control comes and goes without a trace, on any U-Net of diffusers."""

from __future__ import annotations

import pytest
import torch
from toy_models import CONTEXT, toy_backbone, toy_unet

from emu_edit.core.attention.algebra import attention
from emu_edit.core.attention.hook import attached, sites
from emu_edit.core.attention.layers import AttentionLayer
from emu_edit.core.attention.survey import layers_of, style_blocks
from emu_edit.core.errors import EmuEditError

UNETS = {
    "plain": {},
    "tasks and added text": {
        "task_width": 6,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
    },
    "attention without text": {
        "down_block_types": (
            "CrossAttnDownBlock2D",
            "AttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D",
        ),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "AttnUpBlock2D", "CrossAttnUpBlock2D"),
    },
    "upcast, linear, two deep": {
        "upcast_attention": True,
        "use_linear_projection": True,
        "transformer_layers_per_block": 2,
    },
}


class Same:
    """Computes everywhere what the network computes anyway, or breaks after a few layers."""

    def __init__(self, breaks_at=None):
        self.seen, self.breaks_at = [], breaks_at

    def wants(self, layer):
        return True

    def attend(self, layer, q, k, v, scale, mask):
        self.seen.append(layer)
        if len(self.seen) == self.breaks_at:
            raise RuntimeError("stop")
        return attention(q, k, v, scale, mask)

    def features(self, layer, hidden):
        self.seen.append(layer)
        return hidden


class Nothing(Same):
    def wants(self, layer):
        self.seen.append(layer)
        return False


def inputs(unet):
    generator = torch.Generator().manual_seed(1)
    made = {
        "sample": torch.randn(2, unet.config.in_channels, 8, 16, generator=generator),
        "timestep": 500,
        "encoder_hidden_states": torch.randn(2, 7, CONTEXT, generator=generator),
    }
    width = unet.config.projection_class_embeddings_input_dim
    return made | ({"class_labels": torch.randn(2, width, generator=generator)} if width else {})


def traces(unet):
    """Everything that a hook could leave behind."""
    return [
        (name, sorted(module.__dict__), module.__dict__.get("forward"), len(module._forward_hooks))
        for name, module in unet.named_modules()
    ]


@pytest.mark.parametrize("kind", UNETS)
def test_layers_are_routed_and_released(kind):
    unet = toy_unet(**UNETS[kind])
    given = inputs(unet)
    weights = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    processors = list(unet.attn_processors.values())
    with torch.inference_mode():
        plain = unet(**given).sample
        before = traces(unet)
        control, idle = Same(), Nothing()
        with attached(unet, control, (8, 16)):
            routed = unet(**given).sample
        with attached(unet, idle, (8, 16)):
            untouched = unet(**given).sample
        with pytest.raises(RuntimeError, match="stop"), attached(unet, Same(breaks_at=3), (8, 16)):
            unet(**given)
        after = unet(**given).sample
    torch.testing.assert_close(routed, plain, rtol=1e-6, atol=1e-6)
    assert torch.equal(untouched, plain) and torch.equal(after, plain)
    assert traces(unet) == before and list(unet.attn_processors.values()) == processors
    assert all(torch.equal(tensor, weights[name]) for name, tensor in unet.state_dict().items())
    # Every attention layer, every residual block, each once; grids of twice the width as the latents.
    names = [layer.name for layer in control.seen]
    assert sorted(names) == sorted(name for name, *_ in sites(unet)) and len(set(names)) == len(names)
    assert [(layer.name, layer.kind) for layer in idle.seen] == [
        (layer.name, layer.kind) for layer in control.seen
    ]
    assert {layer.size for layer in control.seen} == {(8, 16), (4, 8), (2, 4), (1, 2)}


def test_layers_are_named_as_in_the_original():
    backbone = toy_backbone(in_channels=4)
    layers = layers_of(backbone, torch.zeros(1, 4, 8, 8), backbone.encode_text(["a"]))
    up = {(layer.name, layer.kind): layer for layer in layers if layer.place == "up"}
    assert sorted({layer.block for layer in up.values()}) == list(range(8))  # two to a level, four levels
    assert up["up_blocks.2.resnets.1.conv2", "features"].block == 5
    assert up["up_blocks.2.attentions.1.transformer_blocks.0.attn1", "self"].block == 5
    assert up["up_blocks.2.attentions.1.transformer_blocks.0.attn2", "cross"].tokens == 16
    assert style_blocks(layers) == ((3,), (3, 4, 5, 6, 7))
    assert style_blocks([layer for layer in layers if layer.kind != "self"]) == ((3,), None)
    # More blocks on the finest grid move nothing: 2 of 2 + 2 + 4, as of 2 + 2 + 2.
    for counts in ((2, 2, 2), (2, 2, 4)):
        grids = [grid for grid, count in enumerate(counts) for _ in range(count)]
        small = [
            AttentionLayer(f"{kind} {block}", kind, "up", block, (8 << grid, 8 << grid))
            for block, grid in enumerate(grids)
            for kind in (("features", "self") if grid == 1 else ("features",))
        ]
        assert style_blocks(small) == ((2,), (2, 3))


def test_someone_elses_forward_comes_back():
    unet = toy_unet()
    attn = next(module for module in unet.modules() if hasattr(module, "to_q"))
    calls, own = [], attn.forward

    def theirs(*args, **kwargs):
        calls.append(1)
        return own(*args, **kwargs)

    attn.forward = theirs
    with torch.inference_mode(), attached(unet, Nothing(), (8, 16)):
        unet(**inputs(unet))
    assert attn.__dict__["forward"] is theirs and calls == [1]


def test_attention_that_does_more_is_refused():
    class AdapterProcessor(type(next(iter(toy_unet().attn_processors.values())))):
        pass

    backbone = toy_backbone(in_channels=4)
    backbone.unet.set_attn_processor(AdapterProcessor())
    latents, text = torch.zeros(1, 4, 8, 8), backbone.encode_text(["a"])
    backbone.predict(latents, 500, text, control=Nothing())  # not wanted: not in the way
    with pytest.raises(EmuEditError, match="attn1 runs AdapterProcessor.*take out the adapter"):
        backbone.predict(latents, 500, text, control=Same())
    assert all("forward" not in module.__dict__ for module in backbone.unet.modules())
