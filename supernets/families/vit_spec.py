"""Dimensions of the elastic vision transformer, as values that check themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from supernets.errors import SpaceError
from supernets.families.options import check_number, check_options, check_ratios

LIMITS = {"patch": 256, "head_size": 512, "depth": 64, "width": 4096, "heads": 64, "mlp": 16}
"""Largest value of each dimension: far above what anybody trains, low enough that a slip of the finger is caught."""


@dataclass(frozen=True, slots=True)
class ViTSpec:
    """A whole space of the family, with the options of its elastic dimensions, each smallest first.

    Depth and width are chosen once for the network; heads and the MLP's ratio anew for each block, from the same options.
    Queries, keys and values of a block have heads x head_size channels, whatever the width, as AutoFormer's have (Chen et
    al. 2021, arXiv 2107.00651): so every width goes with every number of heads.

    Attributes:
        patch: side of a patch in pixels.
        head_size: channels of a head; `divided_head_size` gives the usual one.
        depth: numbers of blocks.
        width: channels of a token.
        heads: of a block's attention.
        mlp: ratios of a block's hidden channels to the width; they need not be whole.

    Raises:
        SpaceError: an option list is empty, not ascending, or holds a value that makes no network; or two ratios make the
            same one.
    """

    patch: int
    head_size: int
    depth: tuple[int, ...]
    width: tuple[int, ...]
    heads: tuple[int, ...]
    mlp: tuple[float, ...]

    def __post_init__(self) -> None:
        check_number("patch", self.patch, LIMITS["patch"])
        check_number("head_size", self.head_size, LIMITS["head_size"])
        check_options("depth", self.depth, LIMITS["depth"])
        check_options("width", self.width, LIMITS["width"])
        check_options("heads", self.heads, LIMITS["heads"])
        check_ratios("mlp", self.mlp, LIMITS["mlp"])
        # 4 and 4.0 are one ratio, and must be one in what is written of the space, too.
        object.__setattr__(self, "mlp", tuple(float(ratio) for ratio in self.mlp))
        for width in self.width:
            for low, high in pairwise(self.mlp):
                if hidden_channels(low, width) == hidden_channels(high, width):
                    raise SpaceError(
                        f"mlp: {low} and {high} of a width of {width} both give {hidden_channels(low, width)} channels, so "
                        "that equal networks would count as two; move the ratios apart"
                    )

    @property
    def single(self) -> bool:
        """Whether the space holds one network."""
        return all(len(options) == 1 for options in (self.depth, self.width, self.heads, self.mlp))

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ViTSpec:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: the data describe no such space.
        """
        try:
            options = {name: tuple(data[name]) for name in ("depth", "width", "heads", "mlp")}
            return cls(data["patch"], data["head_size"], **options)
        except (KeyError, TypeError) as error:
            raise SpaceError(f"the description of a vision transformer's space is malformed: {error!r}") from None


def hidden_channels(ratio: float, width: int) -> int:
    """Hidden channels of an MLP of this ratio to the width."""
    return max(1, round(ratio * width))


def divided_head_size(width: int, heads: int) -> int:
    """The channels of each of so many heads that divide a width among them, as in most transformers.

    Raises:
        SpaceError: they do not divide it.
    """
    check_number("width", width, LIMITS["width"])
    check_number("heads", heads, LIMITS["heads"])
    if width % heads:
        raise SpaceError(
            f"heads: {heads} heads do not divide a width of {width}; give a number of heads that does, or head_size, the "
            "channels of a head whatever the width"
        )
    return width // heads
