"""An evaluator that returns known measurements and measures the rest, to resume or replay a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, cast

from nas.engine.evaluation.base import Evaluator, StreamingEvaluator, slots_of
from nas.errors import EvaluationError
from nas.search.problem.objectives import Measurement, Request, Status

Attempts = Mapping[Request, Sequence[Measurement]]
"""The attempts at each request, the first one first."""

_MAX_LISTED = 3


class Keep(Protocol):
    """Records measurements that arrived together, as `RunStore.add`."""

    def __call__(self, *measurements: Measurement) -> None: ...


class CachedEvaluator:
    """An evaluator that measures nothing twice, unless it is asked twice.

    The first call that requests a measurement is answered by the first recorded attempt, the second one by the second, and
    so on; where none is left, `inner` measures, and the less uncertain of this and of the last recorded attempt becomes the
    next attempt. A search that measures again what is uncertain is thus replayed step by step.

    To resume, `lookup` and `keep` are the run's own store; to replay another run, that run's store is the `lookup` of
    an inner `CachedEvaluator`, whose answers the outer one keeps. What the outer one answers counts as a call of the inner
    one: in a resumed replay, that is asked next for the attempt after those that the killed driver has kept.

    Args:
        inner: is asked once a call for all that is not known.
        lookup: the recorded attempts at some requests, the first one first; requests that it lacks are absent.
        keep: called with the measurements that `inner` made, before they are handed on.
        replay_failures: answer with known failures too, instead of asking again. An answer to what had failed before
            counts its attempts on from there, so that a store takes it for the later one.
    """

    def __init__(
        self,
        inner: Evaluator,
        lookup: Callable[[Sequence[Request]], Attempts],
        *,
        keep: Keep | None = None,
        replay_failures: bool = False,
    ) -> None:
        self._inner, self._lookup, self._keep = inner, lookup, keep
        self._replay_failures = replay_failures
        self._n_calls: dict[Request, int] = {}
        self._ready: list[Measurement] = []
        self._last_attempts: dict[Request, Measurement] = {}

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement a request, the known ones first; one asked twice is measured once and answered twice.

        Raises:
            EvaluationError: the inner evaluator did not answer each request once.
        """
        times: dict[Request, int] = {}
        for request in requests:
            times[request] = times.get(request, 0) + 1
        known_answers, missing = self._looked_up(list(times))
        for request, count in times.items():
            if request in known_answers:
                yield from [known_answers[request]] * count
        if missing:
            yield from self._measure(missing, times)

    def slots(self) -> int:
        """The slots of the inner evaluator."""
        return slots_of(self._inner)

    def start(self, requests: Sequence[Request]) -> None:
        """Begins to measure what is not known of a candidate, which the inner evaluator must be able to."""
        known_answers, missing = self._looked_up(requests)
        self._ready += known_answers.values()
        if missing:
            cast(StreamingEvaluator, self._inner).start(missing)

    def arrived(self) -> Sequence[Measurement]:
        """Measurements that arrived, the known ones first; waits for at least one."""
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        return self._kept(*cast(StreamingEvaluator, self._inner).arrived())

    def _looked_up(self, requests: Sequence[Request]) -> tuple[dict[Request, Measurement], list[Request]]:
        """The recorded answers to calls of different requests, which are counted, and the requests without one."""
        recorded = self._lookup(requests) if requests else {}
        known_answers: dict[Request, Measurement] = {}
        for request in requests:
            call = self._n_calls.get(request, 0) + 1
            attempts = recorded.get(request, ())
            answers = self._answers(attempts)
            if call <= len(answers):
                known_answers[request] = answers[call - 1]
            elif attempts:
                self._last_attempts[request] = attempts[-1]
        self._count(requests)
        if isinstance(self._inner, CachedEvaluator):
            self._inner._count(known_answers)
        return known_answers, [request for request in requests if request not in known_answers]

    def _kept(self, *answers: Measurement) -> list[Measurement]:
        """Answers of the inner evaluator as the attempts after the recorded ones, which are kept."""
        last_attempts = [self._last_attempts.pop(answer.request, None) for answer in answers]
        attempts = [
            answer if last is None else _next_attempt(last, answer)
            for last, answer in zip(last_attempts, answers, strict=True)
        ]
        if self._keep is not None:
            self._keep(*attempts)
        return attempts

    def _count(self, requests: Iterable[Request]) -> None:
        """Counts a call of each request."""
        for request in requests:
            self._n_calls[request] = self._n_calls.get(request, 0) + 1

    def close(self) -> None:
        """Closes the inner evaluator."""
        self._inner.close()

    def _answers(self, attempts: Sequence[Measurement]) -> Sequence[Measurement]:
        """The attempts that answer calls: those that did not fail, or else the last one where failures are replayed."""
        good = [measurement for measurement in attempts if measurement.status is not Status.FAILED]
        return good or (attempts[-1:] if self._replay_failures else ())

    def _measure(self, missing: list[Request], times: Mapping[Request, int]) -> Iterator[Measurement]:
        open_requests, name = dict.fromkeys(missing), type(self._inner).__name__
        for answer in self._inner.evaluate(missing):
            request = answer.request
            if request not in open_requests:
                raise EvaluationError(
                    f"{name} answered {_shown(request)}, which it was not asked or had answered; "
                    "an evaluator answers each request once"
                )
            del open_requests[request]
            yield from self._kept(answer) * times[request]
        if open_requests:
            raise EvaluationError(
                f"{name} left {len(open_requests)} of {len(missing)} requests unanswered "
                f"({_listed(list(open_requests))}); an evaluator answers each request once"
            )


def _next_attempt(last: Measurement, answer: Measurement) -> Measurement:
    """The attempt after the last one: the less uncertain of the two measurements."""
    better = last if _uncertainty(last) < _uncertainty(answer) else answer
    return replace(better, attempt=max(last.attempt + 1, answer.attempt), seconds=answer.seconds)


def _uncertainty(measurement: Measurement) -> float:
    """Relative; infinite without a value."""
    if not measurement.value or measurement.error is None:
        return float("inf")
    return measurement.error / abs(measurement.value)


def _listed(requests: Sequence[Request]) -> str:
    more = f" and {len(requests) - _MAX_LISTED} more" if len(requests) > _MAX_LISTED else ""
    return ", ".join(_shown(request) for request in requests[:_MAX_LISTED]) + more


def _shown(request: Request) -> str:
    return f"{request.name} of {request.architecture.key} ({request.fidelity}, {request.variant})"
