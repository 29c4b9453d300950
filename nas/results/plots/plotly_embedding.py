"""Plotly charts as parts of a page, from plain data.

Plotly's Python package is not imported: importing it and validating a chart takes longer than reading a run of thousands
of networks. The tests validate the same data with it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CONFIG = {"displayModeBar": False, "responsive": True}  # a double click resets the zoom
_DIV = Template("""<div style="height:$height; width:100%;"><div id="$name" class="plotly-graph-div" \
style="height:100%; width:100%;"></div>
<script>Plotly.newPlot("$name", $traces, $layout, $config);</script></div>""")


@dataclass(frozen=True, slots=True)
class Chart:
    """The arguments of `Plotly.newPlot`: traces in drawing order, the layout, and the height as a CSS length."""

    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    height: str

    def div(self, name: str) -> str:
        """The chart as a part of a page that has `script` before it; `name` must be unique in the page."""
        parts = {"traces": self.traces, "layout": self.layout, "config": _CONFIG}
        return _DIV.substitute(name=name, height=self.height, **{part: _json(value) for part, value in parts.items()})


def script() -> str:
    """Plotly's script as a part of a page (about 5 MB)."""
    text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return f"<script>window.PlotlyConfig = {{MathJaxConfig: 'local'}};</script>\n<script>{text}</script>"


def array(values: NDArray[np.float64] | NDArray[np.int64]) -> dict[str, str]:
    """Numbers (n,) as bytes, which plotly's script reads fastest; NaN is a gap.

    JavaScript has no 64-bit integers, so integers become floats, which are exact up to 2 ** 53.
    """
    return {"dtype": "f8", "bdata": b64encode(values.astype("<f8").tobytes()).decode()}


def _json(value: Any) -> str:
    """JSON in which no text ends the script element that holds it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
