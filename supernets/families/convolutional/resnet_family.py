"""An elastic ResNet of bottleneck blocks: elastic depth, widths, bottlenecks, stem and resolution."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from supernets.families.convolutional.convolutional_family import Backbone, ConvNormAct, ConvolutionalFamily, conv_norm
from supernets.families.convolutional.convolutional_spec import make_divisible
from supernets.families.convolutional.resnet_spec import BottleneckStage, ResNetSpec, bottleneck
from supernets.space import Architecture, Option
from supernets.space.axes import Axes, NamedDims, full_sizes


class Bottleneck(nn.Module):
    """Reduce by a 1x1 convolution, filter by a 3x3 one, expand, add the shortcut, ReLU.

    Args:
        project: whether the shortcut is an average pooling of the stride and a 1x1 convolution (arXiv 1812.01187), and not
            the input itself.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, stride: int, project: bool) -> None:
        super().__init__()
        self.reduce = ConvNormAct(inputs, hidden, 1)
        self.filter = ConvNormAct(hidden, hidden, 3, stride=stride)
        self.expand = nn.Sequential(conv_norm(hidden, outputs, 1))
        self.shortcut: nn.Module = nn.Identity()
        if project:
            pool: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AvgPool2d(stride)) if stride > 1 else OrderedDict()
            self.shortcut = nn.Sequential(pool | conv_norm(inputs, outputs, 1))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.expand(self.filter(self.reduce(x))) + self.shortcut(x)))


class Bottlenecks(Backbone):
    """Stages of bottlenecks, of which `BottleneckStage`s give the dimensions.

    The first block of a stage changes the width and has a projection for a shortcut; the others keep it and have none. So
    any number of blocks may be dropped from a stage's end.
    """

    elastic = ("expand",)
    stages: Sequence[BottleneckStage]

    def dims(self, layer: str, width: str, axes: Axes) -> Mapping[str, NamedDims]:
        hidden: NamedDims = (f"{layer}.hidden", ...)
        return {"reduce.conv.weight": hidden, "filter.conv.weight": hidden, "expand.conv.weight": (width, ...)}

    def add_block_sizes(
        self, sizes: dict[str, Option], layer: str, stage: BottleneckStage, inputs: int, width: int
    ) -> None:
        sizes[f"{layer}.hidden"] = bottleneck(width, cast(float, sizes.pop(f"{layer}.expand")))

    def block(
        self, sizes: Mapping[str, int], layer: str, stage: BottleneckStage, inputs: int, *, first: bool
    ) -> nn.Module:
        width, stride = sizes[f"{layer.partition('.')[0]}.width"], stage.stride if first else 1
        return Bottleneck(inputs, sizes[f"{layer}.hidden"], width, stride=stride, project=first)


class ResNet(nn.Module):
    """Stem, stages of bottlenecks, global average and a classifier: (n, c, h, w) -> (n, classes)."""

    def __init__(self, stem: nn.Module, stages: nn.Sequential, classifier: nn.Module) -> None:
        super().__init__()
        self.stem, self.stages, self.classifier = stem, stages, classifier

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.stages(self.stem(x)).mean((2, 3))))


class ResNetFamily(ConvolutionalFamily):
    """The family of all networks that a `ResNetSpec` spans: ResNet-50's (arXiv 1512.03385) in its variant D (1812.01187).

    The preset ``ofa-resnet50`` is the space of Once-for-All (arXiv 1908.09791), as its authors published it. Departures:
    the stem always has three convolutions, where theirs may leave out the second, which has a skip; the bottleneck's
    channels are a share of the block's own width; and resolutions are those that every stride divides.

    Raises:
        SpaceError: the images are too small for the strides, or not divided by them.
    """

    name = "resnet"
    spec_type = ResNetSpec
    spec: ResNetSpec

    @cached_property
    def backbone(self) -> Bottlenecks:
        """The stages of the networks."""
        return Bottlenecks(self.spec.stages)

    def named_dims(self) -> Mapping[str, NamedDims]:
        stem: dict[str, NamedDims] = {f"stem.{layer}.conv.weight": ("stem.inner", ...) for layer in ("first", "second")}
        return {**super().named_dims(), **stem, "stem.third.conv.weight": ("stem.width", ...)}

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        sizes = self.options(architecture)
        stem = cast(int, sizes["stem.width"])
        sizes["stem.inner"] = _inner(stem)
        self.backbone.add_sizes(sizes, stem)
        return cast("dict[str, int]", sizes)

    def template(self) -> nn.Module:
        sizes = full_sizes(self.axes)
        stem = self._stem(sizes["stem.width"])
        stages = self.backbone.modules(sizes, sizes["stem.width"])
        width = sizes[f"stage{len(self.spec.stages) - 1}.width"]
        return ResNet(self.with_resizing(stem), stages, nn.Linear(width, self.n_classes))

    def _stem(self, width: int) -> nn.Sequential:
        inner = _inner(width)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            first=ConvNormAct(self.channels, inner, 3, stride=self.spec.stem_stride),
            second=ConvNormAct(inner, inner, 3),
            third=ConvNormAct(inner, width, 3),
        )
        if self.spec.stem_pool:
            layers["pool"] = nn.MaxPool2d(3, 2, padding=1)
        return nn.Sequential(layers)


def _inner(stem: int) -> int:
    return make_divisible(stem / 2)
