"""Benchmark of search algorithms: the evaluations that they need for the exact front of a table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nas.engine.search_loop import search
from nas.engine.store.memory import MemoryStore
from nas.errors import UnknownNameError
from nas.plugins import Kind, find
from nas.plugins.parts import require
from nas.runs.bench.errors import BenchmarkError
from nas.runs.bench.results_file import ResultsFile, Row
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.algorithms import ALGORITHMS
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Evaluation, Goal, Objective, minimised
from nas.search.problem.pareto import MARGIN, GrowingVolume, hypervolume, non_dominated
from nas.search.registry import check_predictor, make_algorithm
from predictors.threads import one_thread
from supernets.space import Architecture

SHARES = (0.9, 0.95, 0.99)
"""Shares of the exact hypervolume for which every row reports the evaluations."""
BATCH = 10
_ROUNDING = 1e-9
"""A share that rounding leaves this far below a target has reached it."""

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """A search problem whose measurements are all in a table, so that its exact front is known.

    Attributes:
        reference: the exact front's nadir, moved out by 10 % of the front's range in each objective (of the table's
            range where the front has none), minimised, (n_objectives,).
        volume: the exact front's hypervolume.
        n_front: different points of the exact front.
        exact: objectives that need no measuring: algorithms can compute them for any architecture.
    """

    table: Table
    objectives: tuple[Objective, ...]
    reference: _Array
    volume: float
    n_front: int
    exact: tuple[str, ...] = ()

    @classmethod
    def from_table(
        cls, table: Table, maximize: Sequence[str], minimize: Sequence[str], exact: Sequence[str] = ()
    ) -> Replay:
        """The problem of a table and its columns.

        The evaluation of an architecture that lacks a value, or has no row, fails; most must have one.

        Raises:
            UnknownNameError: the table has no such column, or an exact column is not an objective.
            EvaluationError: fewer than two columns, a duplicate or a constant one, averages that do not distinguish the
                rows (``table.disagreement``), or too few values (``benchmark.unknown-front``).
        """
        goals = [(Goal.MAXIMIZE, maximize), (Goal.MINIMIZE, minimize)]
        objectives = tuple(Objective(name, "", goal) for goal, names in goals for name in names)
        _check_columns(table, [o.name for o in objectives])
        _check_exact(table, [o.name for o in objectives], exact)
        values = np.column_stack([o.sign * np.array(table.values[o.name], dtype=np.float64) for o in objectives])
        complete = values[~np.isnan(values).any(axis=1)]
        _check_values(table, objectives, complete)
        front = np.unique(complete[non_dominated(complete)], axis=0)
        extent = np.ptp(front, axis=0)
        reference = front.max(axis=0) + MARGIN * np.where(extent > 0, extent, np.ptp(complete, axis=0))
        return cls(table, objectives, reference, hypervolume(front, reference), len(front), tuple(exact))

    def to_json(self) -> dict[str, object]:
        """The table, the objectives and the exact columns, which determine the problem, as plain data."""
        table = {"name": self.table.name, "digest": self.table.digest}
        return {"table": table, "objectives": {o.name: str(o.goal) for o in self.objectives}, "exact": list(self.exact)}

    def problem(self, seed: int) -> SearchProblem:
        """The input of an algorithm."""
        exact = {name: partial(self._column, name) for name in self.exact}
        return SearchProblem(self.table.space, self.objectives, seed, exact=exact)

    def run(
        self,
        algorithm: str,
        seed: int,
        *,
        evaluations: int,
        target: float | None = None,
        batch: int = BATCH,
        on_progress: Callable[[int, float], None] = lambda done, share: None,
    ) -> Row:
        """One search by the loop of real searches; the same arguments give the same row but for its seconds.

        Args:
            evaluations: Maximum number of evaluations, including the smallest and the largest architecture, which come first.
            target: Share after which the run ends, with the batch that reaches it; reported in addition to `SHARES`.
            on_progress: Called with the evaluations so far and their share, before each ask but the first.

        Raises:
            UnknownNameError: there is no such algorithm.
            EvaluationError: invalid numbers, or too many evaluations failed in a row.
        """
        check_numbers(evaluations=evaluations, target=target, batch=batch)
        watch, store = _Watch(self, target, on_progress), MemoryStore()
        name, _, predictor = algorithm.partition("+")
        evaluator = TableEvaluator(self.table, {o.name: o.name for o in self.objectives})
        with one_thread():
            start = time.process_time()
            evaluated = search(
                self.table.space,
                self.objectives,
                make_algorithm(name, self.problem(seed), predictor=predictor),
                evaluator,
                store,
                Budget(evaluations),
                batch=batch,
                stop_when=watch,
            )
            seconds = time.process_time() - start - watch.seconds
        shares = watch.update(evaluated)
        shown = dict.fromkeys((*SHARES, *((target,) if target is not None else ())))
        reached = {f"{share:g}": _reached(shares, share) for share in sorted(shown)}
        return Row(algorithm, seed, reached, _steps(shares, [len(ask) for ask in store.asks()]), max(seconds, 0.0))

    def _column(self, name: str, architectures: Sequence[Architecture]) -> _Array:
        return np.array([self.table.value(a, name) for a in architectures], dtype=np.float64)  # None becomes NaN


def bench_search(
    replay: Replay,
    algorithms: Sequence[str],
    *,
    evaluations: int,
    seeds: int,
    target: float | None = None,
    batch: int = BATCH,
    results: ResultsFile[Row] | None = None,
    on_progress: Callable[[str, int, int, float], None] = lambda algorithm, seed, done, share: None,
) -> Iterator[Row]:
    """Rows of all algorithms for the seeds 0, 1, ..., as they end.

    Args:
        algorithms: names as in job files, or ``module:Class``; ``nsga2+lightgbm`` for one with a predictor.
        results: gets each row when it ends; rows that it has are not run again.
        on_progress: called with the algorithm, the seed, its evaluations so far and their share.

    Raises:
        UnknownNameError: there is no such algorithm, or no such predictor.
        NasError: an algorithm takes no predictor.
        PartError: the optional part of the installation that one needs is missing.
        BenchmarkError: no algorithm or a duplicate, or invalid numbers.
    """
    for name, _, predictor in (label.partition("+") for label in algorithms):
        if find(Kind.SEARCH, name, ALGORITHMS) is None and (part := ALGORITHMS[name].part):
            require(part, f"the algorithm {name}")
        if predictor:
            check_predictor(name, predictor)
    if not algorithms or len(set(algorithms)) != len(algorithms):
        raise BenchmarkError(f"the algorithms are {', '.join(algorithms) or 'none'}; expected different ones")
    if seeds < 1:
        raise BenchmarkError(f"seeds: expected at least 1, got {seeds}", parameter="seeds")
    check_numbers(evaluations=evaluations, target=target, batch=batch)
    settings = {**replay.to_json(), "evaluations": evaluations, "target": target, "batch": batch}
    finished = {} if results is None else results.read(settings)

    def rows() -> Iterator[Row]:
        for name, seed in product(algorithms, range(seeds)):
            row = finished.get((name, seed))
            if row is None:
                row = replay.run(
                    name,
                    seed,
                    evaluations=evaluations,
                    target=target,
                    batch=batch,
                    on_progress=partial(on_progress, name, seed),
                )
                if results is not None:
                    results.add(row, settings)
            yield row

    return rows()


def check_numbers(*, evaluations: int, target: float | None, batch: int) -> None:
    """Raises `BenchmarkError` for numbers that make no run."""
    if evaluations < 2:
        raise BenchmarkError(f"{evaluations} evaluations; expected at least 2: the smallest and the largest come first")
    if target is not None and not 0 < target <= 1:
        raise BenchmarkError(f"the target is {target:g}; expected a share above 0 and at most 1, as in 0.99")
    if batch < 1:
        raise BenchmarkError(f"batches of {batch}; expected at least 1")


def quartiles(numbers: Sequence[int | None]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; None counts as infinite."""
    ordered = sorted(math.inf if number is None else float(number) for number in numbers)
    out = []
    for share in (0.25, 0.5, 0.75):
        place = share * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        out.append(low if low == high else low + (high - low) * (place - math.floor(place)))
    return out[0], out[1], out[2]


