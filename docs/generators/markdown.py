"""Tables and texts of generated pages in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are Markdown of one line, in which `|` is escaped."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def code(text: object) -> str:
    """A text as code within a line; "" for an empty text."""
    return f"`{text}`" if str(text) else ""


def sentence(text: str) -> str:
    """A text of several lines as one line that begins with a capital and ends with a full stop; "" for an empty text."""
    joined = " ".join(text.split())
    if not joined:
        return ""
    return joined[0].upper() + joined[1:] + ("" if joined.endswith((".", "!", "?", ":")) else ".")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
