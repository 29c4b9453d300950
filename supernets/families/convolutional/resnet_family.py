"""An elastic ResNet of bottleneck blocks: elastic depth, widths, bottlenecks, stem and resolution."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from supernets.families.convolutional.convolutional_family import ConvNormAct, ConvolutionalFamily, conv_norm
from supernets.families.convolutional.convolutional_spec import make_divisible
from supernets.families.convolutional.resnet_spec import ResNetSpec, bottleneck
from supernets.families.shared.spec_family import Stack
from supernets.space import Architecture
from supernets.space.axes import NamedDims, full_sizes


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


class ResNet(nn.Module):
    """Stem, stages of bottlenecks, global average and a classifier: (n, c, h, w) -> (n, classes)."""

    def __init__(self, stem: nn.Module, stages: list[list[Bottleneck]], classifier: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.stages(self.stem(x)).mean((2, 3))))


class ResNetFamily(ConvolutionalFamily):
    """The family of all networks that a `ResNetSpec` spans: ResNet-50's (arXiv 1512.03385) in its variant D (1812.01187).

    The first block of a stage changes the width and has a projection for a shortcut; the others keep it and have none. So
    any number of blocks may be dropped from a stage's end.

    The preset ``ofa-resnet50`` is the space of Once-for-All (arXiv 1908.09791), as its authors published it. Departures:
    the stem always has three convolutions, where theirs may leave out the second, which has a skip; the bottleneck's
    channels are a share of the block's own width; and resolutions are those that every stride divides.

    Raises:
        SpaceError: the images are too small for the strides, or not divided by them.
    """

    name = "resnet"
    spec_type = ResNetSpec
    elastic = ("expand",)
    spec: ResNetSpec

    def named_dims(self) -> Mapping[str, NamedDims]:
        stem: dict[str, NamedDims] = {f"stem.{layer}.conv.weight": ("stem.inner", ...) for layer in ("first", "second")}
        return {**super().named_dims(), **stem, "stem.third.conv.weight": ("stem.width", ...)}

    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        hidden: NamedDims = (f"{layer}.hidden", ...)
        width = stack.choice("width").name
        return {"reduce.conv.weight": hidden, "filter.conv.weight": hidden, "expand.conv.weight": (width, ...)}

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        sizes = self.options(architecture)
        sizes["stem.inner"] = _inner(cast(int, sizes["stem.width"]))
        for stack in self.stacks:
            width = cast(int, sizes[stack.choice("width").name])
            for layer in stack.layers:
                sizes[f"{layer}.hidden"] = bottleneck(width, cast(float, sizes.pop(f"{layer}.expand")))
        return cast("dict[str, int]", sizes)

    def template(self) -> nn.Module:
        sizes = full_sizes(self.axes)
        inputs = sizes["stem.width"]
        stem = self._stem(inputs)
        stages: list[list[Bottleneck]] = []
        for s, stage in enumerate(self.spec.stages):
            width = sizes[f"stage{s}.width"]
            stages.append([])
            for b in range(stage.depth[-1]):
                hidden, stride = sizes[f"stage{s}.block{b}.hidden"], stage.stride if b == 0 else 1
                stages[-1].append(Bottleneck(inputs, hidden, width, stride=stride, project=b == 0))
                inputs = width
        return ResNet(self.with_resizing(stem), stages, nn.Linear(inputs, self.n_classes))

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
