"""A panel of a front as a small SVG for pages and notebooks, light or dark; needs no matplotlib."""

from __future__ import annotations

import math
from html import escape

import numpy as np
from numpy.typing import NDArray

from nas.visualization import colours
from nas.visualization.front_panels import Axis, Panel, Series

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 44
"""Pixels around the axes."""
_TICKS = 5
_RADIUS = 0.45
"""Of a symbol's size."""

Array = NDArray[np.float64]


class _Scale:
    """Positions of values along one side, linear or logarithmic."""

    def __init__(self, axis: Axis, values: Array, start: float, end: float) -> None:
        self.is_log, self._start, self._end = bool(axis.ticks), start, end
        low, high = (float(found) for found in (self._of(values).min(), self._of(values).max()))
        margin = 0.04 * (high - low) or abs(low) * 0.05 or 1.0
        self._low, self._high = low - margin, high + margin
        ticks = axis.ticks if self.is_log else _round_ticks(self._low, self._high)
        self.ticks = [tick for tick in ticks if self._low <= float(self._of(np.array(tick))) <= self._high]

    def _of(self, values: Array) -> Array:
        return np.log10(values) if self.is_log else values

    def __call__(self, values: Array) -> Array:
        share = (self._of(values) - self._low) / (self._high - self._low)
        return np.round(self._start + share * (self._end - self._start), 1)


def legend(panel: Panel) -> list[tuple[str, str]]:
    """The names of what a panel shows, what lies on top first, each with its colour of `panel_svg`."""
    return list({series.name: _colour(series) for series in reversed(panel.series)}.items())


def _colour(series: Series) -> str:
    """The colour on a light page, which is seen on a dark one, too; the page's own in place of black."""
    return "currentColor" if series.look.colour == colours.NEAREST else series.look.colour.light


def panel_svg(panel: Panel) -> str:
    """The picture of a panel; text and lines have the page's colour (``currentColor``), on no background.

    Only circles are drawn, triangles as circles, and no error bars.
    """
    x = _Scale(panel.x, np.concatenate([series.x for series in panel.series]), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(panel.y, np.concatenate([series.y for series in panel.series]), _HEIGHT - _BOTTOM, _TOP)
    parts = [*_axes(panel, x, y), *(part for series in panel.series for part in _drawn(series, x, y))]
    label = escape(f"{panel.y.title} against {panel.x.title}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" '
        f'style="width:100%;max-width:{_WIDTH}px;height:auto;font:12px system-ui,sans-serif">{"".join(parts)}</svg>'
    )


def _axes(panel: Panel, x: _Scale, y: _Scale) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    line = '<path d="{}" fill="none" stroke="currentColor" stroke-opacity="{}"/>'
    text = '<text x="{:g}" y="{:g}" text-anchor="{}" fill="currentColor" fill-opacity=".75">{}</text>'
    parts = [line.format(f"M{_LEFT} {_TOP}V{bottom}H{right}", ".4")]
    for tick, place in zip(x.ticks, x(np.array(x.ticks)).tolist() if x.ticks else [], strict=True):
        parts += [
            line.format(f"M{place:g} {_TOP}V{bottom}", ".12"),
            text.format(place, bottom + 16, "middle", f"{tick:g}"),
        ]
    for tick, place in zip(y.ticks, y(np.array(y.ticks)).tolist() if y.ticks else [], strict=True):
        parts += [
            line.format(f"M{_LEFT} {place:g}H{right}", ".12"),
            text.format(_LEFT - 6, place + 4, "end", f"{tick:g}"),
        ]
    parts.append(text.format((_LEFT + right) / 2, _HEIGHT - 8, "middle", escape(panel.x.title)))
    turned = text.format(0, 0, "middle", escape(panel.y.title))
    parts.append(f'<g transform="translate(12 {(_TOP + bottom) / 2:g}) rotate(-90)">{turned}</g>')
    return parts


def _drawn(series: Series, x: _Scale, y: _Scale) -> list[str]:
    look, xs, ys = series.look, x(series.x).tolist(), y(series.y).tolist()
    colour, parts = _colour(series), []
    if look.line and xs:
        steps = "".join(f"H{a:g}V{b:g}" if look.steps else f"L{a:g} {b:g}" for a, b in zip(xs[1:], ys[1:], strict=True))
        dash = ' stroke-dasharray="4 3"' if look.line == "dash" else ""
        parts.append(
            f'<path d="M{xs[0]:g} {ys[0]:g}{steps}" fill="none" stroke="{colour}" stroke-width="1.6"'
            f' stroke-opacity="{look.opacity:g}"{dash}/>'
        )
    if look.symbol or not look.line or look.errors:
        fill = f'fill="none" stroke="{colour}"' if look.hollow else f'fill="{colour}"'
        dots = "".join(
            f'<circle cx="{a:g}" cy="{b:g}" r="{_RADIUS * look.size:g}"/>' for a, b in zip(xs, ys, strict=True)
        )
        parts.append(f'<g {fill} opacity="{look.opacity:g}"><title>{escape(series.name)}</title>{dots}</g>')
    return parts


def _round_ticks(low: float, high: float) -> list[float]:
    """About five multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
