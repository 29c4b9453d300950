"""Where the calls of a metric function are made: here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import nas.engine
from nas.engine.evaluation.cluster import connected
from nas.engine.evaluation.metric_function import Calls, CallsHere, MetricFunction
from nas.engine.evaluation.process_calls import ProcessCalls
from nas.errors import NasError


class Workers(Protocol):
    """Processes that make the calls of a function."""

    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> AbstractContextManager[Calls]:
        """A context that makes the calls of a function of these metrics, and ends what it started."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Calls one after another in this process."""

    @contextmanager
    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> Iterator[Calls]:
        yield CallsHere(function, metrics)


@dataclass(frozen=True, slots=True)
class Processes:
    """Calls in processes of this machine, started by ``spawn``.

    The function must be importable, and a script that calls `nas.optimize` needs ``if __name__ == "__main__":``, as for any use
    of `multiprocessing`.

    Args:
        n: Number of processes, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n, "Processes")

    @contextmanager
    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> Iterator[Calls]:
        calls = ProcessCalls(function, metrics, workers=self.n)
        try:
            yield calls
        finally:
            calls.close()


@dataclass(frozen=True, slots=True)
class RayWorkers:
    """Calls by actors on a Ray cluster, of one core each. Any function can be sent, closures too.

    A cluster that is connected already is used and stays connected; otherwise one is started, or joined, until the search
    ends.

    Args:
        n: Maximum number of actors; None for as many as the cluster has CPUs.
        address: Address of a running cluster; None starts one on this machine.
        time_limit_s: Time limit for one call, which fails after it; None derives it from the longest call so far.
    """

    n: int | None = None
    address: str | None = None
    time_limit_s: float | None = None

    def __post_init__(self) -> None:
        if self.n is not None:
            _check_count(self.n, "RayWorkers")

    @contextmanager
    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> Iterator[Calls]:
        with connected(self.address, spread=True, cpus=self.n):
            calls = nas.engine.RayCalls(function, metrics, workers=self.n, time_limit_s=self.time_limit_s)
            try:
                yield calls
            finally:
                calls.close()


def _check_count(n: object, name: str) -> None:
    if not isinstance(n, int) or n < 1:
        raise NasError(f"nas.{name}({n!r}): expected a whole number of at least 1", code="optimize.invalid")
