"""Staged evaluation: what it never loses, what it saves, and that kills change nothing of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.analysis.report import build_report
from nas.analysis.report_json import show_json
from nas.bench.table import Table, TableEvaluator
from nas.engine.finalists import choose_finalists
from nas.engine.screening import Stages, known_evaluation, reasons_to_skip, scoring_is_cheaper
from nas.engine.search_loop import search
from nas.evaluation.base import Evaluator
from nas.problem.budget import Budget
from nas.problem.objectives import Constraint, Evaluation, Fidelity, Measurement, Objective, Request, Status, minimised
from nas.problem.pareto import non_dominated
from nas.problem.variants import Variants
from nas.search.base import SearchProblem
from nas.search.random import RandomSearch
from nas.search.registry import make_algorithm
from nas.store.base import RunStore
from nas.store.memory import MemoryStore
from supernets.space import Architecture
from tests.contracts.run_facts import search_facts
from tests.errors import raises
from tests.nas.table_search import COLUMNS, OBJECTIVES, PROFILE, TABLE, Killed

IMAGES, ALL = 100, 449
ACCURACY, LATENCY = OBJECTIVES
MACS = Objective.parse("macs", [])


@dataclass
class Screening:
    """A table's figures; accuracies of some images are drawn about those of all, each network's always the same."""

    inner: TableEvaluator
    asked: list[Request] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"accuracy": 2.0, "latency_ms": 0.3})

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        for m in self.inner.evaluate(requests):
            self.asked.append(m.request)
            m = replace(m, seconds=self.seconds[m.request.metric])
            if m.request.metric == "accuracy":
                m = replace(m, detail={"images": ALL})
            if m.request.fidelity is Fidelity.SCREEN:
                seed = int.from_bytes(hashlib.sha256(m.request.architecture.key.encode()).digest()[:4])
                share = np.random.default_rng(seed).binomial(IMAGES, m.value or 0.0) / IMAGES
                m = replace(m, value=float(share), detail={"images": IMAGES})
            yield m

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.load(TABLE)


def run(
    table: Table, store: RunStore, algorithm: str, n: int, *, images: int | None = IMAGES,
    kill_after: int | None = None, constraints: Sequence[Constraint] = (),
) -> tuple[list[Evaluation], Screening]:  # fmt: skip
    evaluator = Screening(TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}))
    given: Evaluator = evaluator if kill_after is None else Killed(evaluator, kill_after)
    task = SearchProblem(table.space, OBJECTIVES, 3, constraints=constraints)
    told = search(
        table.space, OBJECTIVES, make_algorithm(algorithm, task), given, store, Budget(n),
        batch=8, constraints=constraints, screen_images=images,
    )  # fmt: skip
    return told, evaluator


def front_of(evaluations: Sequence[Evaluation]) -> set[Architecture]:
    keep = non_dominated(minimised(evaluations, OBJECTIVES))
    return {e.architecture for e, kept in zip(evaluations, keep, strict=True) if kept}


def describe(store: RunStore, table: Table, n: int) -> None:
    """The facts that a report needs."""
    store.describe(search_facts(table.space, [o.name for o in OBJECTIVES], profiles=[PROFILE]), budget=Budget(n))


class TestOnTheTable:
    def test_the_front_is_that_of_whole_evaluations_and_much_is_saved(self, table: Table) -> None:
        """Random search asks for the same networks either way, so that the fronts can be compared."""
        whole, all_asked = run(table, MemoryStore(), "random", 200, images=None)
        told, asked = run(table, MemoryStore(), "random", 200)
        assert [e.architecture for e in told] == [e.architecture for e in whole]
        assert front_of(told) == front_of(whole)
        assert not any(e.screened_out for e in told if e.architecture in front_of(whole))
        n_all, n_few = (
            sum(r.metric == "accuracy" and r.fidelity is Fidelity.SEARCH for r in e.asked) for e in (all_asked, asked)
        )
        assert n_all == 200
        assert n_few == sum(not e.screened_out for e in told) < 180

    def test_what_was_left_teaches_but_is_no_finalist_and_on_no_front(self, table: Table) -> None:
        store = MemoryStore()
        told, _ = run(table, store, "nsga2", 100)
        describe(store, table, 100)
        left = [e for e in told if e.screened_out]
        assert left
        assert not any(e.failed for e in left)
        for evaluation in left:
            accuracy = evaluation.measurements[ACCURACY.name]
            assert (accuracy.request.fidelity, accuracy.status) == (Fidelity.SCREEN, Status.OK)
            assert 0 < evaluation.value(ACCURACY) <= 1
            assert evaluation.value(LATENCY) > 0
        assert not {e.architecture for e in left} & set(choose_finalists(told, OBJECTIVES, []))
        report = build_report(store, run="run")
        shown = show_json(report)
        assert shown["evaluations"] == 100
        assert set(shown["screened_out"]) == {e.architecture.key for e in left}
        assert all("front" in why for why in shown["screened_out"].values())
        assert shown["failed"] == {}
        assert not {p["key"] for p in shown["front"]} & set(shown["screened_out"])
        assert len(report.hypervolume) == 100 - len(left)

    def test_the_smallest_and_the_largest_are_taken_whole(self, table: Table) -> None:
        told, asked = run(table, MemoryStore(), "random", 2)
        assert len(told) == 2
        assert {r.fidelity for r in asked.asked} == {Fidelity.SEARCH}

    @pytest.mark.parametrize(("algorithm", "images"), [("nsga2", IMAGES), ("guided", IMAGES), ("nsga2", 50)])
    def test_killed_anywhere_it_goes_on_the_same(self, table: Table, algorithm: str, images: int) -> None:
        """With timing first, and with some images first."""
        n = 70
        expected = MemoryStore()
        told, _ = run(table, expected, algorithm, n, images=images)
        assert expected.state().screened_first is (images == 50)
        assert any(e.screened_out for e in told)
        killed = MemoryStore()
        for after in (1, 3, 5, 11, 13, 17, 23, 29):
            with pytest.raises(KeyboardInterrupt):
                run(table, killed, algorithm, n, images=images, kill_after=after)
        again, _ = run(table, killed, algorithm, n, images=images)
        assert killed.asks() == expected.asks()
        kept = [{m.request: (m.status, m.value) for m in store.measurements()} for store in (killed, expected)]
        assert kept[0] == kept[1]
        assert [e.screened_out for e in again] == [e.screened_out for e in told]
        assert not killed.events()

    def test_what_was_decided_is_not_asked_of_models_again(self, table: Table) -> None:
        """Each time they would be fitted to what was told by then: a resumed search fits once and goes on."""
        n_asked = []

        class Counting(RandomSearch):
            def lower_confidence_bounds(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
                n_asked.append(len(architectures))
                return np.full((len(architectures), len(OBJECTIVES)), -np.inf)

        def go(n: int) -> None:
            evaluator = Screening(TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}))
            algorithm = Counting(table.space, seed=1)
            search(table.space, OBJECTIVES, algorithm, evaluator, store, Budget(n), batch=8, screen_images=IMAGES)

        store = MemoryStore()
        go(34)
        batches = len(n_asked)
        assert batches >= 4
        go(42)
        assert len(n_asked) - batches == 2  # after timing and after the first look at the new batch

    def test_a_recorded_decision_holds_whatever_would_be_decided_now(self, table: Table) -> None:
        store = MemoryStore()
        told, _ = run(table, store, "random", 100)
        left = [e.architecture for e in told if e.screened_out]
        again, asked = run(table, store, "random", 100)
        assert asked.asked == []
        assert [e.architecture for e in again if e.screened_out] == left
        # Another store, in which one that would be left was taken whole before the kill, and one left that would not be.
        other = MemoryStore()
        for step, batch in enumerate(store.asks()):
            other.record_ask(step, batch)
        taken = next(e.architecture for e in told[2:] if not e.screened_out)
        figures = TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01})
        (whole,) = figures.evaluate([Variants().request(left[0], ACCURACY)])
        other.add(whole)
        other.add(Measurement.skipped(Variants().request(taken, ACCURACY), "then", stage=1))
        third, _ = run(table, other, "random", 100)
        out = {e.architecture: e.screened_out for e in third}
        assert (out[left[0]], out[taken]) == (False, True)

    def test_a_first_look_that_fails_is_a_failure_whatever_models_expect(self, table: Table) -> None:
        class Hopeless(RandomSearch):
            def lower_confidence_bounds(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
                return np.full((len(architectures), len(OBJECTIVES)), 1e9)

        class Breaking(Screening):
            def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
                for m in super().evaluate(requests):
                    if m.request.metric == "accuracy" and m.request.architecture not in ends:
                        m = Measurement(m.request, Status.FAILED, None, None, message="it broke")
                    yield m

        ends = {table.space.smallest, table.space.largest}
        evaluator = Breaking(TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}))
        with raises("evaluation.failures-in-a-row", "20", "it broke"):
            search(
                table.space, OBJECTIVES, Hopeless(table.space, seed=1), evaluator, MemoryStore(), Budget(60),
                batch=8, screen_images=50,
            )  # fmt: skip

    def test_a_broken_constraint_ends_it_once_something_keeps_it(self, table: Table) -> None:
        latencies = [e.value(LATENCY) for e in run(table, MemoryStore(), "random", 60, images=None)[0]]
        limit = Constraint(LATENCY, maximum=float(np.quantile(latencies, 0.2)))
        store = MemoryStore()
        told, _ = run(table, store, "random", 60, constraints=[limit])
        slow = [e for e in told[2:] if e.value(LATENCY) > float(limit.maximum or 0)]
        assert sum(e.screened_out for e in slow) == len(slow)
        screened = {m.request.architecture for m in store.measurements(Fidelity.SCREEN)}
        assert not screened & {e.architecture for e in slow}, "their latency, taken first, was enough"


def made(table: Table, accuracy: float | None, latency: float | None, *, few: bool = False) -> Evaluation:
    architecture, found = table.space.smallest, dict[str, Measurement]()
    if accuracy is not None:
        fidelity = Fidelity.SCREEN if few else Fidelity.SEARCH
        request = Variants().request(architecture, ACCURACY, fidelity)
        found[ACCURACY.name] = Measurement(request, Status.OK, accuracy, 0.01, detail={"images": IMAGES})
    if latency is not None:
        found[LATENCY.name] = Measurement(Variants().request(architecture, LATENCY), Status.OK, latency, 0.05)
    return Evaluation(architecture, found)


@dataclass
class Bounding:
    """The same lower confidence bounds for every candidate."""

    best: tuple[float, float]

    def lower_confidence_bounds(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([self.best] * len(architectures))


class TestWorth:
    front = np.array([[-0.90, 1.0], [-0.95, 2.0]])

    def verdict(self, table: Table, evaluation: Evaluation, algorithm: object = None) -> str:
        plain = RandomSearch(table.space, seed=1) if algorithm is None else algorithm
        (found,) = reasons_to_skip([evaluation], OBJECTIVES, (), self.front, plain)  # type: ignore[arg-type]
        return found

    @pytest.mark.parametrize(
        ("accuracy", "latency", "left"),
        [
            (0.80, 1.5, True),  # 0.80 of 100 images is at most 0.868
            (0.85, 1.5, False),  # at most 0.909
            (0.80, 1.04, False),  # a noise floor faster it is as fast as the fastest
            (0.70, 0.9, False),
            (0.99, 3.0, False),
            (0.80, None, False),  # it may be fast
            (None, 3.0, False),  # it may be accurate
        ],
    )
    def test_a_candidate_is_left_where_even_luck_does_not_help_it(
        self, table: Table, accuracy: float | None, latency: float | None, left: bool
    ) -> None:
        evaluation = made(table, accuracy, latency, few=True)
        assert bool(self.verdict(table, evaluation)) is left

    def test_no_image_right_or_all_right_is_no_certainty(self, table: Table) -> None:
        front = np.array([[-0.03, 1.0]])
        none_right = made(table, 0.0, 1.5, few=True)
        assert reasons_to_skip([none_right], OBJECTIVES, (), front, RandomSearch(table.space, seed=1)) == [""]

    def test_models_bound_what_was_not_taken(self, table: Table) -> None:
        slow = made(table, None, 3.0)
        assert self.verdict(table, slow, Bounding((-0.94, 0.0)))
        assert not self.verdict(table, slow, Bounding((-0.96, 0.0)))
        assert not self.verdict(table, made(table, 0.80, None, few=True), Bounding((0.0, 0.5)))

    def test_a_failure_is_recorded_whole_and_nothing_is_left_while_nothing_is_feasible(self, table: Table) -> None:
        request = Variants().request(table.space.smallest, LATENCY)
        failed = Evaluation(
            table.space.smallest, {LATENCY.name: Measurement(request, Status.FAILED, None, None, message="no")}
        )
        assert not self.verdict(table, failed, Bounding((0.0, 9.0)))
        nothing = np.empty((0, 2))
        assert reasons_to_skip([made(table, 0.1, 9.0)], OBJECTIVES, (), nothing, RandomSearch(table.space, seed=1)) == [
            ""
        ]


def test_the_cheaper_of_timing_and_screening_comes_first(table: Table) -> None:
    anchors, _ = run(table, MemoryStore(), "random", 2)
    assert not scoring_is_cheaper(anchors, OBJECTIVES, IMAGES)  # 2 s x 100 / 449 against 0.3 s
    assert scoring_is_cheaper(anchors, OBJECTIVES, 50)
    figures = [*OBJECTIVES, MACS]
    few, search_ = Fidelity.SCREEN, Fidelity.SEARCH
    exact, timed, whole = ((MACS, search_),), ((LATENCY, search_),), ((ACCURACY, search_),)
    assert Stages.of(figures, screened_first=True).steps == (exact, ((ACCURACY, few),), timed, whole)
    stages = Stages.of(figures, screened_first=False)
    assert stages.steps == (exact, timed, ((ACCURACY, few),), whole)
    assert [stages.after(i) for i in range(4)] == [[LATENCY, ACCURACY], [ACCURACY], [ACCURACY], []]


def test_a_candidate_is_seen_by_the_best_figures_that_it_has(table: Table) -> None:
    architecture, request = table.space.largest, Variants().request
    few = Measurement(request(architecture, ACCURACY, Fidelity.SCREEN), Status.OK, 0.8, 0.1, detail={"images": IMAGES})
    left = Measurement.skipped(request(architecture, ACCURACY), "left", stage=0)
    whole = Measurement(request(architecture, ACCURACY), Status.OK, 0.85, 0.01)

    def seen(*found: Measurement) -> Evaluation:
        return known_evaluation(architecture, OBJECTIVES, {m.request: m for m in found}, Variants())

    assert seen(few).measurements == {ACCURACY.name: few}
    assert seen(few, left).measurements == {ACCURACY.name: few}
    assert seen(few, whole).measurements == {ACCURACY.name: whole}
    broke = Measurement(request(architecture, ACCURACY, Fidelity.SCREEN), Status.FAILED, None, None, message="broke")
    assert seen(broke).failed
    assert seen(broke, whole).measurements == {ACCURACY.name: whole}
    assert seen(left).screened_out
    assert not seen(whole).screened_out
