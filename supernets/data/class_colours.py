"""Colours by which pictures tell classes apart."""

from __future__ import annotations

import colorsys


def colour_of(label: int) -> tuple[int, int, int]:
    """A colour for a class, far from those of the classes before it: hues in steps of the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
