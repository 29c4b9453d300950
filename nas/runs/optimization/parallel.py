"""Where the calls of a metric function are made: here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

import nas.engine
from nas.engine.evaluation.base import InlinePool, Outcome, Pool
from nas.engine.evaluation.cluster import connected
from nas.engine.evaluation.metric_function import Call, CallResult, MetricFunction, checked_call, name_of
from nas.errors import EvaluationError, NasError

Calls = Pool[Call, CallResult]
_LOOK_S = 1.0
"""Time between two looks at the processes, in seconds, while no answer arrives."""
_EXIT_S = 5.0
"""Time that an idle process may take to end, in seconds."""


class Workers(Protocol):
    """Processes that make the calls of a function."""

    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> AbstractContextManager[Calls]:
        """A context that makes the calls of a function of these metrics, and ends what it started.

        Args:
            function: Function that returns the metrics of a candidate.
            metrics: Names of the metrics that each call must return.
        """


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
        time_limit_s: Time limit of one call, in seconds: its process is killed after it, and the candidate fails; None for no
            limit.
    """

    n: int
    time_limit_s: float | None = None

    def __post_init__(self) -> None:
        _check_count(self.n, "Processes")
        _check_limit(self.time_limit_s, "Processes")

    @contextmanager
    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> Iterator[Calls]:
        """A context with the processes, which start with the calls and end with the context.

        Args:
            function: Function that returns the metrics of a candidate; `EvaluationError` unless other processes can import it.
            metrics: Names of the metrics that each call must return.
        """
        with closing(ProcessPool(function, metrics, workers=self.n, time_limit_s=self.time_limit_s)) as calls:
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
        _check_limit(self.time_limit_s, "RayWorkers")

    @contextmanager
    def calling(self, function: MetricFunction, metrics: Sequence[str]) -> Iterator[Calls]:
        """A context with the actors, connected to the cluster of `address`.

        Args:
            function: Function that returns the metrics of a candidate, which is sent to each actor.
            metrics: Names of the metrics that each call must return.
        """
        with connected(self.address, spread=True, cpus=self.n):
            # An actor makes its worker of the function: partial(checked_call, function, metrics).
            worker = (checked_call, function, tuple(metrics))
            with closing(
                nas.engine.ActorPool[Call, CallResult](partial, worker, workers=self.n, time_limit_s=self.time_limit_s)
            ) as calls:
                yield calls


@dataclass(slots=True)
class _Worker:
    """A process that makes calls one after another, and what it does.

    Attributes:
        call: The call that it makes; None while it is idle.
        until: The time by which the call must have ended; infinity without a limit, and before the process has started.
    """

    process: BaseProcess
    connection: Connection
    call: Call | None = None
    until: float = math.inf


