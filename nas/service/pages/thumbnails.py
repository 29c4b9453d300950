"""Small pictures of fronts, as paths of SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 96, 40
_EDGE = 4.0
"""Pixels around the points."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A front as a staircase: between two members, the better one of the cheaper is what can be had.

    Attributes:
        path: the data of an SVG path.
        dots: the members' positions, in pixels from the upper left.
    """

    path: str
    dots: tuple[tuple[float, float], ...]


def thumbnail(front: Sequence[tuple[float, float]]) -> Thumbnail | None:
    """The picture of a front of pairs (cost, quality), the cheapest first; None for an empty one."""
    if not front:
        return None
    xs = _placed([cost for cost, _ in front], WIDTH, up=False)
    ys = _placed([quality for _, quality in front], HEIGHT, up=True)
    dots = tuple(zip(xs, ys, strict=True))
    steps = "".join(f"H{x:g}V{y:g}" for x, y in dots[1:])
    return Thumbnail(f"M{xs[0]:g} {ys[0]:g}{steps}", dots)


def _placed(values: Sequence[float], size: int, *, up: bool) -> list[float]:
    """Positions of values along a side of the picture; in its middle where all are equal."""
    low, high = min(values), max(values)
    shares = [(value - low) / (high - low) if high > low else 0.5 for value in values]
    return [round(_EDGE + (size - 2 * _EDGE) * (1 - share if up else share), 1) for share in shares]
