"""Nothing known is measured again; resuming and replaying are compositions of caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from nas.engine.evaluation.base import Evaluator
from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.store.memory import MemoryStore
from nas.errors import EvaluationError
from nas.search.problem.objectives import Fidelity, Measurement, Request, Status
from supernets.space import Architecture
from tests.contracts.evaluator import EvaluatorContract


def request(number: int) -> Request:
    return Request(Architecture((number, 0)), "latency_ms", "cpu-1-thread")


def figure(number: int, *, status: Status = Status.OK, value: float = 1.0) -> Measurement:
    return Measurement(request(number), status, value, 0.0)


def failure(number: int, *, attempt: int = 0) -> Measurement:
    return Measurement(request(number), Status.FAILED, None, None, message="it broke", attempt=attempt)


class Source:
    """Answers every request with the value 10 + its number, last one first, and notes the calls."""

    def __init__(self) -> None:
        self.calls: list[list[Request]] = []
        self.closed = 0

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        self.calls.append(list(requests))
        for one in reversed(requests):
            number = one.architecture.genes[0]
            yield figure(number, value=10.0 + number)

    def close(self) -> None:
        self.closed += 1


class Answering:
    """Gives the same answers whatever is asked."""

    def __init__(self, *answers: Measurement) -> None:
        self._answers = answers

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        yield from self._answers

    def close(self) -> None: ...


def store_with(*measurements: Measurement) -> MemoryStore:
    store = MemoryStore()
    for measurement in measurements:
        store.add(measurement)
    return store


class TestCachedEvaluator(EvaluatorContract):
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        return CachedEvaluator(Source(), store_with(figure(1), failure(2)).attempts, replay_failures=True)

    @pytest.fixture
    def requests(self) -> list[Request]:
        return [request(n) for n in range(4)]


def values(answers: Iterator[Measurement]) -> list[tuple[int, float | None]]:
    return [(m.request.architecture.genes[0], m.value) for m in answers]


def test_only_the_unknown_is_asked_and_in_one_call() -> None:
    source, store = Source(), store_with(figure(1), figure(3, status=Status.NOISY, value=3.0))
    cached = CachedEvaluator(source, store.attempts)
    assert values(cached.evaluate([request(n) for n in (4, 3, 2, 1)])) == [(3, 3.0), (1, 1.0), (2, 12.0), (4, 14.0)]
    assert source.calls == [[request(4), request(2)]]


def test_what_is_all_known_asks_nothing() -> None:
    source = Source()
    assert values(CachedEvaluator(source, store_with(figure(1)).attempts).evaluate([request(1)])) == [(1, 1.0)]
    assert source.calls == []


def test_repeated_requests_are_asked_once_and_answered_each() -> None:
    source, kept = Source(), list[Measurement]()
    cached = CachedEvaluator(
        source, store_with(figure(1)).attempts, keep=lambda *measurements: kept.extend(measurements)
    )
    answers = values(cached.evaluate([request(n) for n in (1, 2, 2, 1, 2)]))
    assert answers == [(1, 1.0)] * 2 + [(2, 12.0)] * 3
    assert source.calls == [[request(2)]]
    assert [m.request for m in kept] == [request(2)]


def test_what_differs_in_fidelity_is_not_known() -> None:
    final = Request(request(1).architecture, "latency_ms", "cpu-1-thread", Fidelity.FINAL)
    source = Answering(replace(figure(1), request=final, value=2.0))
    assert values(CachedEvaluator(source, store_with(figure(1)).attempts).evaluate([request(1), final])) == [
        (1, 1.0),
        (1, 2.0),
    ]


def test_each_new_figure_is_kept_before_it_is_handed_on() -> None:
    store = MemoryStore()
    for answer in CachedEvaluator(Source(), store.attempts, keep=store.add).evaluate([request(1), request(2)]):
        assert answer.request in store.find([answer.request])
    assert len(store.measurements()) == 2


def test_a_caller_that_stops_early_has_asked_no_more_than_it_took() -> None:
    store = MemoryStore()
    answers = CachedEvaluator(Source(), store.attempts, keep=store.add).evaluate([request(1), request(2)])
    next(answers)
    del answers
    assert [m.request for m in store.measurements()] == [request(2)]


def test_a_failure_is_asked_again_and_the_later_attempt_holds() -> None:
    store = store_with(failure(1), failure(1, attempt=1))
    cached = CachedEvaluator(Source(), store.attempts, keep=store.add)
    assert [(m.value, m.attempt) for m in cached.evaluate([request(1)])] == [(11.0, 2)]
    assert store.find([request(1)])[request(1)].value == 11.0


def test_each_call_is_answered_by_the_next_attempt_and_then_measured() -> None:
    first, second = figure(1, status=Status.NOISY), replace(figure(1), attempt=1)
    source, store = Source(), store_with(failure(1), replace(first, attempt=1), replace(second, attempt=2), figure(2))
    cached = CachedEvaluator(source, store.attempts, keep=store.add)
    found = [next(cached.evaluate([request(1)])) for _ in range(3)]
    assert [(m.status, m.value, m.attempt) for m in found] == [
        (Status.NOISY, 1.0, 1), (Status.OK, 1.0, 2), (Status.OK, 11.0, 3),
    ]  # fmt: skip
    assert source.calls == [[request(1)]]
    assert [m.attempt for m in store.attempts([request(1)])[request(1)]] == [0, 1, 2, 3]


@pytest.mark.parametrize(("error", "kept"), [(0.5, 2.0), (0.1, 11.0)])
def test_of_the_last_attempt_and_a_measurement_the_less_uncertain_is_the_next(error: float, kept: float) -> None:
    known = replace(figure(1, status=Status.NOISY, value=2.0), error=0.1)
    store = store_with(known)
    answer = replace(figure(1, value=11.0), error=11.0 * error / 2, seconds=3.0, samples=b"raw")
    cached = CachedEvaluator(Answering(answer), store.attempts, keep=store.add)
    assert [m.value for m in cached.evaluate([request(1)])] == [2.0]
    (again,) = cached.evaluate([request(1)])
    assert (again.value, again.attempt, again.seconds) == (kept, 1, 3.0)
    assert store.find([request(1)])[request(1)].value == kept


def test_a_failure_is_replayed_where_asked_for() -> None:
    source = Source()
    cached = CachedEvaluator(source, store_with(failure(1)).attempts, replay_failures=True)
    assert list(cached.evaluate([request(1)])) == [failure(1)]
    assert source.calls == []


def test_replaying_another_run_fills_this_ones_store() -> None:
    source, other, own = Source(), store_with(figure(1, value=1.5), failure(2)), MemoryStore()
    replay = CachedEvaluator(source, other.attempts, replay_failures=True)
    cached = CachedEvaluator(replay, own.attempts, keep=own.add, replay_failures=True)
    first = sorted(values(cached.evaluate([request(n) for n in (1, 2, 3)])))
    assert first == [(1, 1.5), (2, None), (3, 13.0)]
    assert (
        sorted(
            values(
                CachedEvaluator(Answering(), own.attempts, replay_failures=True).evaluate(
                    [request(n) for n in (1, 2, 3)]
                )
            )
        )
        == first
    )
    assert source.calls == [[request(3)]]
    assert len(other.measurements()) == 2


def test_a_replay_that_was_killed_goes_on_with_the_attempt_after_its_last() -> None:
    """The other run measured a network twice; this one was killed after the first of these."""
    noisy = replace(figure(1, status=Status.NOISY), error=0.5)
    calmer = replace(figure(1, value=2.0), error=0.1, attempt=1)
    other, own, source = store_with(noisy, calmer), MemoryStore(), Source()

    def resumed() -> CachedEvaluator:
        return CachedEvaluator(
            CachedEvaluator(source, other.attempts, replay_failures=True), own.attempts, keep=own.add
        )

    assert values(resumed().evaluate([request(1)])) == [(1, 1.0)]
    again = resumed()
    assert [values(again.evaluate([request(1)])) for _ in range(2)] == [[(1, 1.0)], [(1, 2.0)]]
    assert source.calls == []


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((figure(1),), r"Answering left 1 of 2 requests unanswered \(latency_ms@cpu-1-thread of 2-0"),
        ((figure(1), figure(1)), "Answering answered latency_ms@cpu-1-thread of 1-0"),
        ((figure(5),), "Answering answered latency_ms@cpu-1-thread of 5-0"),
    ],
)
def test_an_inner_evaluator_that_breaks_its_contract_is_told(answers: tuple[Measurement, ...], expected: str) -> None:
    with pytest.raises(EvaluationError, match=expected):
        list(CachedEvaluator(Answering(*answers), MemoryStore().attempts).evaluate([request(1), request(2)]))


def test_closing_closes_the_inner_one() -> None:
    source = Source()
    CachedEvaluator(source, MemoryStore().attempts).close()
    assert source.closed == 1
