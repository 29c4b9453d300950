"""`supernets.families.convolutional`: resizing against matrices, squeeze-and-excitation against its formula."""

from __future__ import annotations

import pytest
import torch

from supernets.families.convolutional.convolutional_family import Resize, SqueezeExcite
from supernets.families.convolutional.convolutional_spec import make_divisible
from tests.supernets.families import by_hand


@pytest.mark.parametrize("side", [5, 8, 12, 27, 28, 40])
def test_resizing_is_bilinear_with_centres_at_halves(side: int) -> None:
    x = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Resize(28, side)(x), by_hand.resized(x, side), rtol=0, atol=2e-5)


def test_the_size_of_the_data_is_left_alone() -> None:
    x = torch.randn(1, 1, 8, 8)
    assert Resize(8, 8)(x) is x


def test_squeeze_and_excitation_weighs_channels_by_their_means() -> None:
    torch.manual_seed(0)
    module = SqueezeExcite(6, 8)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=2)
    x = torch.randn(4, 6, 5, 5) + torch.randn(4, 6, 1, 1)
    hidden = torch.relu(x.mean((2, 3)) @ module.reduce.weight[:, :, 0, 0].T + module.reduce.bias)
    gates = by_hand.hard_sigmoid(hidden @ module.expand.weight[:, :, 0, 0].T + module.expand.bias)
    assert ((gates > 0) & (gates < 1)).any()
    torch.testing.assert_close(module(x), x * gates[:, :, None, None])


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, 8), (12, 16), (8.8, 8), (11.9, 16), (18, 24), (166.4, 168), (409.6, 408), (64, 64)],
)
def test_channels_are_rounded_to_a_multiple_of_eight_that_loses_no_tenth(channels: float, expected: int) -> None:
    assert make_divisible(channels) == expected