@dataclass
class _Watch:
    """Records a run's share of the exact volume, and ends the run at its target."""

    replay: Replay
    target: float | None
    on_progress: Callable[[int, float], None]
    seconds: float = 0.0
    shares: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._volume = GrowingVolume(self.replay.reference)

    def __call__(self, evaluated: Sequence[Evaluation]) -> str:
        start = time.process_time()
        share = self.update(evaluated)[-1]
        self.on_progress(len(evaluated), share)
        self.seconds += time.process_time() - start
        if self.target is not None and share >= self.target - _ROUNDING:
            return f"{self.target:g} of the exact hypervolume is reached"
        return ""

    def update(self, evaluated: Sequence[Evaluation]) -> list[float]:
        """The share after each evaluation."""
        for row in minimised(evaluated[len(self.shares) :], self.replay.objectives):
            self.shares.append(self._volume.add(row) / self.replay.volume)
        return self.shares


def _reached(shares: Sequence[float], target: float) -> int | None:
    return next((n for n, share in enumerate(shares, start=1) if share >= target - _ROUNDING), None)


def _steps(shares: Sequence[float], batches: Sequence[int]) -> list[tuple[int, float]]:
    """The pairs of a `Row`."""
    ends = {int(end) for end in np.cumsum(batches)}
    grew = {n for n in range(1, len(shares) + 1) if shares[n - 1] > (shares[n - 2] if n > 1 else 0.0)}
    return [(n, shares[n - 1]) for n in sorted(ends | grew)]


