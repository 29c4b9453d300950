"""Which measurements are repeated, when, and which of the two is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.evaluation.remeasuring import MAX_AT_ONCE, MAX_REPETITIONS, Remeasuring
from nas.engine.store.memory import MemoryStore
from nas.plugins.testing.search import space_of
from nas.search.problem.objectives import Measurement, Request, Status

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


def repeating(machine: Machine) -> tuple[Remeasuring, MemoryStore]:
    store = MemoryStore()
    return Remeasuring(CachedEvaluator(machine, store.attempts, keep=store.add)), store


def test_an_uncertain_latency_is_repeated_beside_later_ones_of_its_profile_once_these_are_better() -> None:
    machine = Machine(0.2, 0.01, 0.16, 0.01)
    evaluator, store = repeating(machine)
    (first,) = evaluator.evaluate([latency(A)])
    assert (first.status, evaluator.n_uncertain) == (Status.NOISY, 1)
    assert [m.request for m in evaluator.evaluate([Request(B, "accuracy"), latency(B, "q")])] == machine.asked[1]
    list(evaluator.evaluate([latency(B)]))
    list(evaluator.evaluate([latency(C)]))  # the last, of B, was as uncertain as that of A
    assert machine.asked[2:] == [[latency(B)], [latency(C)]]
    assert [m.request for m in evaluator.evaluate([latency(OTHERS[0])])] == [latency(OTHERS[0])]
    assert machine.asked[4] == [latency(OTHERS[0]), latency(A), latency(B)]
    better = store.find([latency(A)])[latency(A)]
    assert (better.status, better.attempt, better.value) == (Status.OK, 1, 2.01)
    assert {request: m.value for request, m in evaluator.improved().items()} == {latency(A): 2.01, latency(B): 2.01}
    assert evaluator.improved() == {}
    list(evaluator.evaluate([latency(OTHERS[1])]))
    assert machine.asked[5] == [latency(OTHERS[1])]


def test_a_repetition_that_is_no_better_changes_nothing_and_the_end_tries_once_more() -> None:
    machine = Machine(0.2, 0.01, 0.3, 0.01, 0.25, 0.01)
    evaluator, store = repeating(machine)
    list(evaluator.evaluate([latency(A)]))
    for other in OTHERS[: 2 * MAX_REPETITIONS + 1]:
        list(evaluator.evaluate([Request(other, "accuracy"), latency(other)]))
    assert sum(latency(A) in asked for asked in machine.asked) == 1 + MAX_REPETITIONS
    assert latency(A) not in evaluator.improved()
    waiting = evaluator.n_uncertain
    assert waiting > 0
    evaluator.last()
    assert latency(A) in machine.asked[-1]
    assert evaluator.n_uncertain == 0
    assert [m.value for m in store.attempts([latency(A)])[latency(A)]] == [2.2, 2.2, 2.2, 2.01]


def test_a_machine_that_stays_busy_repeats_nothing_not_even_at_the_end() -> None:
    machine = Machine(0.2)
    evaluator, _ = repeating(machine)
    list(evaluator.evaluate([latency(a) for a in OTHERS]))
    list(evaluator.evaluate([latency(A)]))
    assert evaluator.n_uncertain == 1 + len(OTHERS)
    evaluator.last()
    assert [len(asked) for asked in machine.asked] == [len(OTHERS), 1]
    assert evaluator.n_uncertain == 0


def test_few_are_repeated_at_once() -> None:
    machine = Machine(0.2, 0.01)
    evaluator, _ = repeating(machine)
    list(evaluator.evaluate([latency(a) for a in OTHERS]))
    assert len(OTHERS) > MAX_AT_ONCE
    list(evaluator.evaluate([latency(A)]))
    list(evaluator.evaluate([latency(B)]))
    assert machine.asked[2] == [latency(B), *(latency(a) for a in OTHERS[:MAX_AT_ONCE])]


def test_a_request_that_was_answered_has_the_answer_of_its_last_repetition() -> None:
    machine = Machine(0.2, 0.01)
    evaluator, _ = repeating(machine)
    (first,) = evaluator.evaluate([latency(A)])
    assert list(evaluator.evaluate([latency(A)])) == [first]
    list(evaluator.evaluate([latency(B)]))
    evaluator.last()
    assert [m.value for m in evaluator.evaluate([latency(A)])] == [2.01]
    assert machine.asked == [[latency(A)], [latency(B)], [latency(A)]]


def test_what_an_earlier_driver_measured_is_repeated_at_the_same_calls() -> None:
    first_machine, second_machine = Machine(0.3, 0.2, 0.01), Machine(0.0)
    first, store = repeating(first_machine)
    second = Remeasuring(CachedEvaluator(second_machine, store.attempts, keep=store.add))
    batches = [[latency(a)] for a in (A, B, C, OTHERS[0])]
    learnt = [([m.value for m in first.evaluate(batch)], first.improved()) for batch in batches]
    assert [len(improved) for _, improved in learnt] == [0, 0, 1, 1]
    again = [([m.value for m in second.evaluate(batch)], second.improved()) for batch in batches]
    assert again == learnt
    assert second_machine.asked == []
    first.last()
    second.last()
    assert second_machine.asked == []


def test_repetitions_follow_the_order_of_requests_whatever_the_order_of_answers() -> None:
    class Backwards(Machine):
        def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
            yield from reversed(list(super().evaluate(requests)))

    machine = Backwards(0.2, 0.01)
    evaluator, _ = repeating(machine)
    list(evaluator.evaluate([latency(A), latency(B)]))
    list(evaluator.evaluate([latency(C)]))
    list(evaluator.evaluate([latency(OTHERS[0])]))
    assert machine.asked[2] == [latency(OTHERS[0]), latency(A), latency(B)]


def test_a_model_that_no_longer_runs_keeps_its_value() -> None:
    class Breaking(Machine):
        def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
            if len(self.asked) < 2:
                yield from super().evaluate(requests)
                return
            yield from (Measurement(r, Status.FAILED, None, None, message="gone") for r in requests)

    evaluator, store = repeating(Breaking(0.2, 0.01))
    list(evaluator.evaluate([latency(A)]))
    list(evaluator.evaluate([latency(B)]))
    evaluator.last()
    assert [(m.status, m.value) for m in evaluator.evaluate([latency(A)])] == [(Status.NOISY, 2.2)]
    assert store.failures() == []
