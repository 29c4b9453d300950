"""Dimensions that the specs of both encoders have in common (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from supernets.families.shared.spec import Number, Options, Spec

Kept = Literal["first", "spread"]
KEPT = get_args(Kept)
"""Which layers a smaller depth may keep."""


@dataclass(frozen=True)
class LayersSpec(Spec):
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
    """

    head_size: Annotated[int, Number(512, "a number of channels")]
    depth: Annotated[tuple[int, ...], Options(64)]
    width: Annotated[tuple[int, ...], Options(8192)]
    heads: Annotated[tuple[int, ...], Options(128)]
    hidden: Annotated[tuple[int, ...], Options(65536)]
    kept: Kept = field(default="first", kw_only=True)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "kept": self.kept}  # in the digests of earlier versions, though at its default


def sixths(whole: int, parts: Sequence[int]) -> tuple[int, ...]:
    """Options of these sixths of a size of a pretrained network, each at least 1."""
    return tuple(sorted({max(1, whole * part // 6) for part in parts}))
