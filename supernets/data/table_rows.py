"""Tables of rows in CSV, TSV and JSONL; every error names its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from supernets.data.labelled_examples import malformed, misplaced
from supernets.data.text_files import TextFile, read_texts

TEXTS = ("text", "sentence", "review", "content", "message")
LABELS = ("label", "class", "category", "sentiment", "target")
"""Names of columns that are read if the options name none."""
_SHOWN = 5


class Row(NamedTuple):
    """A sentence with the name of its class; its own name is for errors."""

    text: str
    label: str
    name: str


SUFFIXES = (".csv", ".tsv", ".jsonl")
"""Suffixes of tables."""


@dataclass(frozen=True)
class Table:
    """A table with at least one row.

    Attributes:
        file: Its text.
        rows: The line of each row, and its cells by column.
    """

    file: TextFile
    rows: Sequence[tuple[int, dict[str, object]]]

    @property
    def columns(self) -> list[str]:
        """The names of the columns of the first row, in their order."""
        return list(self.rows[0][1])

    def column(
        self, role: str, requested: str | None, usual: Sequence[str], columns: Sequence[str] | None = None
    ) -> str:
        """The requested column, or the one with a usual name, in upper or lower case.

        Args:
            role: Name of the option in errors, without ``_column``.
            columns: Columns to choose from; None for all.
        """
        where, columns = self.file.where, self.columns if columns is None else columns
        listed = ", ".join(map(repr, columns[:20])) + (", ..." if len(columns) > 20 else "")
        if requested is not None:
            if requested not in columns:
                raise malformed(f"{where}: has no column {requested!r}; expected {role}_column to be one of {listed}")
            return requested
        candidates = [column for column in columns if column.lower() in usual]
        if len(candidates) != 1:
            state = f"{len(candidates)} columns that may be the {role}" if candidates else f"no {role} column"
            expected = f"one of {', '.join(usual)} in the first line"
            raise malformed(f"{where}: has {state} among {listed}; expected {expected}, or give {role}_column")
        return candidates[0]

    def check_different(self, columns: Mapping[str, str]) -> None:
        """Raises `DataError` if two roles, by which columns are named, have the same column."""
        (first, column), (second, other_column) = columns.items()
        if column == other_column:
            raise malformed(
                f"{self.file.where}: {first} and {second} are both the column {column!r}; expected two columns"
            )


def table_of(file: TextFile, expected: str) -> Table:
    """The table in a file, whose suffix is one of `SUFFIXES`; raises `DataError` if it has no rows."""
    if rows := rows_of(file):
        return Table(file, rows)
    raise malformed(f"{file.where}: holds no rows; expected {expected}; add some")


def read_single_table(path: Path, *, expected: str, expected_rows: str) -> Table:
    """The table in a file in UTF-8.

    Args:
        expected, expected_rows: Kinds of table and of rows that are expected, for errors.
    """
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise misplaced(f"{path}: is no {', '.join(SUFFIXES)} table; expected one {expected}")
    return table_of(read_texts(path, encoding=None)[0], expected_rows)


def labelled_texts(file: TextFile, *, text_column: str | None, label_column: str | None) -> list[Row]:
    """The rows of a table with a text and a label in each.

    Args:
        text_column, label_column: None takes the one column with a usual name, in upper or lower case.
    """
    table = table_of(file, "a text and a label in each")
    text, label = table.column("text", text_column, TEXTS), table.column("label", label_column, LABELS)
    table.check_different({"text": text, "label": label})
    row_by_line = {line: _row(file, line, row, text, label) for line, row in table.rows}
    for i, column in enumerate((text, label)):
        empty = [line for line, row in row_by_line.items() if not row[i]]
        if empty:
            lines = ", ".join(map(str, empty[:_SHOWN])) + (", ..." if len(empty) > _SHOWN else "")
            raise malformed(f"{file.where}: {len(empty)} row(s) lack {column!r} (line {lines}); fill or remove them")
    return list(row_by_line.values())


def rows_of(file: TextFile) -> list[tuple[int, dict[str, object]]]:
    """The line of each row of a table, and its cells by column: CSV or TSV that begins with the names of its columns, or JSONL,
    an object a line."""
    return list(_json_lines(file) if file.suffix == ".jsonl" else _delimited(file, tabs=file.suffix == ".tsv"))


def _delimited(file: TextFile, *, tabs: bool) -> Iterator[tuple[int, dict[str, object]]]:
    """The line on which each row begins, and its cells by column.

    TSV has no quoting (https://www.iana.org/assignments/media-types/text/tab-separated-values); with it, a quotation mark at
    the beginning of a sentence would swallow the lines after it.
    """
    lines = io.StringIO(file.text, newline="")
    dialect: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    reader = csv.reader(lines, strict=True, **dialect)
    names: Sequence[str] | None = None
    line = 1
    try:
        for cells in reader:
            if not cells:
                pass
            elif names is None:
                names = _names(file, cells)
            elif len(cells) != len(names):
                expected = f"{len(names)} ({', '.join(names)}) as in the first line"
                hint = "a text with a delimiter in it needs quotes in a CSV file"
                raise malformed(f"{file.where}:{line}: has {len(cells)} columns; expected {expected}; {hint}")
            else:
                yield line, dict(zip(names, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "is a quote not closed, or not doubled in a text? A cell has at most"
        raise malformed(f"{file.where}:{line}: {error}; {hint} {csv.field_size_limit():,} characters") from None


def _names(file: TextFile, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise malformed(f"{file.where}: has two columns {twice[0]!r}; give each another name in the first line")
    return names


def _json_lines(file: TextFile) -> Iterator[tuple[int, dict[str, object]]]:
    """The number and the object of each line."""
    for line, text in enumerate(file.lines(), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise malformed(f"{file.where}:{line}: is no JSON ({error}); expected an object a line") from None
        if not isinstance(row, dict):
            raise malformed(f"{file.where}:{line}: is {_kind(row)}; expected an object a line")
        yield line, row


def _row(file: TextFile, line: int, row: dict[str, object], text: str, label: str) -> Row:
    missing = [column for column in (text, label) if column not in row]
    if missing:
        raise malformed(f"{file.where}:{line}: lacks {missing[0]!r}, which other rows have; add it, or remove the row")
    sentence = row[text]
    if not isinstance(sentence, str):
        raise malformed(f"{file.where}:{line}: {text!r} is {_kind(sentence)}; expected a text")
    return Row(sentence.strip(), _label(file, line, label, row[label]), f"{file.name}:{line}")


def _label(file: TextFile, line: int, column: str, value: object) -> str:
    """A label as the name of a class: text, a whole number, true or false."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int):
        return str(value).lower()
    expected = "one class: a word, a whole number, true or false"
    raise malformed(f"{file.where}:{line}: {column!r} is {_kind(value)}; expected {expected}")


def _kind(value: object) -> str:
    kinds: Iterable[tuple[type, str]] = (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number with a fraction"),
        (str, "a text"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((word for kind, word in kinds if isinstance(value, kind)), "null")
