"""Images of another size, their pixels where ONNX runtimes find them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary


def onnx_scale(old: int, side: int) -> np.float32:
    """What ONNX's ``Resize`` multiplies a side by: rounded up, since the new side is the product rounded down."""
    scale = np.float32(side / old)
    return scale if float(scale) * old >= side else np.nextafter(scale, np.float32(np.inf))


def resize(x: Tensor, side: int) -> Tensor:
    """Images of `side` pixels either way: bilinear, half-pixel centres, no antialiasing.

    It is ``functional.interpolate`` but for the last bits of the coordinates: these are divided by a rounded scale, as the
    definition of ONNX's ``Resize`` says, where torch multiplies. At 224 pixels the two are up to 3e-5 of a pixel apart, and
    images of noise some 1e-4 of their spread.

    A torch function like those of torch: `supernets.graph` finds a call of it in a trace.

    Args:
        x: (n, channels, height, width).
    """
    if has_torch_function_unary(x):
        return handle_torch_function(resize, (x,), x, side)
    x = torch.lerp(*_neighbours(x, side, 2))
    return torch.lerp(*_neighbours(x, side, 3))


def _neighbours(x: Tensor, side: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two nearest pixels along a dimension for each new one, and the share of the second."""
    old = x.shape[dim]
    centres = torch.arange(side, dtype=torch.float32, device=x.device) + 0.5
    at = (centres / float(onnx_scale(old, side)) - 0.5).clamp(0, old - 1)
    low = at.long()
    high, share = (low + 1).clamp(max=old - 1), (at - low).to(x.dtype)
    if dim == 2:
        return x.index_select(2, low), x.index_select(2, high), share[:, None]
    return x[..., low], x[..., high], share  # faster than index_select where neighbours in memory are taken
