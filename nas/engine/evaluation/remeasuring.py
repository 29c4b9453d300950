"""An evaluator that measures uncertain latencies again later, when the machine is calmer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import cast

from nas.engine.evaluation.base import Evaluator, StreamingEvaluator, slots_of
from nas.search.problem.objectives import Measurement, Request, Status

MAX_REPETITIONS = 2
"""Times that a measurement is repeated beside others, at most; and once more at the end."""
MAX_AT_ONCE = 8
"""Repetitions beside the requests of one call, so that the search goes on."""
CALMER = 0.75
"""A measurement is repeated if the last ones had an error of at most this share of its own (median, relative): on a machine
that is as busy as it was, a repetition tells nothing."""


class Remeasuring:
    """An evaluator that repeats noisy measurements beside later requests, once the machine is calmer.

    A search thus takes accuracies between a measurement and its repetition, and no time is spent on waiting. A request that
    was answered before has the same answer, or that of its last repetition.

    Args:
        inner: answers a repeated request with its next attempt, which is no worse, as `CachedEvaluator` does.
    """

    def __init__(self, inner: Evaluator) -> None:
        self._inner = inner
        self._answers: dict[Request, Measurement] = {}
        self._queue: dict[Request, int] = {}  # by the number of repetitions
        self._improved: dict[Request, Measurement] = {}
        self._errors: dict[tuple[str, str | None, str], float] = {}  # of the last call, relative; by `_kind`
        self._ready: list[Measurement] = []

    @property
    def n_uncertain(self) -> int:
        """The number of measurements that wait for their repetition."""
        return len(self._queue)

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """The measurements that were requested, in any order; repetitions are not among them, see `improved`."""
        yield from (self._answers[request] for request in requests if request in self._answers)
        new = [request for request in requests if request not in self._answers]
        profiles = {request.profile for request in new} - {None}
        due = [r for r in self._due() if r.profile in profiles and self._queue[r] < MAX_REPETITIONS]
        yield from self._evaluate(new, due[:MAX_AT_ONCE])

    def slots(self) -> int:
        """The slots of the inner evaluator, which are 0 where measurements can be uncertain."""
        return slots_of(self._inner)

    def start(self, requests: Sequence[Request]) -> None:
        """Begins to measure a candidate, which the inner evaluator must be able to."""
        self._ready += [self._answers[request] for request in requests if request in self._answers]
        if new := [request for request in requests if request not in self._answers]:
            cast(StreamingEvaluator, self._inner).start(new)

    def arrived(self) -> Sequence[Measurement]:
        """Measurements that arrived; waits for at least one."""
        ready, self._ready = self._ready, []
        if not ready:
            ready = list(cast(StreamingEvaluator, self._inner).arrived())
            self._answers |= {answer.request: answer for answer in ready}
        return ready

    def last(self) -> None:
        """Repeats everything that is still uncertain and may become better, once."""
        if due := self._due():
            list(self._evaluate((), due))
        self._queue.clear()

    def improved(self) -> dict[Request, Measurement]:
        """The repetitions that replaced measurements since the last call."""
        repetitions, self._improved = self._improved, {}
        return repetitions

    def close(self) -> None:
        """Closes the inner evaluator."""
        self._inner.close()

    def _due(self) -> list[Request]:
        """The requests that wait for a calmer machine, if it is calmer now."""
        return [r for r in self._queue if self._errors[_kind(r)] <= CALMER * _relative_error(self._answers[r])]

    def _evaluate(self, new: Sequence[Request], again: Sequence[Request]) -> Iterator[Measurement]:
        repeated, errors = set(again), dict[tuple[str, str | None, str], list[float]]()
        for answer in self._inner.evaluate([*new, *again]):
            request = answer.request
            times = self._queue.pop(request) + 1 if request in repeated else 0
            if request in repeated and _value_and_error(answer) != _value_and_error(self._answers[request]):
                self._improved[request] = answer
            self._answers[request] = answer
            if answer.status is Status.NOISY:
                self._queue[request] = times
            if request not in repeated:
                if answer.value is not None:
                    errors.setdefault(_kind(request), []).append(_relative_error(answer))
                yield answer
        self._errors |= {kind: median(kind_errors) for kind, kind_errors in errors.items()}
        # In the order of the requests, not in that of the answers: a search that is replayed repeats the same.
        for request in [*again, *new]:
            if request in self._queue:
                self._queue[request] = self._queue.pop(request)


def _kind(request: Request) -> tuple[str, str | None, str]:
    """The key of measurements whose errors have one size on one machine."""
    return request.metric, request.profile, request.runtime


def _relative_error(measurement: Measurement) -> float:
    return (measurement.error or 0.0) / (abs(measurement.value or 0.0) or 1.0)


def _value_and_error(measurement: Measurement) -> tuple[float | None, float | None]:
    return measurement.value, measurement.error
