"""The user's own table of numbers: rows of numeric columns with a label each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supernets.data.labelled_examples import Examples, Source, malformed
from supernets.data.options import RowOptions
from supernets.data.preprocessing import RowFormat
from supernets.data.table_rows import read_single_table
from supernets.data.targets import of_cells
from supernets.data.text_files import TextFile

LABELS = ("label", "labels", "target", "class")
"""Names of a column of labels that is read if the options name none."""
LARGEST = 1e100
"""Largest size of a number in a row: the squares of larger ones, which the deviation sums, may exceed double precision."""


def number_table(path: Path, options: RowOptions, kind: str) -> tuple[Source, tuple[str, ...]]:
    """The rows of a table as float64 with their labels, and the names of their columns, in the file's order.

    Args:
        path: The table.
        options: Options of the table.
        kind: Kind of the labels, one of `supernets.data.targets`.

    Raises:
        DataError: the table is missing or damaged; a cell is no finite number; a label is of another kind.
    """
    table = read_single_table(
        path, expected="of numbers with a label in each row", expected_rows="numbers and a label in each"
    )
    label = table.column("label", options.label_column, LABELS)
    columns = tuple(name for name in table.columns if name != label)
    if not columns:
        raise malformed(f"{path}: has the column {label!r} alone; expected columns of numbers beside the label")
    inputs = np.array([_numbers(row, columns, table.file, line) for line, row in table.rows], dtype=np.float64)
    lines = tuple(f"line {line}" for line, _ in table.rows)
    cells = ["" if row.get(label) is None else str(row[label]).strip() for _, row in table.rows]
    labels = of_cells(kind, cells, lines, str(path))
    examples = Examples(inputs, labels.values, lines, labels.groups)
    return Source(str(path), labels.names, examples, noun=RowFormat.noun, targets=kind), columns


def standardisation(rows: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the deviation of each column, the latter 1 for a column of one value."""
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _numbers(row: dict[str, object], columns: Sequence[str], file: TextFile, line: int) -> list[float]:
    return [_number(row.get(column), column, file, line) for column in columns]


def _number(cell: object, column: str, file: TextFile, line: int) -> float:
    try:
        value = float(cell)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        value = math.nan
    if not abs(value) <= LARGEST:
        remedy = "write categories as columns of 0 and 1, fill gaps, or remove the column or the row"
        raise malformed(
            f"{file.where}:{line}: {column!r} is {cell!r}; expected a finite number, at most {LARGEST:.0e} in size; {remedy}"
        )
    return value
