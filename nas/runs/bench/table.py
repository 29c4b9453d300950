"""Tables of published measurements, and the evaluator that reads from one."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import UnknownNameError
from nas.runs.bench.errors import TableError
from nas.runs.bench.gene_columns import space_of
from nas.runs.bench.table_file import columns, description, numbers
from nas.search.problem.objectives import Measurement, Request, Status
from supernets.space import Architecture, SearchSpace


@dataclass(frozen=True, slots=True)
class Table:
    """Measurements of the architectures of one space.

    Attributes:
        name: Name of the file.
        architectures: One per row, in the file's order; all different unless the table is `numeric`.
        values: Values by column, one per row; the mean where the file has several rows of an architecture; NaN for an empty
            cell.
        errors: Standard errors of the values by column, one per row: from the scatter of an architecture's rows; 0 for one row.
        exhaustive: True if every architecture of the space is a row.
        rows: Row number by architecture; the first of several.
        digest: Digest of the CSV file and its description.
        numeric: True if genes are numbers (averages, say), not options. They may not distinguish all architectures: predictors
            can be trained on all rows, but searches not be replayed.
    """

    name: str
    space: SearchSpace
    architectures: tuple[Architecture, ...]
    values: Mapping[str, tuple[float, ...]]
    exhaustive: bool
    rows: Mapping[Architecture, int]
    errors: Mapping[str, tuple[float, ...]]
    digest: str = ""
    numeric: bool = False

    @classmethod
    def load(cls, path: Path | str) -> Table:
        """The table that a YAML file describes.

        The file has the keys ``table`` (a CSV file beside it, which may end in .gz), ``genes`` (columns; the others are
        metrics), ``exhaustive`` and ``numeric`` (optional; genes are averages, each different value is an option).
        Rows of one architecture, such as trainings from several seeds, are averaged, unless the table is numeric.

        Raises:
            NasError: a file is missing or malformed, a gene has no column, a value is not a number, an inactive gene has no
                single explanation, or an exhaustive table lacks architectures.
        """
        path = Path(path)
        file, genes, exhaustive, numeric = description(path)
        cells = columns(file)
        missing = [gene for gene in genes if gene not in cells]
        if missing:
            raise UnknownNameError("gene column", missing[0], cells, where=f"{path} ('genes')")
        space, architectures = space_of({gene: cells.pop(gene) for gene in genes}, source=str(file))
        if not cells:
            raise TableError(f"{file}: has gene columns only; expected at least one column of measurements")
        values = {name: numbers(column, f"{file}: column {name!r}") for name, column in cells.items()}
        rows = _rows_by_architecture(architectures)
        if not numeric:
            architectures = list(rows)
            groups = list(rows.values())
            means = {name: tuple(_mean(column, group) for group in groups) for name, column in values.items()}
            errors = {name: tuple(_error(column, group) for group in groups) for name, column in values.items()}
            rows = {architecture: [row] for row, architecture in enumerate(architectures)}
        else:
            means, errors = values, {name: (0.0,) * len(column) for name, column in values.items()}
        if exhaustive and len(rows) != space.size:
            raise TableError(
                f"{path}: exhaustive is true, but {file.name} has {len(rows)} of the {space.size} architectures "
                "of its space; add the missing rows, or set 'exhaustive: false'",
                code="table.incomplete",
            )
        first = {architecture: architecture_rows[0] for architecture, architecture_rows in rows.items()}
        digest = hashlib.sha256(path.read_bytes() + file.read_bytes()).hexdigest()[:16]
        return cls(file.name, space, tuple(architectures), means, exhaustive, first, errors, digest, numeric)

    def check_replayable(self) -> None:
        """Raises `TableError` (code ``table.disagreement``) where averages do not distinguish the architectures of rows."""
        if len(self.rows) < len(self.architectures):
            raise TableError(
                f"{self.name}: its genes are averages (numeric: true), and {len(self.architectures)} rows have only "
                f"{len(self.rows)} different genes; searches need genes that determine the architecture",
                code="table.disagreement",
            )

    def value(self, architecture: Architecture, column: str) -> float | None:
        """The value of an architecture in a column; None where the table has none.

        Raises:
            UnknownNameError: there is no such column of measurements.
        """
        if column not in self.values:
            raise UnknownNameError("column", column, self.values, where=self.name)
        row = self.rows.get(architecture)
        value = math.nan if row is None else self.values[column][row]
        return None if math.isnan(value) else value


class TableEvaluator:
    """Answers requests of any fidelity with a table's values and their errors; a value that it lacks is FAILED.

    Args:
        columns: The table's column by objective name, e.g. ``{"latency_ms@raspi4": "latency_ms_raspi4"}``.
        scales: Factor by objective name from the column's unit to the objective's, e.g. 0.01 for accuracies in per
            cent; 1 by default.
        delay_s: Time that each evaluation takes, for tests of interruption.

    Raises:
        TableError: the genes of a numeric table do not distinguish its rows.
        UnknownNameError: the table has no such column, or a scale is for an objective without one.
    """

    def __init__(
        self,
        table: Table,
        columns: Mapping[str, str],
        *,
        scales: Mapping[str, float] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        table.check_replayable()
        self._table, self._columns, self._scales, self._delay_s = table, dict(columns), dict(scales or {}), delay_s
        for column in self._columns.values():
            if column not in table.values:
                raise UnknownNameError("column", column, table.values, where=table.name)
        for objective in self._scales:
            if objective not in self._columns:
                raise UnknownNameError("objective", objective, self._columns, where=f"the scales of {table.name}")

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement per request, in their order.

        Raises:
            UnknownNameError: an objective that no column was given for.
        """
        for request in requests:
            if request.name not in self._columns:
                raise UnknownNameError("objective", request.name, self._columns, where=self._table.name)
        for request in requests:
            if self._delay_s:
                time.sleep(self._delay_s)
            yield self._answer(request)

    def close(self) -> None:
        """Does nothing: a table has no processes."""

    def _answer(self, request: Request) -> Measurement:
        objective = request.name
        column = self._columns[objective]
        value = self._table.value(request.architecture, column)
        origin: dict[str, Any] = {"protocol": "table", "environment": {"table": self._table.name, "column": column}}
        if value is None:
            why = f"{self._table.name} has no {column} of architecture {request.architecture.key}"
            return Measurement(request, Status.FAILED, None, None, message=why, **origin)
        error, scale = (
            self._table.errors[column][self._table.rows[request.architecture]],
            self._scales.get(objective, 1.0),
        )
        return Measurement(request, Status.OK, value * scale, error * abs(scale), **origin)


def _rows_by_architecture(architectures: Sequence[Architecture]) -> dict[Architecture, list[int]]:
    rows: dict[Architecture, list[int]] = {}
    for row, architecture in enumerate(architectures):
        rows.setdefault(architecture, []).append(row)
    return rows


def _mean(column: Sequence[float], rows: Sequence[int]) -> float:
    """Mean of the rows that have a value; NaN if none has."""
    values = _present_values(column, rows)
    return statistics.fmean(values) if values else math.nan


def _error(column: Sequence[float], rows: Sequence[int]) -> float:
    """Standard error of the mean of the rows that have a value; 0 for less than two."""
    values = _present_values(column, rows)
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _present_values(column: Sequence[float], rows: Sequence[int]) -> list[float]:
    return [column[row] for row in rows if not math.isnan(column[row])]
