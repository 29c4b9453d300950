"""An elastic MobileNet-style CNN: inverted residuals with elastic depth, width, kernel, expansion and resolution."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from supernets.families.convolutional.convolutional_family import (
    Backbone,
    ConvNormAct,
    ConvolutionalFamily,
    SqueezeExcite,
    conv_norm,
)
from supernets.families.convolutional.convolutional_spec import Activation, make_divisible
from supernets.families.convolutional.mobile_cnn_spec import CNNSpec, StageSpec
from supernets.space import Architecture, Option
from supernets.space.axes import Axes, NamedDims, full_sizes


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project linearly; with a skip if `residual`.

    Args:
        squeeze: hidden channels of a squeeze-and-excitation after the filter; None for none.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        residual: bool,
        squeeze: int | None = None,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.residual = residual
        self.expand = ConvNormAct(inputs, hidden, 1, activation=activation)
        self.filter = ConvNormAct(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation)
        self.squeeze = nn.Identity() if squeeze is None else SqueezeExcite(hidden, squeeze)
        self.project = nn.Sequential(conv_norm(hidden, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.squeeze(self.filter(self.expand(x))))
        return x + out if self.residual else cast(Tensor, out)

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


class InvertedResiduals(Backbone):
    """Stages of inverted residuals, of which `StageSpec`s give the dimensions.

    The first block of a stage changes the width and has no skip; the others keep it and have one. The hidden width of a
    block is its expansion times its input width, so that both axes meet in one: its first units are shared. That of a
    squeeze-and-excitation is a quarter of the block's, rounded to a multiple of 8.
    """

    elastic = ("kernel", "expand")
    stages: Sequence[StageSpec]

    def dims(self, layer: str, width: str, axes: Axes) -> Mapping[str, NamedDims]:
        return inverted_residual_dims(layer, width, axes)

    def add_block_sizes(self, sizes: dict[str, Option], layer: str, stage: StageSpec, inputs: int, width: int) -> None:
        hidden = sizes[f"{layer}.hidden"] = _hidden(cast(float, sizes.pop(f"{layer}.expand")), inputs)
        if stage.squeeze:
            sizes[f"{layer}.squeeze"] = _squeeze(hidden)

    def block(self, sizes: Mapping[str, int], layer: str, stage: StageSpec, inputs: int, *, first: bool) -> nn.Module:
        return InvertedResidual(
            inputs,
            sizes[f"{layer}.hidden"],
            sizes[f"{layer.partition('.')[0]}.width"],
            kernel=sizes[f"{layer}.kernel"],
            stride=stage.stride if first else 1,
            residual=not first,
            squeeze=sizes.get(f"{layer}.squeeze"),
            activation=stage.activation,
        )


def inverted_residual_dims(layer: str, width: str, axes: Axes) -> Mapping[str, NamedDims]:
    """Dimensions of tensors of an inverted residual, by their names in its module, see `Backbone.dims`."""
    kernel = f"{layer}.kernel"
    dims: dict[str, NamedDims] = {
        "expand.conv.weight": (f"{layer}.hidden", ...),
        "filter.conv.weight": (f"{layer}.hidden", 1, kernel, kernel),
        "project.conv.weight": (width, ...),
    }
    return dims | ({"squeeze.reduce.weight": (f"{layer}.squeeze", ...)} if f"{layer}.squeeze" in axes else {})


class MobileCNN(nn.Module):
    """Stem, stages, a 1x1 head, global average, an optional layer and a classifier: (n, c, h, w) -> (n, classes).

    Args:
        stem: Module that takes the images; it begins with their resizing if the resolution is elastic.
        stages: Blocks of each stage, in their order.
        head: Module between the stages and the global average: (n, c, h, w) -> (n, channels, h, w).
        mix: Module between the global average and the classifier: (n, channels) -> (n, channels); the identity for none.
        classifier: Module that gives the logits: (n, channels) -> (n, classes).
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: nn.Sequential,
        head: nn.Module,
        mix: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.stem, self.stages = stem, stages
        self.head, self.mix, self.classifier = head, mix, classifier

    def forward(self, x: Tensor) -> Tensor:
        """The logits of images, (n, classes).

        Args:
            x: Images (n, c, h, w), float32, normalised as the training's.
        """
        features = self.head(self.stages(self.stem(x))).mean((2, 3))
        return cast(Tensor, self.classifier(self.mix(features)))


class MobileCNNFamily(ConvolutionalFamily):
    """The family of all networks that a `CNNSpec` spans: MobileNetV2's (arXiv 1801.04381), or V3's (arXiv 1905.02244).

    Departures from the space of Once-for-All (arXiv 1908.09791, the preset ``ofa``): its first block, of 16 channels, has a
    skip and no expanding convolution; its kernels are transformed (which the sharing does here), and its layer after the
    pooling has no bias.

    Raises:
        SpaceError: the images are too small for the strides.
    """

    name = "mobile-cnn"
    spec_type = CNNSpec
    spec: CNNSpec

    @cached_property
    def backbone(self) -> InvertedResiduals:
        """The stages of the networks."""
        return InvertedResiduals(self.spec.stages)

    def after_stages(self) -> tuple[str, ...]:
        return ("head", "classifier") if self.spec.mix is None else ("head", "mix", "classifier")

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        sizes = self.options(architecture)
        self.backbone.add_sizes(sizes, self.spec.stem)
        return cast("dict[str, int]", sizes)

    def template(self) -> nn.Module:
        spec = self.spec
        sizes = full_sizes(self.axes)
        stages = self.backbone.modules(sizes, spec.stem)
        mix: nn.Module = nn.Identity()
        if spec.mix is not None:
            mix = nn.Sequential(OrderedDict(linear=nn.Linear(spec.head, spec.mix), act=nn.Hardswish(inplace=True)))
        stem = ConvNormAct(self.channels, spec.stem, 3, stride=spec.stem_stride, activation=spec.activation)
        return MobileCNN(
            self.with_resizing(stem),
            stages,
            ConvNormAct(sizes[f"stage{len(spec.stages) - 1}.width"], spec.head, 1, activation=spec.activation),
            mix,
            nn.Linear(spec.mix or spec.head, self.n_classes),
        )


def _hidden(expand: float, inputs: int) -> int:
    return max(1, round(expand * inputs))


def _squeeze(hidden: int) -> int:
    return make_divisible(hidden / 4)
