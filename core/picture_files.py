"""Picture files: read as tensors that the rest understands, written whole or not at all. Needs Pillow."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import EmuEditError
from .weights import replacing


def load_picture(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture file -> float32 [1,H,W,3] in 0..1: upright (EXIF), sRGB, flattened on white."""
    return _read(path, "picture")[0]


def load_mask(path: str | os.PathLike[str]) -> Tensor:
    """Read a mask file -> float32 [1,H,W]: white (1) where the picture may change, black (0) where not.

    A mask with transparency is refused, because programs disagree on whether clear means change or keep.
    """
    mask, transparent = _read(path, "mask")
    if transparent:
        raise EmuEditError(
            f"mask: {Path(path)} is partly transparent, which says two things at once; flatten it to white "
            "where the picture may change and black elsewhere."
        )
    return mask.amax(dim=-1)  # a red or yellow brush means change too


def _read(path: str | os.PathLike[str], what: str) -> tuple[Tensor, bool]:
    """The picture [1,H,W,3] and whether any of its pixels was transparent; `what` names it in sentences."""
    from PIL import Image, ImageOps

    file = Path(path)
    if not file.is_file():
        problem = "is a folder, not a picture file" if file.is_dir() else "does not exist"
        raise EmuEditError(f"{what}: {file} {problem}; give the path of a PNG, JPEG or WebP file.")
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as damage:
        # Pillow tells broken PNG chunks by SyntaxError and other damage by OSError or ValueError.
        reason = f"{what}: {file} cannot be read ({damage}); save it again as PNG or JPEG."
        raise EmuEditError(reason) from damage
    transparent = False
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        grey = np.asarray(picture, dtype=np.float32) / (1.0 if picture.mode == "F" else 65535.0)
        array = np.repeat(np.clip(grey, 0.0, 1.0)[..., None], 3, axis=-1)
    else:
        profile = picture.info.get("icc_profile")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            transparent = bool((np.asarray(picture.getchannel("A")) < 255).any())
            white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            picture = Image.alpha_composite(white, picture).convert("RGB")
        array = np.asarray(_to_srgb(picture, profile), dtype=np.float32) / 255.0
    return torch.from_numpy(np.ascontiguousarray(array))[None], transparent


def _to_srgb(picture, profile: bytes | None):
    """An RGB picture in sRGB: an embedded wide-gamut or CMYK profile is applied, a broken one ignored."""
    from PIL import ImageCms

    if picture.mode not in ("RGB", "CMYK"):
        return picture.convert("RGB")
    plain = picture.convert("RGB")
    if not profile:
        return plain
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return plain  # a conversion to itself would only round
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError):
        return plain
    return plain if converted is None else converted


def to_pil(image: Tensor):
    """One picture [H,W,3] or [1,H,W,3], or one mask [H,W], in 0..1 -> an 8-bit PIL image (rounded)."""
    from PIL import Image

    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)):
        raise EmuEditError(
            f"picture to save: expected one [height, width, 3], got shape {list(image.shape)}; pick one."
        )
    levels = (image.detach().to("cpu", torch.float32).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.numpy())


def check_output(path: str | os.PathLike[str]) -> Path:
    """The path if a picture can be written there, else a sentence: call it before long work, not after."""
    from PIL import Image

    file = Path(path)
    formats = Image.registered_extensions()
    if formats.get(file.suffix.lower()) not in Image.SAVE:
        raise EmuEditError(
            f"output: {file.name!r} does not end in a picture format's name; use .png, .jpg or .webp."
        )
    if file.is_dir():
        raise EmuEditError(f"output: {file} is a folder; give the path of the picture file to write.")
    if not file.parent.is_dir():
        raise EmuEditError(f"output: the folder {file.parent} does not exist; make it first.")
    if not os.access(file.parent, os.W_OK):
        raise EmuEditError(f"output: the folder {file.parent} cannot be written to; choose another.")
    return file


def check_apart(outputs: Mapping[str, str | os.PathLike[str] | None], inputs: Sequence[Any] = ()) -> None:
    """Refuse two outputs in one file, or an output over one of `inputs`: one of the two would be lost.

    outputs: option -> path or None. The paths are compared as the file system resolves them.
    """
    taken = {Path(path).resolve(): "an input" for path in inputs if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        other = taken.get(Path(path).resolve())
        if other is not None:
            raise EmuEditError(f"{option}: {path} is {other} too and would be lost; give another name.")
        taken[Path(path).resolve()] = option


def save_picture(path: str | os.PathLike[str], image: Tensor) -> Path:
    """Write one picture [H,W,3], [1,H,W,3] or mask [H,W] (0..1) in the format of the name; return its path.

    Whole or not at all: it is written beside the target and then moved over it, so that an interruption never
    leaves half a picture nor spoils an earlier one.
    """
    from PIL import Image

    file = check_output(path)
    picture = to_pil(image)
    kind = Image.registered_extensions()[file.suffix.lower()]
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    with replacing(file) as part:
        picture.save(part, format=kind, **options)
    return file
