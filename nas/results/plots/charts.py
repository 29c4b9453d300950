"""The description of a chart, which matplotlib and plotly draw: panels of marks between two axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.results.analysis.network_values import Point
from nas.results.plots import colours
from nas.results.plots.colours import Colour

LOG_SPAN = 8.0
"""An axis is logarithmic where its largest value is at least this many times its smallest."""
MANY_POINTS = 1000
"""More points than this are drawn as an image."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Look:
    """The style in which points are drawn.

    Attributes:
        symbol: Plotly's name of the symbol; "" for a line without symbols.
        size: Size of a symbol, in CSS pixels.
        line: Style of a line through the points in their order; "" for none.
        width: Width of the line, in CSS pixels.
        steps: Whether the line is a staircase: each value holds "after" its place until the next one, or "before" it from the
            previous one. A front is one, the cheapest point first: between two of its networks, a straight line would promise
            others that do not exist.
        errors: Opacity of each point's error bars; 0 for none.
    """

    colour: Colour
    symbol: str = ""
    size: float = 7
    hollow: bool = False
    opacity: float = 1.0
    line: Literal["", "solid", "dash", "dot"] = ""
    width: float = 2
    steps: Literal["", "after", "before"] = ""
    errors: float = 0.0


def distinct_staircase(number: int) -> Look:
    """The look of one of several staircases: colours repeat from the eighth on, where lines are dashed."""
    n_colours = len(colours.PALETTE)
    line: Literal["solid", "dash"] = "solid" if number < n_colours else "dash"
    return Look(colours.PALETTE[number % n_colours], line=line, width=2.4, steps="after")


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Points that are drawn alike.

    Attributes:
        name: Name in the legend, in which marks of one name share an entry with the look of the last; "" for no entry.
        x, y: Positions of the points, (n,) each; NaN for a gap.
        x_errors, y_errors: One standard error or the noise floor, (n,) each; None for none.
        band: Lower and upper edge of an area around the line, (n,) each.
        points: The networks of the points, for hover texts; empty where they stand for no networks.
        texts: Hover texts of points that stand for nothing in `points`, in the subset of HTML that plotly reads.
        hover: The same for all points, as plain text with ``{x}`` and ``{y:.4g}`` for the position; "" for none.
        labels: A text below each point; empty for none.
        is_clipped: False if points at the edge of the panel reach out of it.
        is_part_of_cloud: True if the points are drawn as an image because those of several series are many together.
    """

    name: str
    x: Array
    y: Array
    look: Look
    x_errors: Array | None = None
    y_errors: Array | None = None
    band: tuple[Array, Array] | None = None
    points: Sequence[Point] = ()
    texts: Sequence[str] = ()
    hover: str = ""
    labels: Sequence[str] = ()
    is_clipped: bool = True
    is_part_of_cloud: bool = False

    @property
    def is_cloud(self) -> bool:
        """True for more than `MANY_POINTS` points without lines: they are drawn as an image, with short hover texts."""
        return self.is_part_of_cloud or (len(self.x) > MANY_POINTS and not (self.look.line or self.look.errors))

    @property
    def rank(self) -> int:
        """The place of its kind in a legend: what matters most first."""
        if self.look.errors:
            return 0
        if self.look.hollow:
            return 2
        return {"x-thin": 3, "triangle-down": 4, "triangle-up": 4}.get(self.look.symbol, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """A horizontal bar in each row, the first at the top.

    Attributes:
        lengths, starts: Lengths of the bars, and positions at which they start, (rows,) each.
    """

    name: str
    lengths: Array
    starts: Array | float
    colour: Colour
    rank: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A cell for each column of each row, the darker the larger its share; the first row is at the top.

    Attributes:
        shares: Shares (rows, columns); NaN for no cell.
        texts: Texts in the cells, by row; empty for none.
        remarks: A text to the right of each row; empty for none.
        scale_title: Title of the scale of the colours, in per cent; "" for no scale.
    """

    shares: Array
    texts: Sequence[Sequence[str]] = ()
    remarks: Sequence[str] = ()
    scale_title: str = ""
    name: str = ""
    rank: int = 1


