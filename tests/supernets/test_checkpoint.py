"""An optimiser's state as tensors by name, and back."""

from __future__ import annotations

import torch
from torch import nn

from supernets.base import channels_last
from supernets.checkpoint import load_optimizer_tensors, optimizer_tensors

NAMES = ["weight", "bias"]


def optimizer_of(layer: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)


def step(layer: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> None:
    optimizer.zero_grad()
    layer(images).square().sum().backward()
    optimizer.step()


def test_what_was_saved_goes_on_to_the_same_weights_whatever_the_layout() -> None:
    """A kernel of several channels lies in memory channels last; its moments are saved in the plain layout."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 8, generator=generator)
    layer = channels_last(nn.Conv2d(3, 4, 3))
    optimizer = optimizer_of(layer)
    step(layer, optimizer, images)
    came = channels_last(nn.Conv2d(3, 4, 3))
    came.load_state_dict(layer.state_dict())
    resumed = optimizer_of(came)
    load_optimizer_tensors(resumed, NAMES, optimizer_tensors(optimizer, NAMES))
    for _ in range(2):
        step(layer, optimizer, images)
        step(came, resumed, images)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(came.state_dict()[name], tensor), name
