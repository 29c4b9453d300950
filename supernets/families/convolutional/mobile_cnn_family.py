"""An elastic MobileNet-style CNN: inverted residuals with elastic depth, width, kernel, expansion and resolution."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from supernets.families.convolutional.convolutional_family import (
    ConvNormAct,
    ConvolutionalFamily,
    SqueezeExcite,
    conv_norm,
)
from supernets.families.convolutional.convolutional_spec import Activation, make_divisible
from supernets.families.convolutional.mobile_cnn_spec import CNNSpec
from supernets.families.shared.spec_family import Stack
from supernets.space import Architecture
from supernets.space.axes import NamedDims, full_sizes


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
        stages: list[list[InvertedResidual]],
        head: nn.Module,
        mix: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
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

    The first block of a stage changes the width and has no skip; the others keep it and have one. The hidden width of a
    block is its expansion times its input width, so that both axes meet in one: its first units are shared. That of a
    squeeze-and-excitation is a quarter of the block's, rounded to a multiple of 8.

    Departures from the space of Once-for-All (arXiv 1908.09791, the preset ``ofa``): its first block, of 16 channels, has a
    skip and no expanding convolution; its kernels are transformed (which the sharing does here), and its layer after the
    pooling has no bias.

    Raises:
        SpaceError: the images are too small for the strides.
    """

    name = "mobile-cnn"
    spec_type = CNNSpec
    elastic = ("kernel", "expand")
    spec: CNNSpec

    def after_stages(self) -> tuple[str, ...]:
        return ("head", "classifier") if self.spec.mix is None else ("head", "mix", "classifier")

    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        kernel = f"{layer}.kernel"
        dims: dict[str, NamedDims] = {
            "expand.conv.weight": (f"{layer}.hidden", ...),
            "filter.conv.weight": (f"{layer}.hidden", 1, kernel, kernel),
            "project.conv.weight": (stack.choice("width").name, ...),
        }
        return dims | ({"squeeze.reduce.weight": (f"{layer}.squeeze", ...)} if f"{layer}.squeeze" in self.axes else {})

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        sizes, inputs = self.options(architecture), self.spec.stem
        for stage, stack in zip(self.spec.stages, self.stacks, strict=True):
            width = cast(int, sizes[stack.choice("width").name])
            for layer in stack.layers:
                hidden = sizes[f"{layer}.hidden"] = _hidden(cast(float, sizes.pop(f"{layer}.expand")), inputs)
                if stage.squeeze:
                    sizes[f"{layer}.squeeze"] = _squeeze(hidden)
                inputs = width
        return cast("dict[str, int]", sizes)

    def template(self) -> nn.Module:
        spec, sizes = self.spec, full_sizes(self.axes)
        stages: list[list[InvertedResidual]] = []
        inputs = spec.stem
        for s, stage in enumerate(spec.stages):
            width = sizes[f"stage{s}.width"]
            stages.append([])
            for b in range(stage.depth[-1]):
                axis = f"stage{s}.block{b}"
                block = InvertedResidual(
                    inputs,
                    sizes[f"{axis}.hidden"],
                    width,
                    kernel=sizes[f"{axis}.kernel"],
                    stride=stage.stride if b == 0 else 1,
                    residual=b > 0,
                    squeeze=sizes.get(f"{axis}.squeeze"),
                    activation=stage.activation,
                )
                stages[-1].append(block)
                inputs = width
        mix: nn.Module = nn.Identity()
        if spec.mix is not None:
            mix = nn.Sequential(OrderedDict(linear=nn.Linear(spec.head, spec.mix), act=nn.Hardswish(inplace=True)))
        stem = ConvNormAct(self.channels, spec.stem, 3, stride=spec.stem_stride, activation=spec.activation)
        return MobileCNN(
            self.with_resizing(stem),
            stages,
            ConvNormAct(inputs, spec.head, 1, activation=spec.activation),
            mix,
            nn.Linear(spec.mix or spec.head, self.n_classes),
        )


def _hidden(expand: float, inputs: int) -> int:
    return max(1, round(expand * inputs))


def _squeeze(hidden: int) -> int:
    return make_divisible(hidden / 4)
