"""Lines of tables in Markdown."""

from __future__ import annotations


def table_row(*cells: object) -> str:
    """A line with these cells."""
    return f"| {' | '.join(map(str, cells))} |"


def table_head(*names: object) -> str:
    """The two lines above a table's rows."""
    return f"{table_row(*names)}\n|{'---|' * len(names)}"
