"""Where the calls of a metric function are made: here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import nas.engine
from nas.engine.evaluation.base import InlinePool, Outcome, Pool
from nas.engine.evaluation.cluster import connected
from nas.engine.evaluation.metric_function import Call, CallResult, MetricFunction, checked_call, name_of
from nas.errors import EvaluationError, NasError

Calls = Pool[Call, CallResult]


class Workers(Protocol):
    """Processes that make the calls of a function."""

    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> AbstractContextManager[Calls]:
        """A context that makes the calls of a function of these metrics, and ends what it started."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Calls one after another in this process."""

    @contextmanager
    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> Iterator[Calls]:
        yield InlinePool(partial(checked_call, function, metrics))


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
        with closing(ProcessPool(function, metrics, workers=self.n)) as calls:
            yield calls


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
            # An actor makes its worker of the function: partial(checked_call, function, metrics).
            worker = (checked_call, function, tuple(metrics))
            with closing(
                nas.engine.ActorPool[Call, CallResult](partial, worker, workers=self.n, time_limit_s=self.time_limit_s)
            ) as calls:
                yield calls


class ProcessPool:
    """Calls by processes of this machine, which import the function's module anew.

    Where a process dies (a crash in native code, the system's killer of processes that take too much memory), the calls
    that had no answer yet are made again one at a time, so that the one that kills its process is known; it fails.

    Raises:
        EvaluationError: the function cannot be sent to another process: it is no function of a module.
    """

    def __init__(self, function: MetricFunction, metrics: Sequence[str], *, workers: int) -> None:
        try:
            pickle.dumps(function)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise EvaluationError(
                f"{name_of(function)} cannot be sent to another process ({error}); define it at the top level of a "
                "module, or use nas.RayWorkers, which sends any function",
                code="evaluation.not-picklable",
            ) from error
        self._name, self._workers = name_of(function), workers
        self._call = partial(checked_call, function, metrics)
        self._pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Sequence[Call]) -> Iterator[Outcome[Call, CallResult]]:
        call_by_future = {self._submit(call): call for call in tasks}
        lost = set()
        for future in as_completed(call_by_future):
            if (result := self._result(future)) is None:
                lost.add(call_by_future[future].architecture)
            else:
                yield Outcome(call_by_future[future], result)
        for call in tasks:
            if call.architecture in lost:
                result = self._result(self._submit(call))
                yield Outcome(call, result or CallResult({}, f"{self._name}({dict(call.values)}) ended its process"))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _submit(self, call: Call) -> Future[CallResult]:
        if self._pool is None:
            # Forked processes would share locks of this one's threads, which may be held when they are made.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, mp_context=context)
        try:
            return self._pool.submit(self._call, call)
        except BrokenProcessPool as error:  # another call broke it meanwhile
            broken: Future[CallResult] = Future()
            broken.set_exception(error)
            return broken

    def _result(self, future: Future[CallResult]) -> CallResult | None:
        """The result of a call; None where a process died before it, and the pool with it."""
        try:
            return future.result()
        except BrokenProcessPool:
            self.close()
            return None


def _check_count(n: object, name: str) -> None:
    if not isinstance(n, int) or n < 1:
        raise NasError(f"nas.{name}({n!r}): expected a whole number of at least 1", code="optimize.invalid")
