"""Dimensions of the elastic MobileNet-style CNN, as values that check themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args

from supernets.errors import SpaceError
from supernets.families.options import check_number, check_options

Activation = Literal["relu", "hardswish"]

MAX_STAGES = 16
LIMITS = {"depth": 32, "width": 4096, "kernel": 31, "expand": 16, "stride": 4, "resolution": 1024}
"""Largest value of each dimension: far above what anybody trains, low enough that a slip of the finger is caught."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage: the stride of its first block, and the options of its elastic dimensions, each smallest first.

    Attributes:
        stride: of the first block; the others have stride 1.
        depth: numbers of blocks, each at least 1.
        width: output channels of the stage's blocks.
        kernel: sides of the depthwise convolutions; odd.
        expand: ratios of a block's hidden channels to its input channels.
        squeeze: whether the blocks weigh their hidden channels by squeeze-and-excitation.
        activation: of the blocks' hidden channels.

    Raises:
        SpaceError: an option list is empty, not ascending, or holds a value that makes no network.
    """

    stride: int
    depth: tuple[int, ...]
    width: tuple[int, ...]
    kernel: tuple[int, ...]
    expand: tuple[int, ...]
    squeeze: bool = False
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        check_number("stride", self.stride, LIMITS["stride"])
        check_options("depth", self.depth, LIMITS["depth"])
        check_options("width", self.width, LIMITS["width"])
        check_options("kernel", self.kernel, LIMITS["kernel"])
        check_options("expand", self.expand, LIMITS["expand"])
        even = [kernel for kernel in self.kernel if kernel % 2 == 0]
        if even:
            raise SpaceError(f"kernel: expected odd sides, so that padding is the same on both sides; got {even[0]}")
        if not isinstance(self.squeeze, bool):
            raise SpaceError(f"squeeze: expected true or false, got {self.squeeze!r}")
        _check_activation(self.activation)


@dataclass(frozen=True, slots=True)
class CNNSpec:
    """A whole space of the family: fixed stem and head, elastic stages between them.

    Attributes:
        stem: output channels of the first convolution.
        stem_stride: its stride.
        head: output channels of the last 1x1 convolution, before pooling and the classifier.
        activation: of the stem and the head.
        mix: channels of a linear layer with hard-swish between pooling and the classifier; None for none.
        resolution: sides that the images are resized to, in pixels; None: they stay as the data have them.

    Raises:
        SpaceError: no stages, too many of them, a number out of range, or too small a resolution for the strides.
    """

    stem: int
    stem_stride: int
    stages: tuple[StageSpec, ...]
    head: int
    activation: Activation = "relu"
    mix: int | None = None
    resolution: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_number("stem", self.stem, LIMITS["width"])
        check_number("stem_stride", self.stem_stride, LIMITS["stride"])
        check_number("head", self.head, LIMITS["width"])
        if not 1 <= len(self.stages) <= MAX_STAGES:
            raise SpaceError(f"stages: expected 1 to {MAX_STAGES} stages, got {len(self.stages)}")
        _check_activation(self.activation)
        if self.mix is not None:
            check_number("mix", self.mix, LIMITS["width"])
        if self.resolution is not None:
            check_options("resolution", self.resolution, LIMITS["resolution"])
            try:
                self.check_side(self.resolution[0])
            except SpaceError as error:
                raise SpaceError(f"resolution: {error}") from None

    def check_side(self, side: int) -> None:
        """Raises `SpaceError` unless images of this side leave each stage as many pixels as its stride."""
        left = side
        strided = [("the stem", self.stem_stride), *((f"stage {s}", t.stride) for s, t in enumerate(self.stages))]
        for where, stride in strided:
            if left < stride:
                raise SpaceError(
                    f"images of {side} pixels are too small: {left} pixels of them reach {where}, whose stride "
                    f"is {stride}; use larger images, smaller strides or fewer stages"
                )
            left = -(-left // stride)

    @property
    def single(self) -> bool:
        """Whether the space holds one network."""
        options = [options for s in self.stages for options in (s.depth, s.width, s.kernel, s.expand)]
        return all(len(o) == 1 for o in (*options, self.resolution or (0,)))

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints.

        What is at its default is left out, so that a space keeps its digest when a version brings new dimensions.
        """
        return {**without_defaults(self), "stages": tuple(without_defaults(stage) for stage in self.stages)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CNNSpec:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: the data describe no such space.
        """
        try:
            stages = tuple(_stage_from_json(stage) for stage in data["stages"])
            resolution = data.get("resolution")
            return cls(
                data["stem"],
                data["stem_stride"],
                stages,
                data["head"],
                activation=data.get("activation", "relu"),
                mix=data.get("mix"),
                resolution=None if resolution is None else tuple(resolution),
            )
        except (KeyError, TypeError) as error:
            raise SpaceError(f"the description of a CNN's space is malformed: {error!r}") from None


def _stage_from_json(data: Mapping[str, Any]) -> StageSpec:
    depth, width, kernel, expand = (tuple(data[name]) for name in ("depth", "width", "kernel", "expand"))
    squeeze, activation = data.get("squeeze", False), data.get("activation", "relu")
    return StageSpec(data["stride"], depth, width, kernel, expand, squeeze, activation)


def without_defaults(spec: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, but for those at their default."""
    values = {field.name: (getattr(spec, field.name), field.default) for field in fields(spec)}
    return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}


def make_divisible(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and one more where it would lose over a tenth (arXiv 1905.02244's own code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _check_activation(value: object) -> None:
    if value not in get_args(Activation):
        raise SpaceError(f"activation: expected {' or '.join(get_args(Activation))}, got {value!r}")
