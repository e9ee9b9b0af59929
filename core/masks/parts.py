"""Connected parts as plain tensor operations, so that masks on a graphics card need not visit the host.

Boruvka's algorithm (1926) on the graph of runs: to begin with, each run of white pixels in a row is a part of
its own; in every round each part joins the neighbour that its edge of least number leads to, and chains of
parts that joined each other are shortened by pointer jumping (Shiloach and Vishkin 1982). Edges have numbers
of their own, so that only pairs can choose each other, and the parts of what hangs together are at least
halved: the count of rounds is known beforehand, and nothing has to be looked at to decide whether to go on.

On the host scipy.ndimage is quicker (components.py).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_AT_ONCE = 1 << 24  # pixels: bounds the memory to some 200 bytes for each


def first_pixels(white: Tensor, corners: bool) -> Tensor:
    """Bool [B,H,W] -> int64 [B,H*W]: for each white pixel the index (row by row) of the first one that hangs
    together with it, at the sides or also at the corners; for a black one its own.
    """
    planes = max(1, _AT_ONCE // max(1, white[0].numel()))
    return torch.cat([_first_pixels(some, corners) for some in white.split(planes)])


def number(white: Tensor, corners: bool) -> Tensor:
    """Bool [B,H,W] -> int64 [B,H,W]: 0 = black, 1, 2, ... in the order of the parts' first pixels."""
    root, flat = first_pixels(white, corners), white.flatten(1)
    own = torch.arange(flat.shape[1], device=white.device)
    numbers = ((root == own) & flat).cumsum(dim=1)
    return torch.where(flat, numbers.gather(1, root), 0).view(white.shape)


def small_parts(inside: Tensor, counted: Tensor, corners: bool, least: int, enclosed: bool) -> Tensor:
    """Where, bool [B,H,W], the parts of `inside` hold fewer than `least` pixels of `counted`.

    enclosed: only parts that do not touch the picture's edge.
    """
    root = first_pixels(inside, corners)
    areas = torch.zeros_like(root).scatter_add_(1, root, (inside & counted).flatten(1).to(root))
    chosen = areas < least
    if enclosed:
        edge = inside.clone()
        edge[:, 1:-1, 1:-1] = False
        touched = torch.zeros_like(root).scatter_add_(1, root, edge.flatten(1).to(root))
        chosen &= touched == 0
    return inside & chosen.gather(1, root).view(inside.shape)


def _first_pixels(white: Tensor, corners: bool) -> Tensor:
    batch, height, width = white.shape
    count, device = white.numel(), white.device
    own = torch.arange(count, device=device)
    places = own.view(batch, height, width)
    begins = white.clone()
    begins[:, :, 1:] &= ~white[:, :, :-1]
    runs = torch.where(begins, places, -1).cummax(dim=2).values
    part = torch.where(white, runs, places)  # of each pixel, named by one of its pixels
    edges = _edges(white, places, corners)
    sideways = torch.tensor([0, -1, 1], device=device)
    most = height * (-(-width // 2))  # runs in one picture
    for step in range(math.ceil(math.log2(most)) if most > 1 else 0):
        best = torch.full_like(own, 3 * count)
        for lower, upper, names in edges:
            here, there = part[lower].reshape(-1), part[upper].reshape(-1)
            usable = torch.where(here != there, names, 3 * count)
            best.scatter_reduce_(0, here, usable, "amin").scatter_reduce_(0, there, usable, "amin")
        found = best < 3 * count
        best = torch.where(found, best, 0)
        pixel = best // 3
        ends = part.view(-1)[pixel], part.view(-1)[(pixel - width + sideways[best % 3]).clamp(min=0)]
        other = torch.where(found, torch.where(ends[0] == own, ends[1], ends[0]), own)
        parent = torch.where((other[other] == own) & (own < other), own, other)
        for _ in range(math.ceil(math.log2(most)) - step):
            parent = parent[parent]
        part = parent[part]
    first = torch.full_like(own, count).scatter_reduce_(0, part.view(-1), own, "amin")
    offset = torch.arange(batch, device=device)[:, None] * (height * width)
    return first[part.view(batch, -1)] - offset


def _edges(white: Tensor, places: Tensor, corners: bool) -> list[tuple[tuple, tuple, Tensor]]:
    """For each direction upwards: slices of the lower and of the upper pixels, and the edges' numbers [N],
    3 for each pixel, where both are white, otherwise the largest."""
    every, low, high = slice(None), slice(1, None), slice(None, -1)
    ways = [(every, every), (low, high), (high, low)] if corners else [(every, every)]
    edges = []
    for way, (x, above) in enumerate(ways):
        lower, upper = (every, low, x), (every, high, above)
        both = white[lower] & white[upper]
        names = torch.where(both, 3 * places[lower] + way, 3 * white.numel())
        edges.append((lower, upper, names.reshape(-1)))
    return edges
