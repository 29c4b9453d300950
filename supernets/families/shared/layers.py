"""Layers that several families are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.families.shared.convolutional_spec import Activation
from supernets.networks.resizing import resized


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    """A padded convolution and a batch norm, for a Sequential."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs))


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "relu",
    ) -> None:
        act = nn.Hardswish(inplace=True) if activation == "hardswish" else nn.ReLU(inplace=True)
        super().__init__(OrderedDict(conv_norm(inputs, outputs, kernel, stride=stride, groups=groups), act=act))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (arXiv 1709.01507) with a hard sigmoid (arXiv 1905.02244)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * functional.hardsigmoid(self.expand(hidden))


class Resize(nn.Module):
    """Square images of `image_size` pixels as ones of `resolution` pixels: bilinear, half-pixel centres, no antialiasing.

    It is the first operation of networks of elastic resolution, so that all of them take images of the data's size: training,
    measuring, calibrating and exporting are the same for every resolution, and latency includes the resizing.

    The resolution is an axis, as widths are, and the length of `pixels`, whose values are never read.
    """

    pixels: Tensor

    def __init__(self, image_size: int, resolution: int) -> None:
        super().__init__()
        self.image_size, self.resolution = image_size, resolution
        self.register_buffer("pixels", torch.arange(resolution))

    def fit(self, weights: Mapping[str, Tensor]) -> None:
        """Sets the resolution to that of sliced weights."""
        self.resolution = weights["pixels"].shape[0]

    def forward(self, x: Tensor) -> Tensor:
        return resized(x, self.pixels)

    def extra_repr(self) -> str:
        return f"{self.image_size} -> {self.resolution}"