class ProcessPool:
    """Calls by processes of this machine, which import the function's module anew.

    A call fails whose process dies (a crash in native code, the system's killer of processes that take too much memory), or
    that exceeds the time limit; the other calls are not affected.

    Args:
        function: The function.
        metrics: Names of the metrics that it returns.
        workers: Number of processes.
        time_limit_s: Time limit of a call, in seconds, after which its process is killed; None for no limit.

    Raises:
        EvaluationError: the function cannot be sent to another process: it is no function of a module.
    """

    def __init__(
        self, function: MetricFunction, metrics: Sequence[str], *, workers: int, time_limit_s: float | None = None
    ) -> None:
        try:
            pickle.dumps(function)
            if getattr(function, "__module__", "") == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
                raise TypeError("its program has no file that another process could import")  # python -c, or a prompt
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise EvaluationError(
                f"{name_of(function)} cannot be sent to another process ({error}); define it at the top level of a "
                "module, or use nas.RayWorkers, which sends any function",
                code="evaluation.not-picklable",
            ) from error
        self._name, self._n, self._limit_s = name_of(function), workers, time_limit_s or math.inf
        self._call = partial(checked_call, function, metrics)
        self._workers: list[_Worker] = []
        self._waiting: deque[Call] = deque()

    def run(self, tasks: Sequence[Call]) -> Iterator[Outcome[Call, CallResult]]:
        """One outcome per call, as each is done, in any order."""
        self._waiting = deque(tasks)
        while outcomes := self.finished():
            yield from outcomes

    def slots(self) -> int:
        return self._n if self._n > 1 else 0

    def start(self, task: Call) -> None:
        self._waiting.append(task)

    def finished(self) -> Sequence[Outcome[Call, CallResult]]:
        """The outcomes of calls that have ended: waits for at least one; none if nothing was started."""
        outcomes: list[Outcome[Call, CallResult]] = []
        while not outcomes and (self._waiting or any(worker.call for worker in self._workers)):
            self._hand_out()
            busy = [worker for worker in self._workers if worker.call]
            first = min(worker.until for worker in busy)
            timeout = min(_LOOK_S, max(0.0, first - time.monotonic()))
            answered = wait([worker.connection for worker in busy], timeout)
            # A process that a dead worker has forked keeps the connection open: the end of the worker is looked for, too.
            ready = [worker for worker in busy if worker.connection in answered or not worker.process.is_alive()]
            for worker in ready or [worker for worker in busy if time.monotonic() >= worker.until]:
                call = worker.call
                if call is not None and (result := self._result(worker, call, is_late=not ready)) is not None:
                    outcomes.append(Outcome(call, result))
        return outcomes

    def close(self) -> None:
        """Ends all processes; a call that one of them makes is given up."""
        for worker in self._workers:
            worker.connection.close()
        until = time.monotonic() + _EXIT_S
        for worker in self._workers:
            _end(worker, 0.0 if worker.call else until - time.monotonic())
        self._workers = []

    def _drop(self, worker: _Worker) -> None:
        worker.connection.close()
        _end(worker, 0.0)
        self._workers.remove(worker)

    def _hand_out(self) -> None:
        """Gives waiting calls to idle processes, and to new ones while there are fewer than wanted."""
        waiting = self._waiting
        idle = [worker for worker in self._workers if worker.call is None]
        while waiting and (idle or len(self._workers) < self._n):
            is_new = not idle
            worker = self._start() if is_new else idle.pop()
            try:
                worker.connection.send(waiting[0])
            except OSError:  # it died: while it was idle, or because it cannot start, which fails the call
                if not is_new:
                    self._drop(worker)
                    continue
            worker.call = waiting.popleft()

    def _start(self) -> _Worker:
        # Forked processes would share locks of this one's threads, which may be held when they are made.
        context = multiprocessing.get_context("spawn")
        connection, worker_end = context.Pipe()
        process = context.Process(target=_make_calls, args=(worker_end, self._call, self._limit_s))
        process.start()
        worker_end.close()  # so that the end of the process is the end of what it sends
        self._workers.append(_Worker(process, connection))
        return self._workers[-1]

    def _result(self, worker: _Worker, call: Call, *, is_late: bool) -> CallResult | None:
        """The result of a worker's call; None where the worker reports the time by which the call must have ended."""
        described = f"{self._name}({dict(call.values)})"
        try:
            if is_late:
                raise TimeoutError
            if not worker.connection.poll():  # it died, and what it forked keeps the connection
                raise EOFError
            message = worker.connection.recv()
        except (EOFError, OSError) as error:
            self._drop(worker)
            if isinstance(error, TimeoutError):
                return CallResult(
                    {}, f"{described} took longer than the limit of {self._limit_s:g} s", seconds=self._limit_s
                )
            return CallResult({}, f"{described} ended its process")
        if isinstance(message, CallResult):
            worker.call, worker.until = None, math.inf
            return message
        worker.until = time.monotonic() + self._limit_s
        return None


def _end(worker: _Worker, within_s: float) -> None:
    """Waits for the end of a process whose connection is closed, and kills it, with those that it started, after that time."""
    worker.process.join(max(0.0, within_s))
    if worker.process.is_alive() and worker.process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):  # it has no group of its own yet
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.kill()
        worker.process.join()


def _make_calls(connection: Connection, make_call: Callable[[Call], CallResult], limit_s: float) -> None:
    """The work of a process: calls until the connection is closed. Each is announced, so that its time counts from there."""
    os.setsid()  # so that what a call starts ends with it; Ctrl-C does not reach this process: the parent ends it
    with suppress(EOFError, OSError):  # the parent closed the connection, or died
        while True:
            call = connection.recv()
            if not math.isinf(limit_s):
                connection.send(None)
            connection.send(make_call(call))


def _check_count(n: object, name: str) -> None:
    if not isinstance(n, int) or n < 1:
        raise NasError(f"nas.{name}({n!r}): expected a whole number of at least 1", code="optimize.invalid")


def _check_limit(time_limit_s: object, name: str) -> None:
    if time_limit_s is not None and not (isinstance(time_limit_s, int | float) and 0 < time_limit_s < math.inf):
        raise NasError(
            f"nas.{name}(time_limit_s={time_limit_s!r}): expected seconds above 0, or None", code="optimize.invalid"
        )
