"""The loop: budgets, anchors, reference point, failures, replays and finalists."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from nas.engine.finalists import choose_finalists, measure_finalists
from nas.engine.search_loop import search
from nas.engine.search_progress import SearchProgress
from nas.engine.store.memory import MemoryStore
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.base import SearchProblem
from nas.search.evolution.search import EvolutionSearch
from nas.search.problem.budget import Budget, Plateau, Stop, StopReason
from nas.search.problem.objectives import Evaluation, Fidelity, Measurement, Request, Status, minimised
from nas.search.problem.pareto import hypervolume_history
from nas.search.problem.variants import Variants
from nas.search.random import RandomSearch
from nas.search.registry import make_algorithm, models_from
from supernets.space import Architecture
from tests.errors import raises
from tests.nas.table_search import COLUMNS, OBJECTIVES, TABLE, run_search

OBJECTIVES_SIGN = np.array([o.sign for o in OBJECTIVES])


@dataclass
class Counting:
    """An evaluator that notes what it was asked, and fails chosen architectures."""

    inner: TableEvaluator
    failing: set[Architecture] = field(default_factory=set)
    fail_all_but: set[Architecture] | None = None
    asked: list[Request] = field(default_factory=list)

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        for m in self.inner.evaluate(requests):
            self.asked.append(m.request)
            a = m.request.architecture
            if a in self.failing or (self.fail_all_but is not None and a not in self.fail_all_but):
                yield Measurement(m.request, Status.FAILED, None, None, message=f"it broke at {len(self.asked)}")
            else:
                yield m

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.load(TABLE)


@pytest.fixture
def evaluator(table: Table) -> Counting:
    return Counting(TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}))


def run(
    table: Table, evaluator: Counting, store: MemoryStore, n: int, *, minutes: float | None = None
) -> list[Evaluation]:
    ticks = iter(range(0, 10_000, 30))
    return search(
        table.space, OBJECTIVES, RandomSearch(table.space, seed=1), evaluator, store, Budget(n, minutes), batch=8,
        clock=lambda: float(next(ticks)),
    )  # fmt: skip


def test_the_smallest_and_the_largest_come_first_and_set_the_reference_with_the_first_ask(
    table: Table, evaluator: Counting
) -> None:
    store = MemoryStore()
    told = run(table, evaluator, store, 20)
    assert [e.architecture for e in told[:2]] == [table.space.smallest, table.space.largest]
    assert len(told) == len({e.architecture for e in told}) == 20
    accuracies, latencies = ([e.value(o) for e in told[:10]] for o in OBJECTIVES)
    accuracy, slowest = store.state().reference or ()
    assert accuracy == pytest.approx(min(accuracies) - 0.1 * (max(accuracies) - min(accuracies)))
    assert slowest == pytest.approx(max(latencies) + 0.1 * (max(latencies) - min(latencies)))


def test_the_reference_of_an_earlier_version_is_kept_when_its_run_continues(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()
    run(table, evaluator, store, 20)
    store.update_state(reference=(0.5, 7.0))
    run(table, evaluator, store, 30)
    assert store.state().reference == (0.5, 7.0)


def test_a_search_of_its_first_networks_alone_has_a_hypervolume(table: Table, evaluator: Counting) -> None:
    store, shown = MemoryStore(), list[SearchProgress]()
    search(
        table.space,
        OBJECTIVES,
        RandomSearch(table.space, seed=1),
        evaluator,
        store,
        Budget(2),
        batch=8,
        on_progress=shown.append,
    )
    assert len(store.state().reference or ()) == 2
    assert shown[-1].done == 2


def test_a_whole_batch_is_shown_with_the_volume_that_it_makes(table: Table, evaluator: Counting) -> None:
    shown: list[SearchProgress] = []
    store = MemoryStore()
    told = search(
        table.space, OBJECTIVES, RandomSearch(table.space, seed=1), evaluator, store, Budget(20), batch=8,
        on_progress=shown.append,
    )  # fmt: skip
    volumes = hypervolume_history(minimised(told, OBJECTIVES), OBJECTIVES_SIGN * np.array(store.state().reference))
    assert [progress.hypervolume for progress in shown if progress.done == 2] == [None, None]
    for end in (10, 18, 20):
        told_then = [progress.hypervolume for progress in shown if progress.done == end]
        assert told_then == pytest.approx([volumes[end - 1]] * len(told_then))
    assert {progress.done for progress in shown} >= set(range(1, 21))


def test_the_collector_passes_over_what_was_there_while_a_search_lasts(table: Table, evaluator: Counting) -> None:
    during: list[int] = []
    gc.unfreeze()  # tests run with a frozen collector
    search(
        table.space, OBJECTIVES, RandomSearch(table.space, seed=1), evaluator, MemoryStore(), Budget(4), batch=2,
        on_progress=lambda progress: during.append(gc.get_freeze_count()),
    )  # fmt: skip
    assert min(during) > 0
    assert gc.get_freeze_count() == 0
    gc.freeze()  # as a server does, for good
    run(table, evaluator, MemoryStore(), 4)
    assert gc.get_freeze_count() > 0


def test_a_budget_of_time_ends_a_search(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()
    assert 2 <= len(run(table, evaluator, store, 400, minutes=1.0)) < 100
    assert store.state().stop == Stop(StopReason.MINUTES, minutes=1.0)


def test_a_search_whose_time_ended_is_not_taken_up_again(table: Table, evaluator: Counting) -> None:
    """A kill after the search, in the final stage: the resumed run measures the finalists of the search that there was."""
    store = MemoryStore()
    told = run(table, evaluator, store, 400, minutes=1.0)
    again = run(table, evaluator, store, 400, minutes=1.0)
    assert [e.architecture for e in again] == [e.architecture for e in told]


def test_what_an_earlier_version_skipped_stays_skipped_and_the_rest_is_measured(
    table: Table, evaluator: Counting
) -> None:
    made, old = MemoryStore(), MemoryStore()
    told = run(table, evaluator, made, 18)
    skipped, few = told[10].architecture, told[10].measurements["accuracy"]
    for step, asked in enumerate(made.asks()):
        old.record_ask(step, asked)
    for evaluation in told[:14]:
        for measurement in evaluation.measurements.values():
            lost = replace(measurement, status=Status.SKIPPED, value=None, error=None, message="dominated")
            old.add(lost if evaluation.architecture == skipped else measurement)
    for measurement in (few, told[14].measurements["accuracy"]):  # the second: of a network that was then interrupted
        old.add(replace(measurement, request=replace(measurement.request, fidelity=Fidelity.SCREEN)))
    evaluator.asked.clear()
    again = run(table, evaluator, old, 26)
    assert [e.architecture for e in again[:18]] == [e.architecture for e in told]
    assert [e.architecture for e in again if e.screened_out] == [skipped]
    assert {r.architecture for r in evaluator.asked} == {e.architecture for e in again[14:]}
    assert all(np.isfinite(minimised([e], OBJECTIVES)).all() for e in again if e.architecture != skipped)


def test_the_time_that_a_killed_driver_took_counts_on(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()
    run(table, evaluator, store, 18)
    used = store.state().searched_seconds
    assert used > 0
    assert len(run(table, evaluator, store, 400, minutes=used / 60)) == 18
    store.update_state(stop=None)  # as an extended budget does
    assert 18 < len(run(table, evaluator, store, 400, minutes=used / 60 + 2)) < 60


def test_a_plateau_of_the_hypervolume_ends_a_search(table: Table) -> None:
    store = MemoryStore()
    told = run_search(store, "nsga2", 1, 400, plateau=Plateau(40, 0.001))
    assert 42 < len(told) < 400
    assert store.state().stop == Stop(StopReason.PLATEAU, plateau=Plateau(40, 0.001))
    volumes = hypervolume_history(minimised(told, OBJECTIVES), OBJECTIVES_SIGN * np.array(store.state().reference))
    assert volumes[-1] - volumes[-41] <= 0.001 * volumes[-1]
    ends = range(50, len(told), 8)
    assert all(volumes[n - 1] - volumes[n - 41] > 0.001 * volumes[n - 1] for n in ends), "it could have ended before"
    # Extended, it looks for a plateau among what comes then.
    store.update_state(stop=None)
    assert len(run_search(store, "nsga2", 1, 400, plateau=Plateau(40, 0.001), plateau_from=len(told))) >= len(told) + 40


@pytest.mark.parametrize("algorithm", ["nsga2", "guided"])
def test_an_extended_search_killed_anywhere_goes_on_the_same(algorithm: str) -> None:
    """The first budget cuts its last batch short: the asks of a stateful algorithm are repeated at that length."""
    expected = MemoryStore()
    for n in (29, 53):
        run_search(expected, algorithm, 2, n)
    killed = MemoryStore()
    run_search(killed, algorithm, 2, 29)
    for after in (1, 9, 30):
        with pytest.raises(KeyboardInterrupt):
            run_search(killed, algorithm, 2, 53, kill_after=after)
    run_search(killed, algorithm, 2, 53)
    assert killed.asks() == expected.asks()
    assert [len(asked) for asked in killed.asks()] == [2, 8, 8, 8, 3, 8, 8, 8]
    assert not killed.events()


def test_a_space_that_is_used_up_ends_a_search(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()
    assert len(run(table, evaluator, store, 10_000)) == table.space.size
    assert store.state().stop == Stop(StopReason.SPACE_EXHAUSTED)


def test_a_search_that_has_enough_ends_before_the_next_ask(table: Table, evaluator: Counting) -> None:
    store, seen = MemoryStore(), []

    def enough(told: Sequence[Evaluation]) -> str:
        seen.append(len(told))
        return "that will do" if len(told) >= 15 else ""

    algorithm = RandomSearch(table.space, seed=1)
    told = search(table.space, OBJECTIVES, algorithm, evaluator, store, Budget(40), batch=8, stop_when=enough)
    assert len(told) == 18
    assert seen == [2, 10, 18]
    assert store.state().stop == Stop(StopReason.CALLBACK, message="that will do")


def test_one_failure_does_not_end_a_search(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()
    evaluator.failing = {run(table, Counting(evaluator.inner), MemoryStore(), 12)[5].architecture}
    told = run(table, evaluator, store, 12)
    assert [e.failed for e in told].count(True) == 1
    assert len(told) == 12


def test_an_evaluator_that_always_fails_ends_a_search_with_its_message(table: Table, evaluator: Counting) -> None:
    evaluator.fail_all_but = {table.space.smallest, table.space.largest}
    with raises("evaluation.failures-in-a-row", "20", "it broke at 5;"):
        run(table, evaluator, MemoryStore(), 100)


def test_the_largest_network_may_fail(table: Table, evaluator: Counting) -> None:
    evaluator.failing = {table.space.largest}
    store = MemoryStore()
    told = run(table, evaluator, store, 20)
    assert [e.architecture for e in told if e.failed] == [table.space.largest]
    latencies = [e.value(OBJECTIVES[1]) for e in told[:10] if not e.failed]
    _, slowest = store.state().reference or ()
    assert slowest == pytest.approx(max(latencies) + 0.1 * (max(latencies) - min(latencies)))


def test_the_reference_waits_for_enough_networks_with_values(table: Table, evaluator: Counting) -> None:
    evaluator.failing = {e.architecture for e in run(table, Counting(evaluator.inner), MemoryStore(), 20)[1:9]}
    store = MemoryStore()
    told = run(table, evaluator, store, 20)
    complete = [e for e in told if not e.failed]
    assert len(complete) == 12
    latencies = [e.value(OBJECTIVES[1]) for e in told[:18] if not e.failed]  # those of the first ask were too few
    _, slowest = store.state().reference or ()
    assert slowest == pytest.approx(max(latencies) + 0.1 * (max(latencies) - min(latencies)))


def test_failures_that_are_tried_again_set_the_reference_anew(table: Table, evaluator: Counting) -> None:
    evaluator.failing = {e.architecture for e in run(table, Counting(evaluator.inner), MemoryStore(), 20)[1:9]}
    store, whole = MemoryStore(), MemoryStore()
    run(table, evaluator, store, 20)
    evaluator.failing = set()
    search(
        table.space,
        OBJECTIVES,
        RandomSearch(table.space, seed=1),
        evaluator,
        store,
        Budget(20),
        batch=8,
        retry_failures=True,
    )
    run(table, Counting(evaluator.inner), whole, 20)
    assert store.state().reference == whole.state().reference


def test_where_the_smallest_and_the_largest_network_fail_the_error_names_them(
    table: Table, evaluator: Counting
) -> None:
    evaluator.failing = {table.space.smallest, table.space.largest}
    with raises("evaluation.anchor-failed", table.space.smallest.key, table.space.largest.key, "it broke"):
        run(table, evaluator, MemoryStore(), 100)


def test_known_networks_cost_no_budget_and_are_learned_from(table: Table, evaluator: Counting) -> None:
    """Among those known is the smallest, which is then not paid for either."""
    known = [table.space.smallest, *table.architectures[100:140]]

    def warm(store: MemoryStore, n: int) -> list[Evaluation]:
        algorithm = make_algorithm("guided", SearchProblem(table.space, OBJECTIVES, 1, known_architectures=known))
        return search(
            table.space, OBJECTIVES, algorithm, evaluator, store, Budget(n), batch=8, known_candidates=known,
            on_progress=shown.append,
        )  # fmt: skip

    shown: list[SearchProgress] = []
    store = MemoryStore()
    told = warm(store, 10)
    assert [e.architecture for e in told[:42]] == [table.space.smallest, table.space.largest, *known[1:]]
    assert len(told) == len({e.architecture for e in told}) == len(known) + 10
    assert [len(step) for step in store.asks()] == [42, 8, 1]
    assert (shown[-1].done, shown[-1].total) == (10, 10)
    assert min(fit.step for fit in store.fits()) == 1
    first = models_from("guided", table.space, batch=8, known_architectures=known)
    assert first == 2  # after the largest
    assert [e.architecture for e in warm(store, 14)[: len(told)]] == [e.architecture for e in told]
    assert sum(map(len, store.asks())) == len(known) + 14


@pytest.mark.parametrize(("batch", "evaluations"), [(8, 40), (7, 40), (25, 40), (8, 26)])
def test_the_first_evaluation_chosen_by_models_is_known_before(table: Table, batch: int, evaluations: int) -> None:
    store = MemoryStore()
    search(
        table.space, OBJECTIVES, make_algorithm("guided", SearchProblem(table.space, OBJECTIVES, 1)),
        TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}), store, Budget(evaluations), batch=batch,
    )  # fmt: skip
    foreseen = models_from("guided", table.space, batch=batch)
    assert foreseen is not None
    before = [sum(map(len, store.asks()[: fit.step])) for fit in store.fits()]
    assert (min(before) + 1 if before else None) == (foreseen if foreseen <= evaluations else None)
    assert models_from("random", table.space, batch=batch) is None


def test_resuming_measures_only_what_is_missing(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()
    run(table, evaluator, store, 18)
    n = len(evaluator.asked)
    told = run(table, evaluator, store, 26)
    assert len(evaluator.asked) - n == 8 * len(OBJECTIVES)
    assert [e.architecture for e in told] == [e.architecture for e in run(table, evaluator, MemoryStore(), 26)]


def test_a_replayed_ask_that_differs_is_taken_as_recorded_and_noted(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()

    def by(seed: int) -> list[Evaluation]:
        algorithm = EvolutionSearch(table.space, OBJECTIVES, seed=seed)
        return search(table.space, OBJECTIVES, algorithm, evaluator, store, Budget(10), batch=8)

    by(2)
    recorded = store.asks()
    told = by(1)
    assert [e.architecture for e in told] == [a for step in recorded for a in step]
    assert [event.kind for event in store.events()] == ["replay-differs"]


@pytest.mark.parametrize("algorithm", ["nsga2", "guided"])
def test_the_same_seed_gives_the_same_search(algorithm: str) -> None:
    first, second = MemoryStore(), MemoryStore()
    run_search(first, algorithm, 5, 40)
    run_search(second, algorithm, 5, 40)
    assert first.asks() == second.asks()


def test_finalists_are_the_front_its_ties_and_the_anchors(table: Table) -> None:
    accuracy, latency = OBJECTIVES
    chosen = table.architectures[:5]
    figures = [(0.90, 1.0), (0.95, 2.0), (0.949, 2.005), (0.80, 3.0), (0.949, 2.5)]

    def evaluation(a: Architecture, acc: float, ms: float) -> Evaluation:
        return Evaluation(
            a,
            {
                accuracy.name: Measurement(Variants().request(a, accuracy), Status.OK, acc, 0.003),
                latency.name: Measurement(Variants().request(a, latency), Status.OK, ms, 0.01 * ms),
            },
        )

    evaluations = [evaluation(a, *f) for a, f in zip(chosen, figures, strict=True)]
    found = choose_finalists(evaluations, OBJECTIVES, [chosen[3]])
    assert found == [chosen[0], chosen[1], chosen[2], chosen[3]]


def test_the_finalists_get_a_longer_latency_and_a_test_accuracy(table: Table, evaluator: Counting) -> None:
    store = MemoryStore()
    told = run(table, evaluator, store, 12)
    chosen = choose_finalists(told, OBJECTIVES, [table.space.smallest, table.space.largest])
    evaluator.asked.clear()
    measure_finalists(chosen, OBJECTIVES, evaluator, store)
    fidelities = {(r.metric, r.fidelity) for r in evaluator.asked}
    assert fidelities == {("accuracy", Fidelity.TEST), ("latency_ms", Fidelity.FINAL)}
    assert store.state().finalists == tuple(chosen)
    evaluator.asked.clear()
    measure_finalists(chosen, OBJECTIVES, evaluator, store)
    assert evaluator.asked == []


@dataclass
class Busy(Counting):
    """The first latencies are uncertain and 10 % too high."""

    n_busy: int = 6

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        for m in super().evaluate(requests):
            if m.request.profile is not None and self.n_busy > 0:
                self.n_busy -= 1
                yield replace(m, status=Status.NOISY, value=1.1 * (m.value or 0), error=m.value)
            else:
                yield m


class Corrected(RandomSearch):
    """Keeps the corrections."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.corrected = list[Evaluation]()

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        super().correct(evaluations)
        self.corrected += evaluations


def test_uncertain_latencies_are_measured_again_beside_later_ones_and_corrected(table: Table) -> None:
    store, busy, shown = MemoryStore(), Busy(TableEvaluator(table, COLUMNS)), list[SearchProgress]()
    algorithm = Corrected(table.space, seed=1)
    told = search(
        table.space, OBJECTIVES, algorithm, busy, store, Budget(18), batch=8, on_progress=shown.append
    )  # fmt: skip
    assert max(progress.uncertain for progress in shown) > 0
    assert {m.status for e in told for m in e.measurements.values()} == {Status.OK}
    assert len(algorithm.corrected) == 6
    exact = search(
        table.space, OBJECTIVES, RandomSearch(table.space, seed=1), TableEvaluator(table, COLUMNS),
        MemoryStore(), Budget(18), batch=8,
    )  # fmt: skip
    assert [e.value(OBJECTIVES[1]) for e in told] == [e.value(OBJECTIVES[1]) for e in exact]
    stored = store.find([m.request for e in algorithm.corrected for m in e.measurements.values()])
    assert sorted(m.attempt for m in stored.values()) == [0] * 6 + [1] * 6
