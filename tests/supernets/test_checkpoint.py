"""The optimiser's state as tensors by name, and its restoration."""

from __future__ import annotations

import torch
from torch import nn

from supernets.base import channels_last
from supernets.checkpoint import load_optimizer_tensors, optimizer_tensors


def optimizer_of(layer: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(layer.named_parameters(), lr=0.1, fused=True)


def step(layer: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor) -> None:
    optimizer.zero_grad()
    layer(images).square().sum().backward()
    optimizer.step()


def test_restored_optimisers_make_the_same_steps_in_any_layout() -> None:
    """Kernels are stored channels last, and their moments are saved in the contiguous layout."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 8, generator=generator)
    layer = channels_last(nn.Conv2d(3, 4, 3))
    optimizer = optimizer_of(layer)
    step(layer, optimizer, images)
    restored = channels_last(nn.Conv2d(3, 4, 3))
    restored.load_state_dict(layer.state_dict())
    resumed = optimizer_of(restored)
    load_optimizer_tensors(resumed, optimizer_tensors(optimizer))
    for _ in range(2):
        step(layer, optimizer, images)
        step(restored, resumed, images)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(restored.state_dict()[name], tensor), name
