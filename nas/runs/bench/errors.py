"""Errors of benchmarks and of the tables that they read."""

from nas.errors import EvaluationError


class BenchmarkError(EvaluationError):
    """A benchmark cannot be run with these numbers or columns."""

    code = "benchmark.invalid"


class TableError(EvaluationError):
    """The description or the CSV file of a table of measurements is malformed."""

    code = "table.invalid"
