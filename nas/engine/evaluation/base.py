"""The protocol of an evaluator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from nas.search.problem.objectives import Measurement, Request


class Evaluator(Protocol):
    """Turns requests into measurements: by measuring, from a table, from a store, or by handing them on."""

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement a request, as each arrives, in any order; a candidate's failure is a FAILED measurement.

        Raises:
            NasError: nothing can be measured at all (the worker is gone for good, the data are missing, ...).
        """

    def close(self) -> None:
        """Ends the processes that it started; idempotent."""
