"""Searches that ask for one more candidate whenever a worker is free: what is asked when, and resumed after any kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from nas.engine.evaluation.in_flight import InFlight
from nas.engine.search_loop import search
from nas.engine.store.memory import MemoryStore
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.base import SearchAlgorithm, SearchProblem, as_asynchronous
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Evaluation, Measurement, Request, Status
from nas.search.random import RandomSearch
from nas.search.registry import make_algorithm
from supernets.space import Architecture
from tests.nas.simulated_workers import SimulatedWorkers
from tests.nas.table_search import COLUMNS, OBJECTIVES, TABLE

N_WORKERS = 6


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.load(TABLE)


def values(table: Table) -> TableEvaluator:
    return TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01})


def run(
    table: Table,
    evaluator: Any,
    store: MemoryStore,
    n: int,
    algorithm: str | SearchAlgorithm = "random",
    **options: Any,
) -> list[Evaluation]:
    if isinstance(algorithm, str):
        algorithm = make_algorithm(algorithm, SearchProblem(table.space, OBJECTIVES, 1, **options))
    return search(table.space, OBJECTIVES, algorithm, evaluator, store, Budget(n), batch=8)


def test_no_worker_waits_while_there_is_budget(table: Table) -> None:
    workers = SimulatedWorkers(values(table), N_WORKERS)
    evaluations = run(table, workers, MemoryStore(), 60)
    assert len({e.architecture for e in evaluations}) == len(evaluations) == 60
    rng, free_at = np.random.default_rng(0), [0.0] * N_WORKERS
    for seconds in rng.lognormal(0.0, 0.6, 60):  # list scheduling of the same times
        free_at[int(np.argmin(free_at))] += seconds
    assert workers.now == pytest.approx(max(free_at))


def test_synchronous_searches_wait_for_whole_batches(table: Table) -> None:
    store = MemoryStore()
    algorithm = RandomSearch(table.space, seed=1)
    workers = SimulatedWorkers(values(table), N_WORKERS)
    search(table.space, OBJECTIVES, algorithm, workers, store, Budget(20), batch=8, synchronous=True)
    assert [len(asked) for asked in store.asks()] == [2, 8, 8, 2]
    assert store.told() == [None] * 4


def test_each_ask_is_recorded_with_what_was_told(table: Table) -> None:
    store = MemoryStore()
    evaluations = run(table, SimulatedWorkers(values(table), N_WORKERS), store, 40)
    told = [architecture for some in store.told() for architecture in some or []]
    assert told == [e.architecture for e in evaluations][: len(told)]
    n_pending = 0
    for asked, some in zip(store.asks()[1:], store.told()[1:], strict=True):
        n_pending += len(asked) - len(some or [])
        assert n_pending + 2 == N_WORKERS
    assert len(told) == 40 - N_WORKERS


class Batched(RandomSearch):
    """An algorithm that cannot be asked while others are evaluated."""

    def ask(self, n: int) -> list[Architecture]:  # type: ignore[override]
        return super().ask(n)


def test_algorithms_without_pending_are_asked_for_batches(table: Table) -> None:
    assert as_asynchronous(Batched(table.space, seed=1)) is None
    store = MemoryStore()
    run(table, SimulatedWorkers(values(table), N_WORKERS), store, 20, Batched(table.space, seed=1))
    assert [len(asked) for asked in store.asks()] == [2, 8, 8, 2]


@pytest.mark.parametrize("name", ["nsga2", "local-search", "regularized-evolution"])
def test_asked_architectures_are_new_until_the_space_is_used_up(name: str) -> None:
    table = Table.load(TABLE)
    store = MemoryStore()
    evaluations = run(table, SimulatedWorkers(values(table), 16), store, 60, name)
    asked = [architecture for step in store.asks() for architecture in step]
    assert len(asked) == len(set(asked)) == len(evaluations) == 60


class Killed(BaseException):
    """Ends the driver."""


class KilledStore(MemoryStore):
    """A store whose driver is killed at a write: before it, or after."""

    def __init__(self) -> None:
        super().__init__()
        self.n_writes, self.killed_at, self.after = 0, 10**9, False

    def _write(self, write: Callable[..., None], *arguments: Any) -> None:
        self.n_writes += 1
        if self.n_writes >= self.killed_at and not self.after:
            raise Killed
        write(*arguments)
        if self.n_writes >= self.killed_at:
            raise Killed

    def add(self, *measurements: Measurement) -> None:
        self._write(super().add, *measurements)

    def record_ask(
        self, step: int, architectures: Sequence[Architecture], told: Sequence[Architecture] | None = None
    ) -> None:
        self._write(super().record_ask, step, architectures, told)


class InOrder:
    """Workers whose candidates arrive in a recorded order."""

    def __init__(self, inner: TableEvaluator, order: Sequence[Architecture]) -> None:
        self._inner, self._order = inner, list(order)
        self._running: dict[Architecture, Sequence[Request]] = {}

    def slots(self) -> int:
        return N_WORKERS

    def start(self, requests: Sequence[Request]) -> None:
        self._running[requests[0].architecture] = requests

    def arrived(self) -> Sequence[Measurement]:
        first = next(architecture for architecture in self._order if architecture in self._running)
        return list(self._inner.evaluate(self._running.pop(first)))

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        yield from self._inner.evaluate(requests)

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(("name", "n", "n_kills"), [("random", 30, 10), ("nsga2", 70, 10), ("linas", 40, 4)])
def test_a_search_killed_at_any_write_asks_what_the_uninterrupted_one_asks(
    table: Table, name: str, n: int, n_kills: int
) -> None:
    expected = KilledStore()
    evaluations = run(table, SimulatedWorkers(values(table), N_WORKERS), expected, n, name)
    order = [e.architecture for e in evaluations]
    rng = np.random.default_rng(0)
    for killed_at in sorted(rng.choice(np.arange(1, expected.n_writes), size=n_kills, replace=False)):
        store = KilledStore()
        store.killed_at, store.after = int(killed_at), bool(rng.integers(2))
        with pytest.raises(Killed):
            run(table, InOrder(values(table), order), store, n, name)
        store.killed_at = 10**9
        resumed = run(table, InOrder(values(table), order), store, n, name)
        assert [e.architecture for e in resumed] == order
        assert store.asks() == expected.asks()
        assert store.told() == expected.told()
        assert not store.events()
        assert store.n_measurements() == 2 * n


def test_a_candidate_is_complete_with_its_last_metric() -> None:
    first, second = Architecture((0,)), Architecture((1,))
    requests = {a: {name: Request(a, name) for name in ("accuracy", "macs")} for a in (first, second)}
    answers = [(first, "accuracy"), (second, "macs"), (second, "accuracy"), (first, "macs")]

    class Scripted(InOrder):
        def start(self, requests: Sequence[Request]) -> None:
            """Answers come as scripted."""

        def arrived(self) -> Sequence[Measurement]:
            architecture, name = answers.pop(0)
            return [Measurement(requests[architecture][name], Status.OK, 1.0, 0.0)]

    in_flight = InFlight(Scripted(None, ()), requests.__getitem__, lambda r: r.architecture)  # type: ignore[arg-type]
    in_flight.start(first)
    in_flight.start(second)
    assert [in_flight.next().architecture, in_flight.next().architecture] == [second, first]
