"""An elastic MobileNet-style CNN: inverted residuals with elastic depth, width, kernel, expansion and resolution."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from supernets.axes import Axes, Axis, Dim
from supernets.families.convolutional_spec import Activation, make_divisible
from supernets.families.images import ImageFamily
from supernets.families.layers import ConvNormAct, SqueezeExcite, conv_norm, resized
from supernets.families.mobile_cnn.spec import CNNSpec, StageSpec
from supernets.space import Architecture, Choice, SearchSpace


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project linearly; with a skip where `residual`.

    Args:
        squeeze: hidden channels of a squeeze-and-excitation of what the filter gives; None for none.
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
    """Stem, stages, a 1x1 head, global average, an optional layer and a classifier: (n, c, h, w) -> (n, classes)."""

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
        self.head = head
        self.mix = mix
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(self.stages(self.stem(x))).mean((2, 3))
        return cast(Tensor, self.classifier(self.mix(features)))


class MobileCNNFamily(ImageFamily):
    """The family of all networks that a `CNNSpec` spans: MobileNetV2's (arXiv 1801.04381), or V3's (arXiv 1905.02244).

    The first block of a stage changes the width and has no skip; the others keep it and have one. The hidden width of a
    block is its expansion times its input width, so that both axes meet in one: its first units are shared. That of a
    squeeze-and-excitation is a quarter of the block's, rounded to a multiple of 8.

    Departures from the space of Once-for-All (arXiv 1908.09791, the preset ``ofa``): its first block, of 16 channels, has a
    skip and no expanding convolution; its kernels are transformed (which is a matter of the sharing), and its layer after
    the pooling has no bias.

    Raises:
        SpaceError: the images are too small for the strides.
    """

    name = "mobile-cnn"
    spec_type = CNNSpec
    spec: CNNSpec
    attention: Mapping[str, Dim] = {}

    def __init__(self, spec: CNNSpec, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes)
        elastic = spec.resolution is not None
        if not elastic:
            spec.check_side(image_size)
        self.geometry: tuple[str, ...] = ("resolution",) if elastic else ()
        resolution = [] if spec.resolution is None else [Choice("resolution", spec.resolution)]
        stages = [c for s, stage in enumerate(spec.stages) for c in _stage_choices(s, stage)]
        self.space = SearchSpace([*resolution, *stages])
        self.axes: Axes = {axis.name: axis for axis in self._axes()}
        self._dims = self._make_dims()
        blocks = [f"stages.{s}.{b}" for s, stage in enumerate(spec.stages) for b in range(stage.depth[-1])]
        after = ("head", "classifier") if spec.mix is None else ("head", "mix", "classifier")
        self.blocks: tuple[str, ...] = ("stem", *blocks, *after)

    def _axes(self) -> list[Axis]:
        axes, inputs = [], self.spec.stem
        if self.spec.resolution is not None:
            axes.append(Axis("resolution", self.spec.resolution[-1]))
        for s, stage in enumerate(self.spec.stages):
            axes.append(Axis(f"stage{s}.width", stage.width[-1]))
            for b in range(stage.depth[-1]):
                hidden = _hidden(stage.expand[-1], inputs)
                axes.append(Axis(f"stage{s}.block{b}.hidden", hidden))
                if stage.squeeze:
                    axes.append(Axis(f"stage{s}.block{b}.squeeze", _squeeze(hidden)))
                axes.append(Axis(f"stage{s}.block{b}.kernel", stage.kernel[-1], slice="centre"))
                inputs = stage.width[-1]
        return axes

    def _make_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        dims: dict[str, tuple[Dim, ...]] = {}

        def conv_norm(prefix: str, outputs: Dim, inputs: Dim, kernel: Dim) -> None:
            dims[f"{prefix}.conv.weight"] = (outputs, inputs, kernel, kernel)
            for tensor in ("weight", "bias", "running_mean", "running_var"):
                dims[f"{prefix}.norm.{tensor}"] = (outputs,)
            dims[f"{prefix}.norm.num_batches_tracked"] = ()

        def layer(prefix: str, outputs: Dim, inputs: Dim, *kernel: int) -> None:
            dims[f"{prefix}.weight"], dims[f"{prefix}.bias"] = (outputs, inputs, *kernel), (outputs,)

        if self.spec.resolution is not None:
            dims["stem.resize.pixels"] = ("resolution",)
        conv_norm("stem", self.spec.stem, self.channels, 3)
        inputs: Dim = self.spec.stem
        for s, stage in enumerate(self.spec.stages):
            for b in range(stage.depth[-1]):
                block, hidden = f"stages.{s}.{b}", f"stage{s}.block{b}.hidden"
                conv_norm(f"{block}.expand", hidden, inputs, 1)
                conv_norm(f"{block}.filter", hidden, 1, f"stage{s}.block{b}.kernel")
                if stage.squeeze:
                    squeeze = f"stage{s}.block{b}.squeeze"
                    layer(f"{block}.squeeze.reduce", squeeze, hidden, 1, 1)
                    layer(f"{block}.squeeze.expand", hidden, squeeze, 1, 1)
                conv_norm(f"{block}.project", f"stage{s}.width", hidden, 1)
                inputs = f"stage{s}.width"
        conv_norm("head", self.spec.head, inputs, 1)
        if self.spec.mix is not None:
            layer("mix.linear", self.spec.mix, self.spec.head)
        layer("classifier", self.n_classes, self.spec.mix or self.spec.head)
        return dims

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self._dims

    def template(self, like: Architecture | None = None) -> nn.Module:
        largest = self.space.largest
        if like is not None and self.geometry:
            largest = Architecture((like.genes[0], *largest.genes[1:]))  # the resolution is the first choice
        return self.build(largest)

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        values = self.space.values(architecture)
        sizes, inputs = {}, self.spec.stem
        if self.geometry:
            sizes["resolution"] = cast(int, values["resolution"])
        for s, stage in enumerate(self.spec.stages):
            width = sizes[f"stage{s}.width"] = cast(int, values[f"stage{s}.width"])
            for b in range(stage.depth[-1]):
                # A layer that the depth drops gets the smallest options: its sizes are read by nobody.
                expand = cast(float, values.get(f"stage{s}.block{b}.expand", stage.expand[0]))
                hidden = sizes[f"stage{s}.block{b}.hidden"] = _hidden(expand, inputs)
                if stage.squeeze:
                    sizes[f"stage{s}.block{b}.squeeze"] = _squeeze(hidden)
                sizes[f"stage{s}.block{b}.kernel"] = cast(int, values.get(f"stage{s}.block{b}.kernel", stage.kernel[0]))
                inputs = width
        return sizes

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        values = self.space.values(architecture)
        return frozenset(
            f"stages.{s}.{b}"
            for s, stage in enumerate(self.spec.stages)
            for b in range(cast(int, values[f"stage{s}.depth"]), stage.depth[-1])
        )

    def build(self, architecture: Architecture) -> nn.Module:
        values, spec = self.space.values(architecture), self.spec
        stages: list[list[InvertedResidual]] = []
        inputs = spec.stem
        for s, stage in enumerate(spec.stages):
            width = cast(int, values[f"stage{s}.width"])
            stages.append([])
            for b in range(cast(int, values[f"stage{s}.depth"])):
                hidden = _hidden(cast(float, values[f"stage{s}.block{b}.expand"]), inputs)
                block = InvertedResidual(
                    inputs,
                    hidden,
                    width,
                    kernel=cast(int, values[f"stage{s}.block{b}.kernel"]),
                    stride=stage.stride if b == 0 else 1,
                    residual=b > 0,
                    squeeze=_squeeze(hidden) if stage.squeeze else None,
                    activation=stage.activation,
                )
                stages[-1].append(block)
                inputs = width
        stem = ConvNormAct(self.channels, spec.stem, 3, stride=spec.stem_stride, activation=spec.activation)
        return MobileCNN(
            resized(self.image_size, cast(int | None, values.get("resolution")), stem),
            stages,
            ConvNormAct(inputs, spec.head, 1, activation=spec.activation),
            nn.Identity() if spec.mix is None else _mix(spec.head, spec.mix),
            nn.Linear(spec.mix or spec.head, self.n_classes),
        )


def _mix(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(OrderedDict(linear=nn.Linear(inputs, outputs), act=nn.Hardswish(inplace=True)))


def _hidden(expand: float, inputs: int) -> int:
    return max(1, round(expand * inputs))


def _squeeze(hidden: int) -> int:
    return make_divisible(hidden / 4)


def _stage_choices(s: int, stage: StageSpec) -> list[Choice]:
    depth = f"stage{s}.depth"
    choices = [Choice(depth, stage.depth), Choice(f"stage{s}.width", stage.width)]
    for b in range(stage.depth[-1]):
        level = next(i for i, d in enumerate(stage.depth) if d > b)
        requires = (depth, level) if level > 0 else None
        choices.append(Choice(f"stage{s}.block{b}.kernel", stage.kernel, requires))
        choices.append(Choice(f"stage{s}.block{b}.expand", stage.expand, requires))
    return choices
