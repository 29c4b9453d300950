"""An elastic MobileNet-style CNN: inverted residuals with elastic depth, width, kernel and expansion (arXiv 1801.04381)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.axes import Axes, Axis, Dim
from supernets.errors import CheckpointError, SpaceError
from supernets.families.spec import CNNSpec, StageSpec
from supernets.space import Architecture, Choice, SearchSpace


def _conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs))


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            OrderedDict(_conv_norm(inputs, outputs, kernel, stride=stride, groups=groups), act=nn.ReLU(inplace=True))
        )


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project linearly; with a skip where `residual`."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, kernel: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.expand = ConvNormAct(inputs, hidden, 1)
        self.filter = ConvNormAct(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = nn.Sequential(_conv_norm(hidden, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.filter(self.expand(x)))
        return x + out if self.residual else cast(Tensor, out)

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


class MobileCNN(nn.Module):
    """Stem, stages of inverted residuals, a 1x1 head, global average and a classifier: (n, c, h, w) -> (n, classes)."""

    def __init__(self, stem: nn.Module, stages: list[list[InvertedResidual]], head: nn.Module, classifier: nn.Module):
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
        self.head = head
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.head(self.stages(self.stem(x))).mean((2, 3))))


class MobileCNNFamily:
    """The family of all networks that a `CNNSpec` spans.

    The first block of a stage changes the width and has no skip; the others keep it and have one. The hidden width of a
    block is its expansion times its input width, so that both axes meet in one: its first units are shared.

    Raises:
        SpaceError: the images are too small for the strides.
    """

    name = "mobile-cnn"
    geometry: tuple[str, ...] = ()
    attention: Mapping[str, Dim] = {}

    def __init__(self, spec: CNNSpec, *, image_size: int, channels: int, n_classes: int) -> None:
        self.spec = spec
        self.image_size, self.channels, self.n_classes = image_size, channels, n_classes
        size = image_size
        for stride in (spec.stem_stride, *(stage.stride for stage in spec.stages)):
            if size < stride:
                raise SpaceError(
                    f"images of {image_size} pixels are too small for strides "
                    f"{[spec.stem_stride, *(s.stride for s in spec.stages)]}; use smaller strides or fewer stages"
                )
            size = -(-size // stride)
        self.space = SearchSpace([c for s, stage in enumerate(spec.stages) for c in _stage_choices(s, stage)])
        self.axes: Axes = {axis.name: axis for axis in self._axes()}
        self._dims = self._make_dims()
        blocks = [f"stages.{s}.{b}" for s, stage in enumerate(spec.stages) for b in range(stage.depth[-1])]
        self.blocks: tuple[str, ...] = ("stem", *blocks, "head", "classifier")

    def _axes(self) -> list[Axis]:
        axes, inputs = [], self.spec.stem
        for s, stage in enumerate(self.spec.stages):
            axes.append(Axis(f"stage{s}.width", stage.width[-1]))
            for b in range(stage.depth[-1]):
                axes.append(Axis(f"stage{s}.block{b}.hidden", _hidden(stage.expand[-1], inputs)))
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

        conv_norm("stem", self.spec.stem, self.channels, 3)
        inputs: Dim = self.spec.stem
        for s, stage in enumerate(self.spec.stages):
            for b in range(stage.depth[-1]):
                block, hidden = f"stages.{s}.{b}", f"stage{s}.block{b}.hidden"
                conv_norm(f"{block}.expand", hidden, inputs, 1)
                conv_norm(f"{block}.filter", hidden, 1, f"stage{s}.block{b}.kernel")
                conv_norm(f"{block}.project", f"stage{s}.width", hidden, 1)
                inputs = f"stage{s}.width"
        conv_norm("head", self.spec.head, inputs, 1)
        dims["classifier.weight"], dims["classifier.bias"] = (self.n_classes, self.spec.head), (self.n_classes,)
        return dims

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return self._dims

    def template(self, like: Architecture | None = None) -> nn.Module:
        return self.build(self.space.largest)

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        values = self.space.values(architecture)
        sizes, inputs = {}, self.spec.stem
        for s, stage in enumerate(self.spec.stages):
            width = sizes[f"stage{s}.width"] = cast(int, values[f"stage{s}.width"])
            for b in range(stage.depth[-1]):
                # A layer that the depth drops gets the smallest options: its sizes are read by nobody.
                expand = cast(float, values.get(f"stage{s}.block{b}.expand", stage.expand[0]))
                sizes[f"stage{s}.block{b}.hidden"] = _hidden(expand, inputs)
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
        values = self.space.values(architecture)
        stages: list[list[InvertedResidual]] = []
        inputs = self.spec.stem
        for s, stage in enumerate(self.spec.stages):
            width = cast(int, values[f"stage{s}.width"])
            stages.append([])
            for b in range(cast(int, values[f"stage{s}.depth"])):
                hidden = _hidden(cast(float, values[f"stage{s}.block{b}.expand"]), inputs)
                kernel = cast(int, values[f"stage{s}.block{b}.kernel"])
                stride = stage.stride if b == 0 else 1
                block = InvertedResidual(inputs, hidden, width, kernel=kernel, stride=stride, residual=b > 0)
                stages[-1].append(block)
                inputs = width
        return MobileCNN(
            ConvNormAct(self.channels, self.spec.stem, 3, stride=self.spec.stem_stride),
            stages,
            ConvNormAct(inputs, self.spec.head, 1),
            nn.Linear(self.spec.head, self.n_classes),
        )

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, self.channels, self.image_size, self.image_size)

    def to_json(self) -> dict[str, Any]:
        return {
            "family": self.name,
            "spec": self.spec.to_json(),
            "image_size": self.image_size,
            "channels": self.channels,
            "n_classes": self.n_classes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MobileCNNFamily:
        """The family that `to_json` wrote.

        Raises:
            CheckpointError: the data are those of no such family.
        """
        try:
            sizes = {name: int(data[name]) for name in ("image_size", "channels", "n_classes")}
            return cls(CNNSpec.from_json(data["spec"]), **sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the description of a mobile-cnn is malformed: {error!r}") from None


def _hidden(expand: float, inputs: int) -> int:
    return max(1, round(expand * inputs))


def _stage_choices(s: int, stage: StageSpec) -> list[Choice]:
    depth = f"stage{s}.depth"
    choices = [Choice(depth, stage.depth), Choice(f"stage{s}.width", stage.width)]
    for b in range(stage.depth[-1]):
        level = next(i for i, d in enumerate(stage.depth) if d > b)
        requires = (depth, level) if level > 0 else None
        choices.append(Choice(f"stage{s}.block{b}.kernel", stage.kernel, requires))
        choices.append(Choice(f"stage{s}.block{b}.expand", stage.expand, requires))
    return choices
