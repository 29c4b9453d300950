"""The display of a result in a notebook, as HTML."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from nas.engine.formatting import format_value, miss_text, outline, title_of
from nas.results.analysis.report import RunReport

_ROWS = 20
"""Members of the front that the table lists, at most."""
_COLUMNS = 6
"""Choices that have a column each, at most; more are outlined in one."""
_TABLE = "color:inherit;font:inherit;font-variant-numeric:tabular-nums;border-collapse:collapse"


def html(report: RunReport, picture: bytes | None = None) -> str:
    """The front as a table.

    Args:
        report: The report of a search.
        picture: Picture of the front as SVG, which is shown before the table.
    """
    volume = "" if report.front_hypervolume is None else f", hypervolume {report.front_hypervolume:.4g}"
    head = f"{report.evaluations_text}; {len(report.front)} on the front{volume}"
    parts = [f"<p><strong>{escape(report.name)}</strong> · {escape(head)}</p>"]
    if report.nearest is not None:
        parts.append(
            f"<p>No candidate satisfies the constraints; nearest: {escape(miss_text(report.nearest.miss))}</p>"
        )
    if picture is not None:
        source = f"data:image/svg+xml;base64,{b64encode(picture).decode()}"
        parts.append(f'<img alt="The front" style="max-width:100%" src="{source}"/>')
    if report.front:
        parts.append(_table(report))
    return f'<div class="nas-result">{"".join(parts)}</div>'


def _table(report: RunReport) -> str:
    choices = [choice.name for choice in report.space.choices]
    separate = len(choices) <= _COLUMNS
    header = [title_of(metric) for metric in report.columns]
    rows = []
    for point in report.front[:_ROWS]:
        options = point.described
        option_cells = (
            [str(options.get(name, "–")) for name in choices] if separate else [outline(options, report.space.titles)]
        )
        rows.append(
            [*(format_value(m, point.values[m.name], point.errors[m.name]) for m in report.columns), *option_cells]
        )
    body = "".join(_row("td", row) for row in rows)
    more = len(report.front) - len(rows)
    note = f"<p>and {more} more</p>" if more > 0 else ""
    titles = _row("th", [*header, *(choices if separate else ["options"])])
    table = f'<table style="{_TABLE}"><thead>{titles}</thead><tbody>{body}</tbody></table>'
    return f'<div style="overflow-x:auto">{table}</div>{note}'


def _row(cell: str, texts: Sequence[str]) -> str:
    cells = (f'<{cell} style="padding:.2em .8em;text-align:right">{escape(text)}</{cell}>' for text in texts)
    return f"<tr>{''.join(cells)}</tr>"
