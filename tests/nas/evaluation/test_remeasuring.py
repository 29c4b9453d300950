"""Which measurements are repeated, when, and which of the two is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from nas.evaluation.remeasuring import MOST_AGAIN, MOST_AT_ONCE, Remeasuring
from nas.problem.objectives import Measurement, Request, Status
from nas.testing.search import space_of

A, B, C, *OTHERS = space_of(5).enumerate()[:20]


def latency(architecture: object, profile: str = "p") -> Request:
    return Request(architecture, "latency_ms", profile)  # type: ignore[arg-type]


class Machine:
    """An evaluator whose latencies have these errors, one call after another; the last repeats. Above 0.04 they are noisy."""

    def __init__(self, *errors: float) -> None:
        self.errors, self.asked = list(errors), list[list[Request]]()

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        error = self.errors[min(len(self.asked), len(self.errors) - 1)]
        self.asked.append(list(requests))
        for request in requests:
            if request.profile is None:
                yield Measurement(request, Status.OK, 0.9, 0.1)
            else:
                status = Status.NOISY if error > 0.04 else Status.OK
                yield Measurement(request, status, 2.0 + error, error * (2.0 + error))

    def close(self) -> None:
        """Nothing to close."""


def test_an_uncertain_latency_is_repeated_beside_later_ones_of_its_profile_until_it_is_good() -> None:
    machine, kept = Machine(0.2, 0.2, 0.01), list[Measurement]()
    evaluator = Remeasuring(machine, kept.append)
    (first,) = evaluator.evaluate([latency(A)])
    assert (first.status, evaluator.n_uncertain) == (Status.NOISY, 1)
    assert [m.request for m in evaluator.evaluate([Request(B, "accuracy"), latency(B, "q")])] == machine.asked[1]
    assert kept == []
    assert [m.request for m in evaluator.evaluate([latency(C)])] == [latency(C)]
    assert machine.asked[2] == [latency(C), latency(A)]
    (better,) = kept
    assert (better.request, better.status, better.attempt, better.value) == (latency(A), Status.OK, 1, 2.01)
    assert evaluator.improved() == {latency(A): better}
    assert evaluator.improved() == {}
    list(evaluator.evaluate([latency(B)]))
    assert machine.asked[3] == [latency(B)]


def test_a_repetition_that_is_no_better_is_not_kept_and_the_end_tries_once_more() -> None:
    machine, kept = Machine(0.2, 0.3, 0.25, 0.01, 0.01), list[Measurement]()
    evaluator = Remeasuring(machine, kept.append)
    list(evaluator.evaluate([latency(A)]))
    for other in OTHERS[: MOST_AGAIN + 1]:
        list(evaluator.evaluate([Request(other, "accuracy"), latency(other)]))
    assert sum(latency(A) in asked for asked in machine.asked) == 1 + MOST_AGAIN
    waiting = evaluator.n_uncertain
    assert waiting > 0
    evaluator.last()
    assert latency(A) in machine.asked[-1]
    assert len(machine.asked[-1]) == waiting
    assert evaluator.n_uncertain == 0
    (better,) = [m for m in kept if m.request == latency(A)]
    assert (better.value, better.attempt) == (2.01, 1)


def test_a_busy_machine_repeats_few_at_once() -> None:
    machine = Machine(0.2)
    evaluator = Remeasuring(machine, lambda m: None)
    list(evaluator.evaluate([latency(a) for a in OTHERS]))
    assert len(OTHERS) > MOST_AT_ONCE
    list(evaluator.evaluate([latency(A)]))
    assert len(machine.asked[1]) == 1 + MOST_AT_ONCE


@pytest.mark.parametrize(("attempt", "repeated"), [(0, True), (MOST_AGAIN, False)])
def test_those_of_an_earlier_driver_are_queued_again(attempt: int, repeated: bool) -> None:
    machine = Machine(0.01)
    evaluator = Remeasuring(machine, lambda m: None)
    evaluator.enqueue([Measurement(latency(A), Status.NOISY, 2.0, 0.5, attempt=attempt)])
    list(evaluator.evaluate([latency(B)]))
    assert (latency(A) in machine.asked[0]) is repeated


def test_a_model_that_no_longer_runs_keeps_its_value() -> None:
    class Broken(Machine):
        def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
            yield from (Measurement(r, Status.FAILED, None, None, message="gone") for r in requests)

    kept = list[Measurement]()
    evaluator = Remeasuring(Broken(0.0), kept.append)
    evaluator.enqueue([Measurement(latency(A), Status.NOISY, 2.0, 0.5)])
    evaluator.last()
    assert kept == []
