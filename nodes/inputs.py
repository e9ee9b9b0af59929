"""What ComfyUI's own nodes put on a wire that means something else than it says: blank masks, idle alpha."""

from __future__ import annotations

from torch import Tensor


def is_stand_in(mask: Tensor) -> bool:
    """Whether this is what Load Image gives for a picture without alpha: 64x64 pixels of 0."""
    return mask.shape[-2:] == (64, 64) and not bool(mask.any())


def drawn(mask: Tensor | None, images: Tensor) -> Tensor | None:
    """The mask, or None where it is only the stand-in for "no mask".

    On pictures [B,H,W,C] of that very size a blank mask is taken at its word.
    """
    if mask is None or images.shape[1:3] == (64, 64) or not is_stand_in(mask):
        return mask
    return None


def opaque(images: Tensor) -> Tensor:
    """Without an alpha channel that says nothing because it is 1 everywhere; others are left to be
    refused.
    """
    four = isinstance(images, Tensor) and images.ndim == 4 and images.shape[-1] == 4
    return images[..., :3] if four and bool((images[..., 3] == 1).all()) else images
