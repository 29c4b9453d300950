"""Scaling of a search with Ray workers: evaluations of a fixed time, with the real loop, store and pool.

    python -m tests.benchmarks.ray_scaling [--workers 1,2,4,8] [--batches 8,16] [--algorithm nsga2]
    python -m tests.benchmarks.ray_scaling --table TABLE.yaml [--maximize COLUMN] [--minimize COLUMN]

Columns are by default those of NAS-Bench-201: in a large space, like real ones, few of the offspring are known already.

Method. A table's networks (by default the tests' 480 digits networks), through the loop and the pool of actors of real searches
and a durable store (SQLite, WAL): each evaluation is a task for an actor of one CPU that sleeps and answers with the table's
values. The actors run already when the clock starts. Ideal: evaluations x seconds / workers. Efficiency: ideal / wall time, the
median run; the first two evaluations, the smallest and the largest network, are a batch of their own, and each batch waits for
the results of the previous one. Between batches: from a batch's last result to the next one's first request, while all workers
are idle; median of all runs.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Self

import typer

from nas.engine.evaluation.base import Evaluator
from nas.engine.evaluation.cluster import start_ray, stop_ray
from nas.engine.search_loop import search
from nas.engine.store.sql import SqlStore
from nas.runs.bench.search import Replay
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Measurement, Objective, Request
from nas.search.registry import make_algorithm
from tests.benchmarks.markdown import table_head, table_row
from tests.nas.pooled_table import PooledTable
from tests.nas.table_search import COLUMNS, OBJECTIVES, TABLE


class Batches:
    """Forwards requests, and records the time in which none is in progress."""

    def __init__(self, inner: Evaluator) -> None:
        self._inner, self._ended = inner, math.nan
        self.pauses_ms: list[float] = []

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        if not math.isnan(self._ended):
            self.pauses_ms.append(1e3 * (time.perf_counter() - self._ended))
        for measurement in self._inner.evaluate(requests):
            self._ended = time.perf_counter()  # before it is stored, which is a part of the pause
            yield measurement

    def close(self) -> None:
        self._inner.close()


@dataclass(frozen=True)
class Searched:
    """A table with the objectives of its search, and its answers."""

    table: Table
    objectives: Sequence[Objective]
    answers: TableEvaluator

    @classmethod
    def of(cls, path: Path, maximize: Sequence[str], minimize: Sequence[str]) -> Self:
        replay = Replay.from_table(Table.load(path), maximize, minimize)
        return cls(
            replay.table, replay.objectives, TableEvaluator(replay.table, {o.name: o.name for o in replay.objectives})
        )

    @classmethod
    def of_the_tests(cls) -> Self:
        table = Table.load(TABLE)
        return cls(table, OBJECTIVES, TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}))


def wall_seconds(
    searched: Searched, n_workers: int, evaluations: int, seconds: float, batch: int, algorithm: str
) -> tuple[float, list[float]]:
    """Wall seconds of one search, from its first ask to its end, and the milliseconds between its batches."""
    space, objectives = searched.table.space, searched.objectives
    evaluator = PooledTable(seconds, searched.answers, workers=n_workers)
    warm_up = [Request(architecture, objectives[0].metric) for architecture in searched.table.architectures[:n_workers]]
    for _ in range(2):  # the first actor to start may execute all tasks of the first call
        list(evaluator.evaluate(warm_up))
    algorithm_ = make_algorithm(algorithm, SearchProblem(space, objectives, 1))
    with tempfile.TemporaryDirectory() as folder:
        store = SqlStore.open(Path(folder) / "run.db", create=True, driver=True)
        batches = Batches(evaluator)
        started = time.perf_counter()
        evaluated = search(space, objectives, algorithm_, batches, store, Budget(evaluations), batch=batch)
        took = time.perf_counter() - started
        store.close()
    evaluator.close()
    assert len(evaluated) == evaluations
    return took, batches.pauses_ms


def main(
    table: Annotated[Path | None, typer.Option(help="a description; the tests' table by default")] = None,
    maximize: Annotated[str, typer.Option(help="a column of --table")] = "accuracy_cifar100",
    minimize: Annotated[str, typer.Option(help="a column of --table")] = "latency_ms_raspi4",
    workers: str = "1,2,4,8",
    batches: str = "8,16",
    evaluations: int = 200,
    seconds: Annotated[float, typer.Option(help="of an evaluation")] = 0.05,
    repeats: int = 3,
    algorithm: str = "nsga2",
) -> None:
    """Prints a line for each batch size and number of workers."""
    print(__doc__)
    searched = Searched.of(table, [maximize], [minimize]) if table else Searched.of_the_tests()
    counts = [int(n) for n in workers.split(",")]
    start_ray(cpus=max(counts))
    print(table_head("batch", "workers", "ideal, s", "wall, s", "efficiency", "between batches, ms"))
    try:
        for batch in map(int, batches.split(",")):
            for n in counts:
                runs = [wall_seconds(searched, n, evaluations, seconds, batch, algorithm) for _ in range(repeats)]
                ideal, wall = evaluations * seconds / n, median(took for took, _ in runs)
                pause = median(ms for _, pauses in runs for ms in pauses)
                print(
                    table_row(batch, n, f"{ideal:.2f}", f"{wall:.2f}", f"{ideal / wall:.2f}", f"{pause:.1f}"),
                    flush=True,
                )
    finally:
        stop_ray()


if __name__ == "__main__":
    typer.run(main)
