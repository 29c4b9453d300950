"""Finished rows of a benchmark, and the file with which an interrupted benchmark goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from nas.runs.bench.errors import BenchmarkError


class Result(Protocol):
    """A row of a benchmark, a dataclass."""

    @property
    def key(self) -> tuple[str | int, ...]:
        """The key of the row within the settings of a benchmark, e.g. an algorithm and a seed."""
        ...


R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Row:
    """One run of one algorithm.

    Attributes:
        evaluations_to: Number of evaluations that reached a share, by share (``0.99``); None if none did.
        hypervolume: Pairs of a number of evaluations and the share of the exact front's hypervolume after them, at the
            end of every batch and wherever it grew.
        own_seconds: CPU time, on one thread, of the algorithm and the loop with its store and the table's answers.
    """

    algorithm: str
    seed: int
    evaluations_to: Mapping[str, int | None]
    hypervolume: Sequence[tuple[int, float]]
    own_seconds: float

    @property
    def key(self) -> tuple[str | int, ...]:
        """Algorithm and seed."""
        return self.algorithm, self.seed

    @property
    def evaluations(self) -> int:
        """The number of evaluations."""
        return self.hypervolume[-1][0]

    @property
    def share(self) -> float:
        """The share at the end."""
        return self.hypervolume[-1][1]


class ResultsFile(Generic[R]):
    """JSON lines, one for each row, with the settings that it belongs to.

    Several benchmarks, of different tables say, may share a file.
    """

    def __init__(self, path: Path, row: type[R]) -> None:
        self.path, self._rows = path, TypeAdapter(row)

    def read(self, settings: Mapping[str, Any]) -> dict[tuple[str | int, ...], R]:
        """The rows of these settings, by key; none where there is no file.

        Raises:
            BenchmarkError: the file cannot be read, or a line is no row. A last line that was cut by a kill is left out.
        """
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise BenchmarkError(f"{self.path}: cannot be read: {error}; name another file") from None
        lines = text.split("\n")[:-1]  # the last one ends without a newline only where a kill cut it
        row_by_key: dict[tuple[str | int, ...], R] = {}
        for number, line in enumerate(lines, start=1):
            try:
                data = json.loads(line)
                if data["settings"] == settings:
                    row = self._rows.validate_python(data["row"])
                    row_by_key[row.key] = row
            except (ValueError, KeyError, TypeError, AttributeError):
                message = f"{self.path}: line {number} is no result of a benchmark; name another file, or remove it"
                raise BenchmarkError(message) from None
        if len(text) > sum(map(len, lines)) + len(lines):
            self.path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return row_by_key

    def add(self, row: R, settings: Mapping[str, Any]) -> None:
        """Appends a row; `BenchmarkError` where it cannot be written."""
        line = json.dumps({"settings": dict(settings), "row": self._rows.dump_python(row)})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise BenchmarkError(f"{self.path}: cannot be written: {error.strerror or error}") from None
