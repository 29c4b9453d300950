"""Base of the convolutional families: their layers, stages of elastic depth and width, and perhaps an elastic resolution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.families.convolutional.convolutional_spec import Activation
from supernets.families.shared.spec_family import ImageFamily, Stack, StackedFamily
from supernets.networks.resizing import resized
from supernets.space import Choice, Option
from supernets.space.axes import Axes, Axis, NamedDims

RESOLUTION = "resolution"
"""The choice, and the axis, of the pixels of an image's side."""


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


class Backbone(ABC):
    """The stages of blocks between the stem of a network and its head, of one kind of block.

    Args:
        stages: The spec of each stage, with its stride, depth and width and the `elastic` dimensions of its blocks.
    """

    elastic: ClassVar[tuple[str, ...]]
    """Dimensions of a stage that each of its blocks chooses."""

    def __init__(self, stages: Sequence[Any]) -> None:
        self.stages = stages

    def stack(self, s: int, *, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Stack:
        """The blocks of a stage with their choices.

        Args:
            s: Index of the stage.
            before, after: Names of the network's blocks before and after those of the stage.
        """
        stage = self.stages[s]
        choices = Choice(f"stage{s}.depth", stage.depth), Choice(f"stage{s}.width", stage.width)
        options = {name: getattr(stage, name) for name in self.elastic}
        return Stack(choices, f"stages.{s}", f"stage{s}.block", options, before, after)

    def add_sizes(self, sizes: dict[str, Option], inputs: int) -> None:
        """Replaces the options of blocks that are ratios by the numbers of channels that they give, in place.

        Args:
            sizes: The option of each choice but the depths, by name.
            inputs: Channels that the first stage reads.
        """
        for s, stage in enumerate(self.stages):
            width = cast(int, sizes[f"stage{s}.width"])
            for b in range(stage.depth[-1]):
                self.add_block_sizes(sizes, f"stage{s}.block{b}", stage, inputs, width)
                inputs = width

    def modules(self, sizes: Mapping[str, int], inputs: int) -> nn.Sequential:
        """The stages of the largest network, each a Sequential of its blocks.

        Args:
            sizes: The sizes of the axes, by name.
            inputs: Channels that the first stage reads.
        """
        stages = nn.Sequential()
        for s, stage in enumerate(self.stages):
            width, blocks = sizes[f"stage{s}.width"], nn.Sequential()
            for b in range(stage.depth[-1]):
                blocks.append(self.block(sizes, f"stage{s}.block{b}", stage, inputs, first=b == 0))
                inputs = width
            stages.append(blocks)
        return stages

    @abstractmethod
    def dims(self, layer: str, width: str, axes: Axes) -> Mapping[str, NamedDims]:
        """Dimensions of tensors of a block, by their names in its module.

        Args:
            layer: Beginning of the names of its axes.
            width: Name of the axis of its outputs.
            axes: The axes of the family.
        """

    @abstractmethod
    def add_block_sizes(self, sizes: dict[str, Option], layer: str, stage: Any, inputs: int, width: int) -> None:
        """Replaces the ratios of one block, as `add_sizes`.

        Args:
            sizes: The options, which are changed.
            layer: Beginning of the names of the block's options.
            stage: The spec of its stage.
            inputs: Channels that it reads.
            width: Channels that it returns.
        """

    @abstractmethod
    def block(self, sizes: Mapping[str, int], layer: str, stage: Any, inputs: int, *, first: bool) -> nn.Module:
        """One block of the largest network.

        Args:
            sizes: The sizes of the axes, by name.
            layer: Beginning of the names of its axes.
            stage: The spec of its stage.
            inputs: Channels that it reads.
            first: Whether it is the first block of the stage, which has its stride and changes the width.
        """


class BackboneFamily(StackedFamily, ImageFamily):
    """A space of networks for images with the stages of a `Backbone`; smaller kernels are the middle of larger ones."""

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """The stages of the networks."""

    @cached_property
    def axes(self) -> Axes:
        return {
            name: Axis(name, size, "centre" if name.endswith(".kernel") else "prefix")
            for name, size in self.sizes(self.space.largest).items()
        }

    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        return self.backbone.dims(layer, stack.choice("width").name, self.axes)


class ConvolutionalFamily(BackboneFamily):
    """A space of CNNs of which a `ConvolutionalSpec` gives the dimensions.

    Depth and width are chosen for each stage, the elastic dimensions of the backbone anew for each of its blocks. The depth
    keeps the first blocks of a stage. The resolution, if it is elastic, is the first choice, then the width of the stem.

    Raises:
        SpaceError: the images do not fit the strides.
    """

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes)
        if spec.resolution is None:
            spec.check_side(image_size)
        else:
            self.first_choices += (Choice(RESOLUTION, spec.resolution),)
        if isinstance(spec.stem, tuple):
            self.first_choices += (Choice("stem.width", spec.stem),)
        last = len(self.backbone.stages) - 1
        self.stacks = tuple(
            self.backbone.stack(s, before=("stem",) if s == 0 else (), after=self.after_stages() if s == last else ())
            for s in range(last + 1)
        )

    def after_stages(self) -> tuple[str, ...]:
        """The names of the modules after the stages."""
        return ("classifier",)

    def with_resizing(self, stem: nn.Sequential) -> nn.Sequential:
        """The stem, with a `Resize` before it if the resolution is elastic."""
        if RESOLUTION not in self.axes:
            return stem
        resize = Resize(self.image_size, self.axes[RESOLUTION].size)
        return nn.Sequential(OrderedDict([("resize", resize), *stem.named_children()]))

    def named_dims(self) -> Mapping[str, NamedDims]:
        resize: dict[str, NamedDims] = {} if self.spec.resolution is None else {"stem.resize.pixels": (RESOLUTION,)}
        return {**resize, **super().named_dims()}
