"""Correctness of a network's predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.data import Part, by_length


@torch.no_grad()
def correct_predictions(module: nn.Module, part: Part, *, batch_size: int = 500) -> Tensor:
    """Whether the network's largest output is the label's, as one bool per example, (n,), in the part's order.

    Args:
        module: an extracted, recalibrated one; set to eval mode.
    """
    module.eval()
    hits = torch.zeros(len(part), dtype=torch.bool)
    for chosen, inputs in by_length(part, batch_size):
        hits[chosen] = module(inputs).argmax(1) == part.labels[chosen]
    return hits
