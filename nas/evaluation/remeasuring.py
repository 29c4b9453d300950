"""An evaluator that measures uncertain latencies again later, when the machine may be calmer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.evaluation.base import Evaluator
from nas.problem.objectives import Measurement, Request, Status

MOST_AGAIN = 2
"""Times that a measurement is repeated beside others, at most; and once more at the end."""
MOST_AT_ONCE = 8
"""Repetitions beside the requests of one call: on a machine that is always busy, the search must go on."""


class Remeasuring:
    """An evaluator that repeats noisy measurements beside later requests.

    A search thus takes accuracies between a measurement and its repetition, and no time is spent on waiting. A request that
    was answered before has the same answer, or that of its last repetition.

    Args:
        inner: answers a repeated request with its next attempt, which is no worse, as `Cached` does.
    """

    def __init__(self, inner: Evaluator) -> None:
        self._inner = inner
        self._answers: dict[Request, Measurement] = {}
        self._queue: dict[Request, int] = {}  # by the number of repetitions
        self._improved: dict[Request, Measurement] = {}

    @property
    def n_uncertain(self) -> int:
        """The number of measurements that wait for their repetition."""
        return len(self._queue)

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """The measurements that were requested, in any order; repetitions are not among them, see `improved`."""
        yield from (self._answers[request] for request in requests if request in self._answers)
        new = [request for request in requests if request not in self._answers]
        profiles = {request.profile for request in new} - {None}
        due = [r for r, times in self._queue.items() if r.profile in profiles and times < MOST_AGAIN]
        yield from self._evaluate(new, due[:MOST_AT_ONCE])

    def last(self) -> None:
        """Repeats everything that is still uncertain, once."""
        if self._queue:
            list(self._evaluate((), list(self._queue)))
            self._queue.clear()

    def improved(self) -> dict[Request, Measurement]:
        """The repetitions that replaced measurements since the last call."""
        found, self._improved = self._improved, {}
        return found

    def close(self) -> None:
        """Closes the inner evaluator."""
        self._inner.close()

    def _evaluate(self, new: Sequence[Request], again: Sequence[Request]) -> Iterator[Measurement]:
        repeated = set(again)
        for answer in self._inner.evaluate([*new, *again]):
            request = answer.request
            times = self._queue.pop(request) + 1 if request in repeated else 0
            if request in repeated and _figures(answer) != _figures(self._answers[request]):
                self._improved[request] = answer
            self._answers[request] = answer
            if answer.status is Status.NOISY:
                self._queue[request] = times
            if request not in repeated:
                yield answer
        # In the order of the requests, not in that of the answers: a search that is replayed repeats the same.
        for request in [*again, *new]:
            if request in self._queue:
                self._queue[request] = self._queue.pop(request)


def _figures(measurement: Measurement) -> tuple[float | None, float | None]:
    return measurement.value, measurement.error
