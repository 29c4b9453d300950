"""Workers that answer from another evaluator after simulated times: the order of arrival of a cluster, without its waiting."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from nas.engine.evaluation.base import Evaluator
from nas.search.problem.objectives import Measurement, Request


class SimulatedWorkers:
    """A streaming evaluator of several workers, whose evaluations take log-normal times; implements `StreamingEvaluator`.

    Args:
        inner: Gives the values.
        n: Number of workers.
        sigma: Standard deviation of the logarithm of an evaluation's time, whose median is 1.

    Attributes:
        now: The simulated time.
        started: Architectures in the order in which their evaluation began.
    """

    def __init__(self, inner: Evaluator, n: int, *, sigma: float = 0.6, seed: int = 0) -> None:
        self._inner, self._n, self._sigma = inner, n, sigma
        self._rng = np.random.default_rng(seed)
        self._running: list[tuple[float, int, Sequence[Request]]] = []
        self._n_started = 0
        self.now = 0.0
        self.started: list[Sequence[Request]] = []

    def slots(self) -> int:
        return self._n

    def start(self, requests: Sequence[Request]) -> None:
        assert len(self._running) < self._n, "more candidates than workers"
        end = self.now + float(self._rng.lognormal(0.0, self._sigma))
        heapq.heappush(self._running, (end, self._n_started, requests))
        self._n_started += 1
        self.started.append(requests)

    def arrived(self) -> Sequence[Measurement]:
        self.now, _, requests = heapq.heappop(self._running)
        return list(self._inner.evaluate(requests))

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Batches: all workers wait for the last one."""
        by_architecture: dict[object, list[Request]] = {}
        for request in requests:
            by_architecture.setdefault(request.architecture, []).append(request)
        ends = [self.now] * self._n
        for each in by_architecture.values():
            heapq.heapreplace(ends, ends[0] + float(self._rng.lognormal(0.0, self._sigma)))
            self._n_started += 1
            self.started.append(each)
        self.now = max(ends)
        yield from self._inner.evaluate(requests)

    def close(self) -> None:
        self._inner.close()