def _check_columns(table: Table, names: Sequence[str]) -> None:
    table.check_replayable()
    for name in names:
        if name not in table.values:
            raise UnknownNameError("column", name, table.values, where=table.name)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BenchmarkError(f"{twice!r} is named twice among the columns to maximize and minimize; name it once")
    if len(names) < 2:
        requested = ", ".join(map(repr, names)) or "none"
        available = ", ".join(table.values)
        raise BenchmarkError(f"a front needs at least two columns, got {requested}; {table.name} has {available}")


def _check_exact(table: Table, names: Sequence[str], exact: Sequence[str]) -> None:
    for name in exact:
        if name not in names:
            raise UnknownNameError("objective", name, names, where="the exact columns")
        if len(table.rows) < table.space.size or np.isnan(table.values[name]).any():
            raise BenchmarkError(f"{table.name} lacks values of {name}; an exact column needs all of them")


def _check_values(table: Table, objectives: Sequence[Objective], complete: _Array) -> None:
    """Raises unless the exact front is known and a search can begin."""
    if 2 * len(complete) <= table.space.size:
        names = ", ".join(o.name for o in objectives)
        raise BenchmarkError(
            f"{table.name} has {names} for {len(complete)} of the {table.space.size:.4g} architectures of its space; most "
            "evaluations would fail: use a table with every architecture ('exhaustive: true')",
            code="benchmark.unknown-front",
        )
    for objective, column in zip(objectives, complete.T, strict=True):
        if np.ptp(column) == 0:
            value = objective.sign * column[0]
            raise BenchmarkError(f"{table.name}: {objective.name} is {value:g} in all rows, nothing to optimize")
    for which, architecture in (("smallest", table.space.smallest), ("largest", table.space.largest)):
        for objective in objectives:
            if table.value(architecture, objective.name) is None:
                message = (
                    f"{table.name} has no {objective.name} of the {which} architecture ({architecture.key}); add it"
                )
                raise BenchmarkError(message, code="benchmark.unknown-front")
