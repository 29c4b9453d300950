"""Dimensions of the elastic encoders, of sentences and of images, as values that check themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from supernets.errors import SpaceError
from supernets.families.options import check_number, check_options

LIMITS = {"patch": 256, "head_size": 512, "depth": 64, "width": 8192, "heads": 128, "hidden": 65536}
"""Largest value of each dimension: far above what anybody trains, low enough that a slip of the finger is caught."""
ELASTIC = ("depth", "width", "heads", "hidden")
"""The dimensions that have options."""
KEPT = ("first", "spread")
"""Which layers a smaller depth may keep."""


@dataclass(frozen=True, slots=True)
class LayersSpec:
    """The layers of a whole space of transformers, with the options of its elastic dimensions, each smallest first.

    Depth and width are chosen once for the network; heads and the MLP's hidden channels anew for each layer, from the same
    options, as InstaTune has them (Sarah et al. 2023, arXiv 2308.15609), whose width is fixed.

    Attributes:
        head_size: channels of a head.
        depth: numbers of layers.
        width: channels of a token.
        heads: of a layer's attention.
        hidden: channels of a layer's MLP.
        kept: which layers a smaller depth keeps: the ``first``, or layers ``spread`` from first to last. In a pretrained
            network the last ones gather what the classifier reads: without them, small parts of MiniLM stayed at chance after
            a short training (tests/benchmarks, "Parts of a pretrained network").

    Raises:
        SpaceError: an option list is empty, not ascending, or holds a value that makes no network.
    """

    head_size: int
    depth: tuple[int, ...]
    width: tuple[int, ...]
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    kept: str = field(default="first", kw_only=True)

    def __post_init__(self) -> None:
        if self.kept not in KEPT:
            raise SpaceError(f"kept: expected {' or '.join(KEPT)}, got {self.kept!r}")
        for name, largest in LIMITS.items():
            if hasattr(self, name):
                check = check_options if name in ELASTIC else check_number
                check(name, getattr(self, name), largest)

    @property
    def single(self) -> bool:
        """Whether the space holds one network."""
        return all(len(getattr(self, name)) == 1 for name in ELASTIC)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The space that `to_json` wrote.

        Raises:
            SpaceError: the data describe no such space.
        """
        try:
            values: dict[str, Any] = {field.name: data[field.name] for field in fields(cls) if field.name != "kept"}
            values |= {name: tuple(values[name]) for name in ELASTIC}
            return cls(**values, kept=data.get("kept", "first"))  # checkpoints of before there was a choice
        except (KeyError, TypeError) as error:
            raise SpaceError(f"the description of an encoder's space is malformed: {error!r}") from None


@dataclass(frozen=True, slots=True)
class EncoderSpec(LayersSpec):
    """A whole space of the family encoder: sentences."""


@dataclass(frozen=True, slots=True)
class ViTEncoderSpec(LayersSpec):
    """A whole space of the family vit-encoder: images.

    Attributes:
        patch: side of a patch in pixels.
    """

    patch: int


def space_within(*, head_size: int, depth: int, width: int, heads: int, hidden: int) -> EncoderSpec:
    """InstaTune's space for BERT-base, in proportion, within a pretrained network of these sizes.

    It has half of the layers or more, half to all of the heads in steps of a sixth, and a third, two thirds or all of the
    hidden channels; the width stays. Smaller depths keep layers spread over all.
    """
    return EncoderSpec(
        head_size,
        depth=tuple(range(max(1, depth // 2), depth + 1)),
        width=(width,),
        heads=_parts(heads, (3, 4, 5, 6)),
        hidden=_parts(hidden, (2, 4, 6)),
        kept="spread",
    )


def vit_space_within(*, head_size: int, depth: int, width: int, heads: int, hidden: int, patch: int) -> ViTEncoderSpec:
    """InstaTune's space for ViT-B/16, in proportion, within a pretrained network of these sizes.

    It has eleven twelfths of the layers or more, half to all of the heads in steps of a sixth, and two thirds, five sixths or
    all of the hidden channels; the width stays. Smaller depths keep layers spread over all.
    """
    return ViTEncoderSpec(
        head_size,
        depth=tuple(range(max(1, depth * 11 // 12), depth + 1)),
        width=(width,),
        heads=_parts(heads, (3, 4, 5, 6)),
        hidden=_parts(hidden, (4, 5, 6)),
        kept="spread",
        patch=patch,
    )


def _parts(whole: int, sixths: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({max(1, whole * part // 6) for part in sixths}))
