"""Dimensions of the elastic MobileNet-style CNN, as values that check themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from supernets.errors import SpaceError
from supernets.families.options import check_number, check_options

MAX_STAGES = 16
LIMITS = {"depth": 32, "width": 4096, "kernel": 31, "expand": 16, "stride": 4}
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

    Raises:
        SpaceError: an option list is empty, not ascending, or holds a value that makes no network.
    """

    stride: int
    depth: tuple[int, ...]
    width: tuple[int, ...]
    kernel: tuple[int, ...]
    expand: tuple[int, ...]

    def __post_init__(self) -> None:
        check_number("stride", self.stride, LIMITS["stride"])
        check_options("depth", self.depth, LIMITS["depth"])
        check_options("width", self.width, LIMITS["width"])
        check_options("kernel", self.kernel, LIMITS["kernel"])
        check_options("expand", self.expand, LIMITS["expand"])
        even = [kernel for kernel in self.kernel if kernel % 2 == 0]
        if even:
            raise SpaceError(f"kernel: expected odd sides, so that padding is the same on both sides; got {even[0]}")


@dataclass(frozen=True, slots=True)
class CNNSpec:
    """A whole space of the family: fixed stem and head, elastic stages between them.

    Attributes:
        stem: output channels of the first convolution.
        stem_stride: its stride.
        head: output channels of the last 1x1 convolution, before pooling and the classifier.

    Raises:
        SpaceError: no stages, too many of them, or a number out of range.
    """

    stem: int
    stem_stride: int
    stages: tuple[StageSpec, ...]
    head: int

    def __post_init__(self) -> None:
        check_number("stem", self.stem, LIMITS["width"])
        check_number("stem_stride", self.stem_stride, LIMITS["stride"])
        check_number("head", self.head, LIMITS["width"])
        if not 1 <= len(self.stages) <= MAX_STAGES:
            raise SpaceError(f"stages: expected 1 to {MAX_STAGES} stages, got {len(self.stages)}")

    @property
    def single(self) -> bool:
        """Whether the space holds one network."""
        return all(len(options) == 1 for s in self.stages for options in (s.depth, s.width, s.kernel, s.expand))

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CNNSpec:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: the data describe no such space.
        """
        names = ("depth", "width", "kernel", "expand")
        try:
            stages = tuple(
                StageSpec(stage["stride"], *(tuple(stage[name]) for name in names)) for stage in data["stages"]
            )
            return cls(data["stem"], data["stem_stride"], stages, data["head"])
        except (KeyError, TypeError) as error:
            raise SpaceError(f"the description of a CNN's space is malformed: {error!r}") from None
