"""Calls of a metric function in processes of this machine."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from nas.engine.evaluation.metric_function import CallResult, MetricFunction, Values, checked_call, name_of
from nas.errors import EvaluationError


class ProcessCalls:
    """`Calls` by a pool of processes, which import the function's module anew.

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

    def run(self, tasks: Sequence[Values]) -> Iterator[tuple[int, CallResult]]:
        futures = {self._submit(values): place for place, values in enumerate(tasks)}
        lost = []
        for future in as_completed(futures):
            if (result := self._result(future)) is None:
                lost.append(futures[future])
            else:
                yield futures[future], result
        for place in sorted(lost):
            result = self._result(self._submit(tasks[place]))
            yield place, result or CallResult({}, f"{self._name}({dict(tasks[place])}) ended its process")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _submit(self, values: Values) -> Future[CallResult]:
        if self._pool is None:
            # Forked processes would share locks of this one's threads, which may be held when they are made.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, mp_context=context)
        try:
            return self._pool.submit(self._call, values)
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
