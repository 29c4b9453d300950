"""Dimensions of the elastic encoder of sentences, as values that check themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from supernets.errors import SpaceError
from supernets.families.options import check_number, check_options

LIMITS = {"head_size": 512, "depth": 64, "width": 8192, "heads": 128, "hidden": 65536}
"""Largest value of each dimension: far above what anybody trains, low enough that a slip of the finger is caught."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A whole space of the family, with the options of its elastic dimensions, each smallest first.

    Depth and width are chosen once for the network; heads and the MLP's hidden channels anew for each layer, from the same
    options, as InstaTune has them (Sarah et al. 2023, arXiv 2308.15609), whose width is fixed.

    Attributes:
        head_size: channels of a head.
        depth: numbers of layers.
        width: channels of a token.
        heads: of a layer's attention.
        hidden: channels of a layer's MLP.

    Raises:
        SpaceError: an option list is empty, not ascending, or holds a value that makes no network.
    """

    head_size: int
    depth: tuple[int, ...]
    width: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]

    def __post_init__(self) -> None:
        check_number("head_size", self.head_size, LIMITS["head_size"])
        for name in ("depth", "width", "heads", "hidden"):
            check_options(name, getattr(self, name), LIMITS[name])

    @property
    def single(self) -> bool:
        """Whether the space holds one network."""
        return all(len(options) == 1 for options in (self.depth, self.width, self.heads, self.hidden))

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EncoderSpec:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: the data describe no such space.
        """
        try:
            options = {name: tuple(data[name]) for name in ("depth", "width", "heads", "hidden")}
            return cls(data["head_size"], **options)
        except (KeyError, TypeError) as error:
            raise SpaceError(f"the description of an encoder's space is malformed: {error!r}") from None


def space_within(*, head_size: int, depth: int, width: int, heads: int, hidden: int) -> EncoderSpec:
    """InstaTune's space for BERT-base, in proportion, within a pretrained network of these sizes.

    It has half of the layers or more, half to all of the heads in steps of a sixth, and a third, two thirds or all of the
    hidden channels; the width stays.
    """
    return EncoderSpec(
        head_size,
        depth=tuple(range(max(1, depth // 2), depth + 1)),
        width=(width,),
        heads=tuple(sorted({max(1, heads * part // 6) for part in (3, 4, 5, 6)})),
        hidden=tuple(sorted({max(1, hidden * part // 3) for part in (1, 2, 3)})),
    )
