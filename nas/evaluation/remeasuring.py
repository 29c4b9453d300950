"""An evaluator that measures uncertain latencies again later, when the machine may be calmer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from nas.evaluation.base import Evaluator
from nas.problem.objectives import Measurement, Request, Status

MOST_AGAIN = 2
"""Times that a measurement is repeated beside others, at most; and once more at the end."""
MOST_AT_ONCE = 8
"""Repetitions beside the requests of one call: on a machine that is always busy, the search must go on."""


class Remeasuring:
    """An evaluator that repeats noisy measurements beside later requests, and keeps the repetition if it is less uncertain.

    A search thus takes accuracies between a measurement and its repetition, and no time is spent on waiting.

    Args:
        inner: measures.
        keep: called with each repetition that is kept; its attempt is one more than that of the measurement that it replaces.
    """

    def __init__(self, inner: Evaluator, keep: Callable[[Measurement], None]) -> None:
        self.inner, self._keep = inner, keep
        self._queue: dict[Request, tuple[Measurement, int]] = {}
        self._improved: dict[Request, Measurement] = {}

    @property
    def n_uncertain(self) -> int:
        """The number of measurements that wait for their repetition."""
        return len(self._queue)

    def enqueue(self, measurements: Iterable[Measurement]) -> None:
        """Queues the noisy ones among some measurements; those of an earlier driver's queue are in no other way known."""
        for measurement in measurements:
            if measurement.status is Status.NOISY:
                self._queue.setdefault(measurement.request, (measurement, measurement.attempt))

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """The measurements that were requested, in any order; repetitions are not among them, see `improved`."""
        profiles = {request.profile for request in requests} - {None}
        due = [r for r, (_, times) in self._queue.items() if r.profile in profiles and times < MOST_AGAIN]
        again = [request for request in due if request not in requests][:MOST_AT_ONCE]
        yield from self._evaluate(requests, again)

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
        self.inner.close()

    def _evaluate(self, requests: Sequence[Request], again: Sequence[Request]) -> Iterator[Measurement]:
        repeated = set(again)
        for answer in self.inner.evaluate([*requests, *again]):
            if answer.request in repeated:
                self._repeat(answer)
                continue
            self.enqueue([answer])
            yield answer

    def _repeat(self, answer: Measurement) -> None:
        known, times = self._queue.pop(answer.request)
        better = _uncertainty(answer) < _uncertainty(known)
        if better:
            known = replace(answer, attempt=known.attempt + 1 + answer.attempt)
            self._improved[answer.request] = known
            self._keep(known)
        if known.status is Status.NOISY:
            self._queue[answer.request] = known, times + 1


def _uncertainty(measurement: Measurement) -> float:
    """Relative; infinite without a value."""
    if not measurement.value or measurement.error is None:
        return float("inf")
    return measurement.error / abs(measurement.value)
