"""Which images a network classifies rightly."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def correct_predictions(module: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> Tensor:
    """One bool an image, (n,): whether its largest output is its label's.

    Args:
        module: an extracted, recalibrated one; put into eval mode.
        images: (n, c, h, w); labels: (n,).
    """
    module.eval()
    hits = [
        module(images[i : i + batch_size]).argmax(1) == labels[i : i + batch_size]
        for i in range(0, len(images), batch_size)
    ]
    return torch.cat(hits) if hits else torch.zeros(0, dtype=torch.bool)
