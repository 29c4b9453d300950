"""Resizing compared with ONNX Runtime and with bilinear interpolation by matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.networks.module_to_onnx import lower
from supernets.networks.resizing import onnx_scale, resize
from tests.supernets.families import by_hand
from tests.supernets.networks.plain_networks import run


class Resized(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return resize(x, self.side)


def noise(*shape: int) -> Tensor:
    """White noise of standard deviation 1, in which neighbours differ most."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("old", "side"), [(28, 20), (28, 24), (28, 40), (224, 128), (224, 160), (224, 192), (224, 256)]
)
def test_onnx_runtime_gives_the_same_images(old: int, side: int) -> None:
    """The tolerance covers a few roundings. With torch's coordinates, noise of 224 pixels differs by 1e-4."""
    x = noise(2, 3, old, old)
    came = torch.from_numpy(run(lower(Resized(side).eval(), x), x))
    expected = resize(x, side)
    assert came.shape == expected.shape == (2, 3, side, side)
    assert (came - expected).abs().max() <= 3e-6
    if old == 224 and side != 256:
        by_torch = functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        assert (came - by_torch).abs().max() > 3e-5


@pytest.mark.parametrize("side", [1, 5, 27, 28, 29, 97])
def test_it_is_bilinear_with_half_pixel_centres(side: int) -> None:
    x = noise(2, 3, 28, 28)
    torch.testing.assert_close(resize(x, side), by_hand.resized(x, side), rtol=0, atol=2e-5)


def test_the_scale_gives_the_exact_side_in_either_precision() -> None:
    for old in (28, 97, 224):
        for side in range(1, 2 * old):
            scale = onnx_scale(old, side)
            assert int(np.float32(old) * scale) == int(float(old) * float(scale)) == side


def test_sides_of_oblong_images_are_resized_separately() -> None:
    x = noise(1, 2, 12, 20)
    expected = functional.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(x, 16), expected, rtol=0, atol=1e-5)


def test_gradients_reach_the_interpolated_pixels() -> None:
    x = noise(1, 1, 8, 8).requires_grad_()
    resize(x, 4).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.25))
