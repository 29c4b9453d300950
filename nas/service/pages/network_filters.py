"""The query of a page's address that filters, sorts and turns a table of networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nas.engine.formatting import shown_scale, title_of
from nas.errors import SelectionError
from nas.search.problem.objectives import Objective

_SIGNS = {"min": ">=", "max": "<="}


def ranges_of(parameters: Mapping[str, str], metrics: Sequence[Objective]) -> dict[str, str]:
    """The bounds of metrics in a query, as they were written: ``min.NAME`` and ``max.NAME``; "" where there is none."""
    names = [f"{end}.{metric.name}" for metric in metrics for end in _SIGNS]
    return {name: parameters.get(name, "").strip()[:40] for name in names}


def selection_of(ranges: Mapping[str, str], metrics: Sequence[Objective]) -> str | None:
    """Bounds in the units shown as an expression for `parse_limits`; None without any.

    Raises:
        SelectionError: a bound is not a finite number.
    """
    terms = []
    for metric in metrics:
        for end, sign in _SIGNS.items():
            if text := ranges[f"{end}.{metric.name}"]:
                bound = _number(text, metric) / shown_scale(metric)
                terms.append(f"{metric.name}{sign}{bound:.15g}")  # so that 30 M is exactly 30,000,000
    return ", ".join(terms) or None


def _number(text: str, metric: Objective) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SelectionError(f"{title_of(metric)}: {text!r} is not a number", code="selection.malformed")
    return number
