"""Base of detectors and segmenters: an elastic backbone with an elastic feature pyramid over its last stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.nn import functional

from supernets.families.convolutional.convolutional_family import Backbone, BackboneFamily, ConvNormAct
from supernets.families.convolutional.convolutional_spec import Activation
from supernets.families.convolutional.mobile_cnn_family import (
    InvertedResidual,
    InvertedResiduals,
    inverted_residual_dims,
)
from supernets.families.convolutional.resnet_family import Bottlenecks
from supernets.families.dense.pyramid_spec import PyramidSpec
from supernets.families.shared.spec import Spec
from supernets.families.shared.spec_family import Stack
from supernets.space import Architecture, Choice
from supernets.space.axes import NamedDims, full_sizes

NECK_WIDTH, HEAD_WIDTH, HEAD_KERNEL = "neck.width", "head.width", "head.kernel"


class Lateral(ConvNormAct):
    """A stage's output at the pyramid's width, to which the next coarser level is added, enlarged by its nearest values."""

    def forward(self, x: Tensor, coarser: Tensor | None = None) -> Tensor:
        """The sum, (n, width, h, w).

        Args:
            x: Output of the stage, (n, channels, h, w).
            coarser: The next coarser level, (n, width, h / k, w / k); None for the coarsest.
        """
        out = cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]  # torch's own
        return out if coarser is None else out + functional.interpolate(coarser, size=out.shape[2:])


class Level(nn.Module):
    """One level of a feature pyramid: a lateral connection and residual blocks."""

    def __init__(self, lateral: Lateral, layers: nn.Sequential) -> None:
        super().__init__()
        self.lateral, self.layers = lateral, layers

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        return cast(Tensor, self.layers(self.lateral(x, coarser)))


class HeadLayer(nn.Module):
    """A depthwise and a 1x1 convolution, each with batch norm and activation, for one or several levels of a pyramid.

    Batch norms are each level's own, because the statistics of levels differ; convolutions may be shared between them.

    Args:
        width: Channels of the input and of the output.
        kernel: Side of the depthwise convolution.
        levels: Number of levels that the layer is for.
        shared: Whether all levels have the same convolutions.
    """

    def __init__(
        self, width: int, kernel: int, *, levels: int = 1, shared: bool = False, activation: Activation
    ) -> None:
        super().__init__()
        n_convolutions = 1 if shared else levels
        pad = kernel // 2
        self.filters = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=pad, groups=width, bias=False) for _ in range(n_convolutions)
        )
        self.mixers = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in range(n_convolutions))
        self.filter_norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(levels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(levels))
        self.act = nn.Hardswish() if activation == "hardswish" else nn.ReLU()

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """The output for a level, (n, width, h, w).

        Args:
            x: (n, width, h, w).
            level: Index of the level.
        """
        convolution = min(level, len(self.filters) - 1)
        x = self.act(self.filter_norms[level](self.filters[convolution](x)))
        return cast(Tensor, self.act(self.norms[level](self.mixers[convolution](x))))


class Pyramid(nn.Module):
    """Stem, stages, and a feature pyramid (Lin et al. 2017, arXiv 1612.03144) whose levels a head joins into the output.

    Departures from the paper: levels have inverted residuals in place of one 3x3 convolution, and a level is joined with the
    coarser one after that one's blocks, not before them.

    Args:
        stem: Module that takes the images.
        stages: Blocks of each stage, in their order.
        neck: Levels, finest first.
        head: Module of a list of the levels' values (n, width, h, w), finest first.
        level_stages: Index of the stage that each level reads.
    """

    def __init__(
        self, stem: nn.Module, stages: nn.Sequential, neck: nn.ModuleList, head: nn.Module, level_stages: Sequence[int]
    ) -> None:
        super().__init__()
        self.stem, self.stages, self.neck, self.head = stem, stages, neck, head
        self.level_stages = tuple(level_stages)

    def forward(self, x: Tensor) -> Tensor:
        """The output of the head.

        Args:
            x: Images (n, c, h, w), float32, normalised as the training's.
        """
        x, values = self.stem(x), list[Tensor]()
        for stage in self.stages:
            x = stage(x)
            values.append(x)
        levels: list[Tensor] = []
        coarser: Tensor | None = None
        for level, stage_index in reversed([*zip(self.neck, self.level_stages, strict=True)]):
            coarser = level(values[stage_index], coarser)
            levels.insert(0, coarser)
        return cast(Tensor, self.head(levels))


class PyramidFamily(BackboneFamily):
    """The family of networks with a feature pyramid that a `PyramidSpec` spans; its subclasses differ in the head.

    Depth and width are chosen for each stage, and the elastic dimensions of the backbone anew for each of its blocks; the width
    of the pyramid once, the depth for each level, and kernel and expansion for each of its blocks; width, depth and kernel of
    the head once.

    The resolution is no axis: the number of a detector's outputs would follow it, and the places at which networks are compared
    with each other, or with labels, would not be the same ones.

    Raises:
        SpaceError: the coarsest stride does not divide the images.
    """

    spec: PyramidSpec
    spec_type: ClassVar[type[Spec]] = PyramidSpec

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes)
        spec.check_side(image_size)
        self.first_choices = (Choice(NECK_WIDTH, spec.neck_width),)
        n_stages = len(self.backbone.stages)
        stages = (self.backbone.stack(s, before=("stem",) if s == 0 else ()) for s in range(n_stages))
        options = {"kernel": spec.neck_kernel, "expand": spec.neck_expand}
        levels = (
            Stack(
                (Choice(f"neck{i}.depth", spec.neck_depth),),
                f"neck.{i}.layers",
                f"neck{i}.block",
                options,
                (f"neck.{i}.lateral",),
            )
            for i in range(spec.levels)
        )
        head = (
            Choice("head.depth", spec.head_depth),
            Choice(HEAD_WIDTH, spec.head_width),
            Choice(HEAD_KERNEL, spec.head_kernel),
        )
        self.stacks = (*stages, *levels, Stack(head, "head.layers", "head.layer", {}))

    @cached_property
    def backbone(self) -> Backbone:
        """The stages of the networks."""
        spec = self.spec
        return InvertedResiduals(spec.stages or ()) if spec.bottlenecks is None else Bottlenecks(spec.bottlenecks)

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        layers = self.stacks[-1].modules
        return (*(name for name in super().blocks if name not in layers), "head")

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        sizes = self.options(architecture)
        self.backbone.add_sizes(sizes, self.spec.stem)
        for stack in self._levels:
            for layer in stack.layers:
                sizes[f"{layer}.hidden"] = cast(int, sizes.pop(f"{layer}.expand")) * cast(int, sizes[NECK_WIDTH])
        return cast("dict[str, int]", sizes)

    @property
    def _levels(self) -> tuple[Stack, ...]:
        """The blocks of each level of the pyramid."""
        return self.stacks[len(self.backbone.stages) : -1]

    def named_dims(self) -> Mapping[str, NamedDims]:
        laterals: dict[str, NamedDims] = {
            f"neck.{i}.lateral.conv.weight": (NECK_WIDTH, ...) for i in range(self.spec.levels)
        }
        return {**super().named_dims(), **laterals}

    def layer_dims(self, stack: Stack, layer: str) -> Mapping[str, NamedDims]:
        if stack in self._levels:
            return inverted_residual_dims(layer, NECK_WIDTH, self.axes)
        if stack == self.stacks[-1]:
            return self.head_dims()
        return super().layer_dims(stack, layer)

    def head_dims(self) -> Mapping[str, NamedDims]:
        """Dimensions of tensors of a `HeadLayer`, by their names in it."""
        convolutions = range(self.n_convolutions)
        return {
            **{f"filters.{i}.weight": (HEAD_WIDTH, 1, HEAD_KERNEL, HEAD_KERNEL) for i in convolutions},
            **{f"mixers.{i}.weight": (HEAD_WIDTH, ...) for i in convolutions},
        }

    @property
    def n_convolutions(self) -> int:
        """The number of convolutions of each kind in a layer of the head."""
        return 1

    def pyramid(self, head: nn.Module) -> Pyramid:
        """The largest network with a head.

        Args:
            head: Module of a list of the levels' values, finest first.
        """
        spec, sizes = self.spec, full_sizes(self.axes)
        width = sizes[NECK_WIDTH]
        levels = nn.ModuleList()
        for stack, stage in zip(self._levels, spec.level_stages, strict=True):
            layers = nn.Sequential(
                *(
                    InvertedResidual(
                        width,
                        sizes[f"{layer}.hidden"],
                        width,
                        kernel=sizes[f"{layer}.kernel"],
                        stride=1,
                        residual=True,
                        activation=spec.activation,
                    )
                    for layer in stack.layers
                )
            )
            lateral = Lateral(sizes[f"stage{stage}.width"], width, 1, activation=spec.activation)
            levels.append(Level(lateral, layers))
        stem = ConvNormAct(self.channels, spec.stem, 3, stride=spec.stem_stride, activation=spec.activation)
        return Pyramid(stem, self.backbone.modules(sizes, spec.stem), levels, head, spec.level_stages)
