"""Pictures: checks, the working size and its undo, masks, files."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from emu_edit.core.errors import EmuEditError
from emu_edit.core.images import check_images, fill_size, fit_mask, plan_resize, resize_images
from emu_edit.core.picture_files import check_output, load_mask, load_picture, save_picture, to_pil


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.none() | st.integers(1, 300),
    multiple=st.sampled_from([1, 8, 16, 64]),
)
def test_a_plan_fits_the_multiple_and_is_undone_exactly(height, width, size, multiple):
    plan = plan_resize(height, width, size, multiple)
    assert plan.working_height % multiple == 0 and plan.working_width % multiple == 0
    longest = max(plan.working_height, plan.working_width)
    wanted = size or max(height, width)
    assert longest == multiple or abs(longest - wanted) <= multiple / 2
    images = torch.rand(1, height, width, 3)
    worked = plan.apply(images)
    assert worked.shape == (1, plan.working_height, plan.working_width, 3)
    back = plan.undo(worked)
    assert back.shape == images.shape and float(back.min()) >= 0 and float(back.max()) <= 1
    if plan.identity:
        assert torch.equal(back, images)


def test_common_sizes():
    def size(*arguments):
        plan = plan_resize(*arguments)
        return plan.working_height, plan.working_width

    assert size(128, 128, 128, 16) == (128, 128)
    assert size(768, 1024, 512, 64) == (384, 512)
    assert size(600, 800, None, 8) == (600, 800)
    assert size(10, 4000, 512, 8) == (8, 512)
    assert size(64, 64, 128, 16) == (128, 128)


def test_resizing_a_flat_picture_keeps_it_flat_and_upright():
    flat = torch.full((2, 37, 50, 3), 0.25)
    assert torch.allclose(resize_images(flat, 64, 16), torch.tensor(0.25), atol=1e-6)
    half = torch.zeros(1, 40, 40, 3)
    half[:, 20:, :, 0] = 1.0
    small = resize_images(half, 10, 20)
    assert small.shape == (1, 10, 20, 3) and small[0, 9, :, 0].min() > 0.99 and small[0, 0].max() < 0.01


@pytest.mark.parametrize("arguments", [(0, 5, None, 8), (5, 5, 0, 8), (5, 5, None, 0), (5, -1, 64, 8)])
def test_a_plan_of_nothing_is_refused(arguments):
    with pytest.raises(EmuEditError, match="1 pixel or more"):
        plan_resize(*arguments)


def test_a_plan_refuses_another_picture():
    plan = plan_resize(40, 40, 32, 8)
    with pytest.raises(EmuEditError, match="expected 40x40 pixels, got 30x41"):
        plan.apply(torch.rand(1, 41, 30, 3))
    with pytest.raises(EmuEditError, match="expected 32x32"):
        plan.undo(torch.rand(1, 40, 40, 3))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 4, 4, 3)), "expected a tensor .* got ndarray"),
        (torch.rand(4, 4, 3), "4 axes"),
        (torch.rand(1, 3, 4, 4), "3 colour channels"),
        (torch.rand(1, 4, 4, 4), "alpha channel"),
        (torch.rand(1, 0, 4, 3), "empty"),
        (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "divide 8-bit"),
        (torch.tensor([[[[0.0, float("nan"), 1.0]]]]), "1 of its values are NaN"),
        (torch.full((1, 2, 2, 3), -1.0), "from -1 to -1"),
        (torch.full((1, 2, 2, 3), 255.0), "from 255 to 255"),
    ],
)
def test_what_is_no_picture_is_refused(images, words):
    with pytest.raises(EmuEditError, match="the input: .*" + words) as told:
        check_images(images, "the input")
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


def test_a_picture_passes_with_its_overshoot_and_as_float32():
    x = torch.rand(2, 3, 4, 3) * 1.1 - 0.05
    assert check_images(x, "x") is x
    assert check_images(x.to(torch.bfloat16), "x").dtype == torch.float32


def test_masks_fit_by_batch_and_size():
    mask = torch.zeros(1, 32, 48)
    mask[:, :, 24:] = 1
    fitted = fit_mask(mask, 3, 64, 96)
    assert fitted.shape == (3, 64, 96) and fitted.dtype == torch.float32
    assert bool((fitted[:, :, :46] == 0).all()) and bool((fitted[:, :, 50:] == 1).all())
    assert torch.equal(fit_mask(mask[0], 1, 32, 48), mask)
    assert torch.equal(fit_mask(mask.bool(), 2, 32, 48), mask.expand(2, 32, 48))
    assert fit_mask(torch.rand(1, 33, 50), 1, 330, 495).shape == (1, 330, 495)  # rounded once, within a pixel


@pytest.mark.parametrize("size", [(256, 333), (77, 100), (200, 260)])
def test_a_mask_that_is_all_white_stays_so_exactly(size):
    assert bool((fit_mask(torch.ones(*size), 1, 100, 130) == 1).all())


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.rand(1, 1, 8, 12), "batch, height, width"),
        ([[0, 1]], "got list"),
        (torch.zeros(1, 8, 12, dtype=torch.uint8), "divide 8-bit"),
        (torch.full((8, 12), float("nan")), "NaN"),
        (torch.full((8, 12), 255.0), "0..1"),
        (torch.full((8, 12), -0.5), "0..1"),
        (torch.rand(3, 8, 12), "3 masks for 2 pictures"),
        (torch.rand(1, 12, 8), "8x12 pixels have other proportions than the picture's 120x80"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, words):
    with pytest.raises(EmuEditError, match=words) as told:
        fit_mask(mask, 2, 80, 120)
    assert "\n" not in str(told.value)


def test_a_file_comes_back_exactly(tmp_path):
    levels = torch.randint(0, 256, (1, 7, 9, 3), generator=torch.Generator().manual_seed(0))
    picture = levels / 255.0
    for name in ("a.png", "b.bmp", "c.tiff", "D.PNG"):
        assert save_picture(tmp_path / name, picture) == tmp_path / name
        assert torch.equal(load_picture(tmp_path / name), picture)
    save_picture(tmp_path / "lossy.jpg", picture)
    assert load_picture(tmp_path / "lossy.jpg").shape == picture.shape
    save_picture(tmp_path / "mask.png", picture[0, ..., 0])
    assert torch.equal(load_mask(tmp_path / "mask.png"), picture[..., 0])


def test_transparency_palettes_grey_and_deep_grey(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert torch.equal(load_picture(tmp_path / "clear.png"), torch.ones(1, 2, 2, 3))
    Image.new("RGB", (2, 2), (0, 255, 0)).quantize(4).save(tmp_path / "palette.png")
    assert load_picture(tmp_path / "palette.png")[0, 0, 0].tolist() == [0, 1, 0]
    Image.new("L", (2, 2), 51).save(tmp_path / "grey.png")
    assert torch.allclose(load_picture(tmp_path / "grey.png"), torch.tensor(0.2))
    Image.fromarray(np.full((2, 2), 32768, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert torch.allclose(load_picture(tmp_path / "deep.png"), torch.tensor(0.5), atol=1e-4)


def test_turned_photographs_come_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    Image.new("RGB", (8, 4), (9, 9, 9)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_picture(tmp_path / "turned.jpg").shape == (1, 8, 4, 3)


def test_colour_profiles(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (2, 2), (200, 30, 77)).save(tmp_path / "srgb.png", icc_profile=srgb)
    assert (load_picture(tmp_path / "srgb.png")[0, 0, 0] * 255).tolist() == pytest.approx([200, 30, 77])
    Image.new("RGB", (2, 2), (200, 30, 77)).save(tmp_path / "broken.png", icc_profile=b"nonsense")
    assert (load_picture(tmp_path / "broken.png")[0, 0, 0] * 255).tolist() == pytest.approx([200, 30, 77])


def test_unreadable_files_are_told(tmp_path):
    with pytest.raises(EmuEditError, match="does not exist"):
        load_picture(tmp_path / "none.png")
    with pytest.raises(EmuEditError, match="is a folder"):
        load_picture(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(EmuEditError, match="cannot be read"):
        load_picture(tmp_path / "text.png")
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    for cut in (40, len(whole.getvalue()) // 2):
        (tmp_path / "cut.png").write_bytes(whole.getvalue()[:cut])
        with pytest.raises(EmuEditError, match="cannot be read"):
            load_picture(tmp_path / "cut.png")
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    with pytest.raises(EmuEditError, match="mask: .*transparent"):
        load_mask(tmp_path / "clear.png")


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    target = save_picture(tmp_path / "out.png", torch.zeros(4, 4, 3))
    before = target.read_bytes()

    def half(self, file, *arguments, **options):
        file.write_bytes(b"half a pic")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(EmuEditError, match="could not be written"):
        save_picture(target, torch.ones(4, 4, 3))
    assert target.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_places_that_cannot_be_written_are_told_beforehand(tmp_path):
    assert check_output(tmp_path / "new.webp") == tmp_path / "new.webp"
    for path, words in (
        (tmp_path / "x.txt", "does not end in a picture"),
        (tmp_path / "noname", "does not end in a picture"),
        (tmp_path / "missing" / "x.png", "does not exist"),
    ):
        with pytest.raises(EmuEditError, match=words):
            check_output(path)
    (tmp_path / "dir.png").mkdir()
    with pytest.raises(EmuEditError, match="is a folder"):
        check_output(tmp_path / "dir.png")


def test_only_one_picture_makes_a_file(tmp_path):
    with pytest.raises(EmuEditError, match="expected one"):
        save_picture(tmp_path / "x.png", torch.rand(2, 4, 4, 3))
    assert to_pil(torch.tensor([[[0.0, 0.499 / 255, 0.501 / 255]]])).getpixel((0, 0)) == (0, 0, 1)


@pytest.mark.parametrize("size", [(8, 8), (8, 16), (24, 8), (1, 64)])
def test_filling_a_size_keeps_proportions_and_the_middle(size):
    ramp = torch.linspace(0, 1, 48)[None, None, :, None].expand(1, 32, 48, 3)
    filled = fill_size(ramp, *size)
    assert filled.shape == (1, *size, 3)
    assert float(filled.mean()) == pytest.approx(0.5, abs=0.02)
    step = float(filled[0, 0, -1, 0] - filled[0, 0, 0, 0]) / max(1, size[1] - 1)
    assert step == pytest.approx(min(32 / size[0], 48 / size[1]) / 47, rel=0.1)
