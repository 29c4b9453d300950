"""Base of the convolutional families: stages of elastic depth and width, and perhaps an elastic resolution."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from torch import nn

from supernets.families.shared.layers import Resize
from supernets.families.shared.spec_family import ImageFamily, Stack, StackedFamily
from supernets.space import Choice
from supernets.space.axes import Axes, Axis, NamedDims

RESOLUTION = "resolution"
"""The choice, and the axis, of the pixels of an image's side."""


class ConvolutionalFamily(StackedFamily, ImageFamily):
    """A space of CNNs of which a `ConvolutionalSpec` with the field ``stages`` gives the dimensions.

    Depth and width are chosen for each stage, the `elastic` dimensions anew for each of its blocks. The depth keeps the first
    blocks of a stage. The resolution, if it is elastic, is the first choice, then the width of the stem.

    Raises:
        SpaceError: the images do not fit the strides.
    """

    elastic: ClassVar[tuple[str, ...]]
    """Dimensions of a stage that each of its blocks chooses."""

    def __init__(self, spec: Any, *, image_size: int, channels: int, n_classes: int) -> None:
        super().__init__(spec, image_size=image_size, channels=channels, n_classes=n_classes)
        if spec.resolution is None:
            spec.check_side(image_size)
        else:
            self.first_choices += (Choice(RESOLUTION, spec.resolution),)
        if isinstance(spec.stem, tuple):
            self.first_choices += (Choice("stem.width", spec.stem),)
        stages = []
        for s, stage in enumerate(spec.stages):
            choices = Choice(f"stage{s}.depth", stage.depth), Choice(f"stage{s}.width", stage.width)
            options = {name: getattr(stage, name) for name in self.elastic}
            before, after = ("stem",) if s == 0 else (), self.after_stages() if s == len(spec.stages) - 1 else ()
            stages.append(Stack(choices, f"stages.{s}", f"stage{s}.block", options, before, after))
        self.stacks = tuple(stages)

    @cached_property
    def axes(self) -> Axes:
        return {
            name: Axis(name, size, "centre" if name.endswith(".kernel") else "prefix")
            for name, size in self.sizes(self.space.largest).items()
        }

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