@dataclass(frozen=True, slots=True)
class Outline:
    """A rectangle around an object in a picture, with a text.

    Attributes:
        corners: Left, top, right and bottom, in pixels of the picture.
        colour: Red, green and blue, 0 to 255.
    """

    corners: tuple[float, float, float, float]
    colour: tuple[int, int, int]
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image that fills its panel, with outlines of objects; pages show pictures in their own way.

    Attributes:
        pixels: (height, width, 3), uint8.
        outlines: Objects in it, the most important first.
    """

    pixels: NDArray[np.uint8]
    outlines: Sequence[Outline] = ()
    name: str = ""
    rank: int = 1


Mark = Series | Bars | Cells | Picture


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of a panel.

    Attributes:
        ticks, labels: Positions of the ticks, and their texts; empty for those that the library chooses.
        range: Positions of its ends, None for one that the values decide.
        is_rows: True if its positions are rows, between which there are no lines.
        is_empty: True if it has no ticks.
        is_hidden: True if neither ticks nor title are shown.
    """

    title: str = ""
    ticks: Sequence[float] = ()
    labels: Sequence[str] = ()
    range: tuple[float | None, float | None] = (None, None)
    is_log: bool = False
    is_integer: bool = False
    is_rows: bool = False
    is_empty: bool = False
    is_hidden: bool = False

    @classmethod
    def of_values(cls, title: str, values: Array) -> Axis:
        """An axis that is logarithmic where positive values span far."""
        ticks = log_ticks(values)
        return cls(title, ticks, is_log=bool(ticks))

    @classmethod
    def of_rows(cls, labels: Sequence[str], *, is_hidden: bool = False) -> Axis:
        """The vertical axis of rows, from the first at the top to the last."""
        return cls("", range(len(labels)), labels, (len(labels) - 0.5, -0.5), is_rows=True, is_hidden=is_hidden)


@dataclass(frozen=True, slots=True)
class Guide:
    """A dashed line across a panel, with a text.

    Attributes:
        side: The axis on which it stands.
        text_side: Where the text of a vertical line is: on its right, on its left, or along it where the library writes so.
    """

    side: Literal["x", "y"]
    at: float
    text: str
    text_side: Literal["right", "left", "along"] = "along"


@dataclass(frozen=True, slots=True)
class Panel:
    """Marks between two axes, in drawing order, the last on top.

    Attributes:
        title: Text above the panel.
        note: Text in the middle of a panel that has nothing to show.
        spans: Start and end of areas that are shaded from top to bottom.
    """

    x: Axis
    y: Axis
    marks: Sequence[Mark] = ()
    guides: Sequence[Guide] = ()
    title: str = ""
    note: str = ""
    spans: Sequence[tuple[float, float]] = ()

    @property
    def series(self) -> list[Series]:
        """The marks that are series."""
        return [mark for mark in self.marks if isinstance(mark, Series)]


@dataclass(frozen=True)
class Chart:
    """Panels with a common heading and legend.

    Attributes:
        title, line: The heading, and a line below it.
        size: Width and height of a picture, in inches.
        n_columns: Panels beside each other in a picture.
        describe: The hover text of a network, in the subset of HTML that plotly reads.
    """

    title: str
    line: str
    panels: Sequence[Panel]
    size: tuple[float, float]
    n_columns: int = 1
    describe: Callable[[Point], str] = str

    @cached_property
    def legend(self) -> Mapping[str, Mark]:
        """The last mark of each name, what matters most first."""
        marks = {mark.name: mark for panel in self.panels for mark in panel.marks if mark.name}
        return dict(sorted(marks.items(), key=lambda entry: entry[1].rank))


def log_ticks(values: Array) -> list[float]:
    """Ticks of a logarithmic axis, from below some values to above them; none where the axis is to be linear."""
    smallest, largest = float(values.min()), float(values.max())
    if smallest <= 0 or largest / smallest < LOG_SPAN:
        return []
    powers = range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
