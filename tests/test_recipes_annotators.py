"""Annotators of translation: depth, normals, classes, skeletons, lines of pictures whose maps are known."""

from __future__ import annotations

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from emu_edit.core.masks.sources import NONE_FOUND, Found
from emu_edit.core.pairs.filters.models import Preparation
from emu_edit.core.pairs.recipes.annotators import (
    DepthAnnotator,
    NormalAnnotator,
    PoseAnnotator,
    SegmentationAnnotator,
    SketchAnnotator,
    normals,
    palette,
    skeleton,
)
from emu_edit.core.pairs.recipes.base import NoCandidate


class Plane:
    """A depth estimator that sees a floor rising to the right."""

    def depth(self, images):
        return torch.linspace(3, 7, 32).expand(len(images), 24, 32)


def test_depth_is_white_near_and_fills_the_range():
    made = DepthAnnotator(Plane()).annotate(torch.rand(48, 64, 3))
    assert made.shape == (48, 64, 3) and float(made.min()) == 0 and float(made.max()) == 1
    assert bool((made[:, 1:] >= made[:, :-1] - 1e-4).all())


def test_normals_lean_away_from_the_slope_and_have_length_one():
    up = normals(torch.zeros(40, 40))
    assert torch.allclose(up, torch.tensor([0.5, 0.5, 1.0]).expand(40, 40, 3), atol=1e-6)
    right = NormalAnnotator(Plane()).annotate(torch.rand(64, 64, 3)) * 2 - 1
    assert torch.allclose(right.norm(dim=-1), torch.ones(64, 64), atol=1e-5)
    inner = right[20:40, 20:40]  # nearer to the right: the surface faces left, by 45 degrees as deep as wide
    assert float(inner[..., 0].mean()) == pytest.approx(-(0.5**0.5), abs=0.05)
    above = normals(torch.linspace(1, 0, 64)[:, None].expand(64, 64)) * 2 - 1
    assert float(above[20:40, 20:40, 1].mean()) < -0.5  # nearer at the top: it faces down


class Metres:
    """A metric estimator that sees a floor 1.5 m below the eye, from 2 m away to a wall at 12 m."""

    metric = True

    def depth(self, images):
        rows = torch.linspace(0, 1, 64)[:, None]
        return (1 / (1 / 12 + (1 / 2 - 1 / 12) * rows)).expand(len(images), 64, 64)


def test_metres_are_white_near_and_a_plane_has_one_normal():
    picture = torch.rand(64, 64, 3)
    made = DepthAnnotator(Metres()).annotate(picture)[..., 0]
    assert float(made[0].max()) == 0 and float(made[-1].min()) == 1 and bool((made.diff(dim=0) > 0).all())
    floor = NormalAnnotator(Metres()).annotate(picture)[8:-8, 8:-8] * 2 - 1
    assert float(floor[..., 1].min()) > 0.5  # nearer at the bottom: it faces up
    assert float(floor.flatten(0, 1).std(dim=0).max()) < 0.01


def test_metres_that_cannot_be_do_not_take_the_whole_range():
    class Slip(Metres):
        def depth(self, images):
            found = super().depth(images).clone()
            found[:, 5, 5] = 1e-6
            return found

    made = DepthAnnotator(Slip()).annotate(torch.rand(64, 64, 3))[..., 0]
    assert float(made[-1].median()) > 0.03  # 2 m against the least of 0.1 m


def test_every_class_has_a_colour_of_its_own():
    colours = palette(150)
    assert len({tuple((row * 255).round().tolist()) for row in colours}) == 150
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=5,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
    )
    model = SegformerForSemanticSegmentation(config).eval()
    made = SegmentationAnnotator(model, Preparation(64, 64)).annotate(torch.rand(48, 40, 3))
    assert made.shape == (48, 40, 3)
    assert all(any(torch.equal(pixel, row) for row in palette(5)) for pixel in made.reshape(-1, 3)[::97])


def test_lines_are_where_edges_are():
    picture = torch.full((96, 96, 3), 0.8)
    picture[30:60, 30:60] = 0.2
    made = SketchAnnotator().annotate(picture)[..., 0]
    assert float(made[:20].min()) == 1 and float(made[42:48, 42:48].min()) == 1  # even ground, dark or light
    ring = made[26:64, 26:64].min()
    assert float(ring) < 0.3
    dark = (made < 0.5).nonzero()
    off = torch.minimum((dark - 30).abs(), (dark - 60).abs()).amin(dim=1)
    assert int(off.max()) <= 3


def test_a_skeleton_joins_the_joints_that_are_seen():
    joints = torch.zeros(17, 2)
    joints[5], joints[6], joints[8] = (
        torch.tensor([60.0, 20.0]),
        torch.tensor([40.0, 20.0]),
        torch.tensor([30.0, 60.0]),
    )
    seen = torch.zeros(17, dtype=torch.bool)
    seen[[5, 6, 8]] = True
    made = skeleton(torch.zeros(100, 100, 3), joints, seen)
    assert torch.allclose(made[40, 35], torch.tensor([1.0, 170 / 255, 0.0]), atol=0.15)  # right upper arm
    assert torch.allclose(made[20, 44], torch.tensor([1.0, 0, 0]), atol=0.05)
    assert float(made[40, 30].sum()) == float(made[40, 41].sum()) == 0
    assert float(made[70:].sum()) == 0


class Heat:
    """A pose model whose every joint is in the middle of the crop."""

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def parameters(self):
        return iter([self.weight])

    def __call__(self, pixel_values):
        assert pixel_values.shape == (1, 3, 256, 192)
        heat = torch.zeros(1, 17, 64, 48)
        heat[:, :, 32, 24] = 1
        return type("Answer", (), {"heatmaps": heat})


class People:
    def __init__(self, found):
        self.found = found

    def detect(self, images, phrases, settings):
        return (self.found,)


def test_joints_are_found_where_the_person_is():
    found = Found(torch.tensor([[20.0, 40.0, 60.0, 120.0]]), torch.ones(1), ("person",))
    annotator = PoseAnnotator(Heat(), People(found))
    joints, sure = annotator._joints(torch.rand(128, 160, 3), (20.0, 40.0, 60.0, 120.0))
    assert torch.allclose(joints, torch.tensor([40.0, 80.0]).expand(17, 2), atol=2) and bool(
        (sure == 1).all()
    )
    assert float(annotator.annotate(torch.rand(128, 160, 3))[76:86, 36:46].max()) > 0.5
    with pytest.raises(NoCandidate, match="nobody"):
        PoseAnnotator(Heat(), People(NONE_FOUND)).annotate(torch.rand(128, 160, 3))
