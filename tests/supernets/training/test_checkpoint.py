"""The files of a checkpoint, and the optimiser's state as tensors by name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

from supernets.networks.live_subnets import channels_last
from supernets.training.checkpoint import load_optimizer_tensors, optimizer_tensors, write_files
from tests.errors import raises
from tests.full_disk import files_of_at_most


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_get_the_permissions_of_new_files(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_files(tmp_path / "checkpoint", [("weights-0001.safetensors", b"w"), ("checkpoint.json", b"{}")])
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "checkpoint").iterdir()}
    assert modes == dict.fromkeys(("weights-0001.safetensors", "checkpoint.json"), 0o666 & ~umask)


def test_a_checkpoint_that_cannot_be_written_leaves_the_previous_one(tmp_path: Path) -> None:
    previous = [("weights-0001.safetensors", b"w"), ("checkpoint.json", b"{}")]
    write_files(tmp_path, previous)
    with files_of_at_most(1000), raises("checkpoint.unwritable", str(tmp_path), "File too large"):
        write_files(tmp_path, [("weights-0002.safetensors", bytes(2000)), ("checkpoint.json", b"{}")])
    assert {(file.name, file.read_bytes()) for file in tmp_path.iterdir()} == set(previous)


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
