"""Batches of a part, and random changes to those that train."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from supernets.data.parts import Part


def batches(part: Part, batch_size: int, *, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (n, c, h, w) and labels (n,) of each batch, each example once; the last batch may be smaller.

    Args:
        generator: shuffles; None keeps the part's order and gives views. When shuffling, a rest of one example is left
            out (another one in each epoch), since batch norm learns nothing from one.
    """
    if generator is None:
        yield from zip(part.images.split(batch_size), part.labels.split(batch_size), strict=True)
        return
    for chosen in torch.randperm(len(part), generator=generator).split(batch_size):
        if len(chosen) > 1 or batch_size == 1:
            yield part.images[chosen], part.labels[chosen]


def augment(images: Tensor, generator: torch.Generator, *, flip: bool, pad: int) -> Tensor:
    """The images, each shifted by up to `pad` pixels both ways and, with `flip`, mirrored half of the time.

    What a shift uncovers takes the colour of the nearest pixel of the edge: images are normalised, so zeros would not
    be their background.

    Args:
        images: (n, c, h, w), unchanged.
        pad: at least 0.

    Returns:
        (n, c, h, w).
    """
    n, c, h, w = images.shape
    shifts = torch.randint(-pad, pad + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(h) + shifts[0]).clamp_(0, h - 1)
    columns = (torch.arange(w) + shifts[1]).clamp_(0, w - 1)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, w - 1 - columns, columns)
    pixels = (rows[:, :, None] * w + columns[:, None, :]).reshape(n, 1, h * w)
    return images.reshape(n, c, h * w).gather(2, pixels.expand(n, c, h * w)).view(n, c, h, w)
