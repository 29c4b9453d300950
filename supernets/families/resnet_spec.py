"""Dimensions of the elastic ResNet, as values that check themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from supernets.errors import SpaceError
from supernets.families.options import check_number, check_options, check_ratios
from supernets.families.spec import LIMITS, MAX_STAGES, make_divisible, without_defaults


@dataclass(frozen=True, slots=True)
class BottleneckStage:
    """One stage: the stride of its first block, and the options of its elastic dimensions, each smallest first.

    Attributes:
        stride: of the first block; the others have stride 1.
        depth: numbers of blocks, each at least 1.
        width: output channels of the stage's blocks.
        expand: ratios of a block's inner channels to its output channels, above 0 and at most 1; the channels are rounded
            to a multiple of 8 (see `bottleneck`).

    Raises:
        SpaceError: an option list is empty, not ascending, or holds a value that makes no network; or two ratios make the
            same one.
    """

    stride: int
    depth: tuple[int, ...]
    width: tuple[int, ...]
    expand: tuple[float, ...]

    def __post_init__(self) -> None:
        check_number("stride", self.stride, LIMITS["stride"])
        check_options("depth", self.depth, LIMITS["depth"])
        check_options("width", self.width, LIMITS["width"])
        check_ratios("expand", self.expand, 1)
        # 1 and 1.0 are one ratio, and must be one in what is written of the space, too.
        object.__setattr__(self, "expand", tuple(float(ratio) for ratio in self.expand))
        for width in self.width:
            for low, high in pairwise(self.expand):
                if bottleneck(width, low) == bottleneck(width, high):
                    raise SpaceError(
                        f"expand: {low} and {high} of {width} channels both give {bottleneck(width, low)} (a multiple of "
                        "8), so that equal networks would count as two; move the ratios apart, or widen the stage"
                    )


@dataclass(frozen=True, slots=True)
class ResNetSpec:
    """A whole space of the family.

    Attributes:
        stem: output channels of the stem's three convolutions; the first two have half of them.
        stem_stride: of the first convolution.
        stages: of bottleneck blocks.
        stem_pool: whether the stem ends in a pooling of stride 2.
        resolution: sides that the images are resized to, in pixels; None: they stay as the data have them.

    Raises:
        SpaceError: no stages, too many of them, a number out of range, or a resolution that the strides do not divide.
    """

    stem: tuple[int, ...]
    stem_stride: int
    stages: tuple[BottleneckStage, ...]
    stem_pool: bool = False
    resolution: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_options("stem", self.stem, LIMITS["width"])
        check_number("stem_stride", self.stem_stride, LIMITS["stride"])
        if not 1 <= len(self.stages) <= MAX_STAGES:
            raise SpaceError(f"stages: expected 1 to {MAX_STAGES} stages, got {len(self.stages)}")
        if not isinstance(self.stem_pool, bool):
            raise SpaceError(f"stem_pool: expected true or false, got {self.stem_pool!r}")
        if self.resolution is not None:
            check_options("resolution", self.resolution, LIMITS["resolution"])
            for side in self.resolution:
                try:
                    self.check_side(side)
                except SpaceError as error:
                    raise SpaceError(f"resolution: {error}") from None

    def check_side(self, side: int) -> None:
        """Raises `SpaceError` unless each stage's stride divides the pixels that reach it of images of this side.

        A shortcut averages as many pixels as its stride has: what is left over at an edge it would not see, though the
        block's own convolution does. The stem has no shortcut, and rounds up.
        """
        left = -(-side // self.stem_stride)
        left = -(-left // 2) if self.stem_pool else left
        for s, stage in enumerate(self.stages):
            if left % stage.stride:
                raise SpaceError(
                    f"images of {side} pixels do not fit: {left} pixels of them reach stage {s}, whose stride is "
                    f"{stage.stride}; use sizes of images that every stride divides, or other strides"
                )
            left //= stage.stride

    @property
    def single(self) -> bool:
        """Whether the space holds one network."""
        options = [options for s in self.stages for options in (s.depth, s.width, s.expand)]
        return all(len(o) == 1 for o in (*options, self.stem, self.resolution or (0,)))

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints; defaults are left out."""
        return {**without_defaults(self), "stages": tuple(without_defaults(stage) for stage in self.stages)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ResNetSpec:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: the data describe no such space.
        """
        try:
            stages = tuple(
                BottleneckStage(stage["stride"], *(tuple(stage[name]) for name in ("depth", "width", "expand")))
                for stage in data["stages"]
            )
            pool, resolution = data.get("stem_pool", False), data.get("resolution")
            sides = None if resolution is None else tuple(resolution)
            return cls(tuple(data["stem"]), data["stem_stride"], stages, pool, sides)
        except (KeyError, TypeError) as error:
            raise SpaceError(f"the description of a ResNet's space is malformed: {error!r}") from None


def bottleneck(outputs: int, expand: float) -> int:
    """Inner channels of a block of so many output channels."""
    return make_divisible(outputs * expand)
