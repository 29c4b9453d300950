"""Bilinear image resizing that agrees with ONNX runtimes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from supernets.networks.own_operations import own_operation


def onnx_scale(old: int, side: int) -> np.float32:
    """The scale for ONNX's ``Resize``, rounded up because the runtime rounds the product with the old side down."""
    scale = np.float32(side / old)
    return scale if float(scale) * old >= side else np.nextafter(scale, np.float32(np.inf))


@own_operation("(Tensor x, int side) -> Tensor")
def resize(x: Tensor, side: int) -> Tensor:
    """Images of `side` pixels either way: bilinear, half-pixel centres, no antialiasing.

    Differs from ``functional.interpolate`` in the last bits of the coordinates: it divides by a rounded scale, as ONNX's
    ``Resize`` is defined, where torch multiplies. At 224 pixels coordinates differ by up to 3e-5 of a pixel, and
    images of noise by about 1e-4 of their standard deviation.

    Args:
        x: (n, channels, height, width).
    """
    x = torch.lerp(*_neighbours(x, side, 2))
    return torch.lerp(*_neighbours(x, side, 3))


@own_operation("(Tensor x, Tensor pixels) -> Tensor")
def resized(x: Tensor, pixels: Tensor) -> Tensor:
    """Images `resize`d to as many pixels either way as a vector has numbers; those of this size as they are."""
    return x if x.shape[2] == len(pixels) else resize(x, len(pixels))


def _neighbours(x: Tensor, side: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two nearest old pixels along a dimension for each new one, and the weight of the second."""
    old = x.shape[dim]
    centres = torch.arange(side, dtype=torch.float32, device=x.device) + 0.5
    at = (centres / float(onnx_scale(old, side)) - 0.5).clamp(0, old - 1)
    low = at.long()
    high, share = (low + 1).clamp(max=old - 1), (at - low).to(x.dtype)
    if dim == 2:
        return x.index_select(2, low), x.index_select(2, high), share[:, None]
    return x[..., low], x[..., high], share  # faster than index_select along the last dimension
