"""Base of the convolutional families: stages of elastic depth and width, and perhaps an elastic resolution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

from torch import nn

from supernets.families.shared.layers import Resize
from supernets.families.shared.spec_family import ImageFamily
from supernets.space import Architecture, Choice, Option, SearchSpace
from supernets.space.axes import Axes, Axis, NamedDims

RESOLUTION = "resolution"
"""The choice, and the axis, of the pixels of an image's side."""


class ConvolutionalFamily(ImageFamily, ABC):
    """A space of CNNs of which a `ConvolutionalSpec` with the field ``stages`` gives the dimensions.

    Depth and width are chosen for each stage, the `elastic` dimensions anew for each of its blocks. The depth keeps the first
    blocks of a stage. The resolution, if it is elastic, is the first choice.

    Raises:
        SpaceError: the images do not fit the strides.
    """

    elastic: ClassVar[tuple[str, ...]]
    """Dimensions of a stage that each of its blocks chooses."""

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes)
        if spec.resolution is None:
            spec.check_side(image_size)
        resolution = [] if spec.resolution is None else [Choice(RESOLUTION, spec.resolution)]
        stages = [choice for s in range(len(spec.stages)) for choice in self._stage_choices(s)]
        self.space = SearchSpace([*resolution, *self.stem_choices(), *stages])
        self.axes: Axes = {
            name: Axis(name, size, "centre" if name.endswith(".kernel") else "prefix")
            for name, size in self.sizes(self.space.largest).items()
        }
        blocks = (f"stages.{s}.{b}" for s, stage in enumerate(spec.stages) for b in range(stage.depth[-1]))
        self.blocks: tuple[str, ...] = ("stem", *blocks, *self.after_stages())

    def stem_choices(self) -> list[Choice]:
        """The choices before those of the stages; none if the stem is fixed."""
        return []

    @abstractmethod
    def after_stages(self) -> tuple[str, ...]:
        """The names of the modules after the stages."""

    @abstractmethod
    def sizes(self, architecture: Architecture) -> Mapping[str, int]: ...

    def _stage_choices(self, s: int) -> Iterator[Choice]:
        stage, depth = self.spec.stages[s], f"stage{s}.depth"
        yield Choice(depth, stage.depth)
        yield Choice(f"stage{s}.width", stage.width)
        for b in range(stage.depth[-1]):
            level = next(i for i, d in enumerate(stage.depth) if d > b)
            for name in self.elastic:
                requires = (depth, level) if level > 0 else None
                yield Choice(f"stage{s}.block{b}.{name}", getattr(stage, name), requires)

    def block_option(self, values: Mapping[str, Option], s: int, b: int, name: str) -> Option:
        """The option of a block; the smallest, whose size is never read, for a block that the depth drops."""
        return values.get(f"stage{s}.block{b}.{name}", getattr(self.spec.stages[s], name)[0])

    def with_resizing(self, stem: nn.Sequential) -> nn.Sequential:
        """The stem, with a `Resize` before it if the resolution is elastic."""
        if RESOLUTION not in self.axes:
            return stem
        resize = Resize(self.image_size, self.axes[RESOLUTION].size)
        return nn.Sequential(OrderedDict([("resize", resize), *stem.named_children()]))

    def fixed_sizes(self, values: Mapping[str, Option], *names: str) -> dict[str, int]:
        """The resolution, if it is elastic, and other options that are sizes as they are."""
        resolution = () if self.spec.resolution is None else (RESOLUTION,)
        return {name: cast(int, values[name]) for name in (*resolution, *names)}

    def named_dims(self) -> Mapping[str, NamedDims]:
        dims: dict[str, NamedDims] = {} if self.spec.resolution is None else {"stem.resize.pixels": (RESOLUTION,)}
        for s, stage in enumerate(self.spec.stages):
            for b in range(stage.depth[-1]):
                block_dims = self.block_dims(f"stage{s}.block{b}", f"stage{s}.width", b)
                dims |= {f"stages.{s}.{b}.{name}.weight": weight_dims for name, weight_dims in block_dims.items()}
        return dims

    @abstractmethod
    def block_dims(self, block: str, width: str, number: int) -> Mapping[str, NamedDims]:
        """Dimensions of weights of a block, by the names of its layers.

        Args:
            block: Beginning of the names of its axes.
            width: Name of the axis of its stage's channels.
            number: Number of the block in its stage, from 0.
        """

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        values = self.space.values(architecture)
        return frozenset(
            f"stages.{s}.{b}"
            for s, stage in enumerate(self.spec.stages)
            for b in range(cast(int, values[f"stage{s}.depth"]), stage.depth[-1])
        )
