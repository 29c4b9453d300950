"""Candidates that are evaluated one beside another, each of which is complete when all of its metrics are measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from nas.engine.evaluation.base import StreamingEvaluator
from nas.search.problem.objectives import Evaluation, Measurement, Request
from supernets.space import Architecture


class InFlight:
    """The candidates that a streaming evaluator was given.

    Args:
        requests: A function of a candidate that returns the request of each of its metrics, by name.
        candidate: A function that returns the candidate of a request.
    """

    def __init__(
        self,
        evaluator: StreamingEvaluator,
        requests: Callable[[Architecture], Mapping[str, Request]],
        candidate: Callable[[Request], Architecture],
    ) -> None:
        self._evaluator, self._requests, self._candidate = evaluator, requests, candidate
        self._measured: dict[Architecture, dict[Request, Measurement]] = {}
        self._complete: deque[Architecture] = deque()

    def start(self, candidate: Architecture) -> None:
        """Begins to measure a candidate."""
        self._measured[candidate] = {}
        self._evaluator.start(list(self._requests(candidate).values()))

    def next(self) -> Evaluation:
        """The next complete one of the candidates that were started; waits for it."""
        while not self._complete:
            for measurement in self._evaluator.arrived():
                candidate = self._candidate(measurement.request)
                measured = self._measured[candidate]
                measured[measurement.request] = measurement
                if len(measured) == len(self._requests(candidate)):
                    self._complete.append(candidate)
        candidate = self._complete.popleft()
        measured = self._measured.pop(candidate)
        return Evaluation(candidate, {name: measured[request] for name, request in self._requests(candidate).items()})
