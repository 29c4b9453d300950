"""Scaling of a search with Ray workers: evaluations of a fixed time, with the real loop, store and pool.

Run: ``python -m tests.benchmarks.ray_scaling``, or with ``--table TABLE.yaml --maximize COLUMN --minimize COLUMN`` (by default
columns of NAS-Bench-201): in a large space, like real ones, few of the offspring are known already.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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
from tests.nas.pooled_table import PooledTable
from tests.nas.table_search import COLUMNS, OBJECTIVES, TABLE

METHOD = """\
A table's networks (by default the tests' 480 digits networks), through the loop and the pool of actors of real searches and a
durable store (SQLite, WAL): each evaluation is a task for an actor of one CPU that sleeps and answers with the table's
values. The actors run already when the clock starts. Ideal: evaluations x seconds / workers. Efficiency: ideal / wall time,
the median run; the first two evaluations, the smallest and the largest network, are a batch of their own, and each batch
waits for the results of the previous one. Between batches: from a batch's last result to the next one's first request, while
all workers are idle; median of all runs."""


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


def main() -> None:
    parser = argparse.ArgumentParser(description=METHOD)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--maximize", default="accuracy_cifar100", help="a column of --table")
    parser.add_argument("--minimize", default="latency_ms_raspi4", help="a column of --table")
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--batches", default="8,16")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--algorithm", default="nsga2")
    arguments = parser.parse_args()
    print(METHOD, end="\n\n")
    if arguments.table:
        searched = Searched.of(arguments.table, [arguments.maximize], [arguments.minimize])
    else:
        searched = Searched.of_the_tests()
    workers = [int(n) for n in arguments.workers.split(",")]
    start_ray(cpus=max(workers))
    print("| batch | workers | ideal, s | wall, s | efficiency | between batches, ms |\n|---|---|---|---|---|---|")
    try:
        for batch in (int(n) for n in arguments.batches.split(",")):
            for n_workers in workers:
                runs = [
                    wall_seconds(
                        searched, n_workers, arguments.evaluations, arguments.seconds, batch, arguments.algorithm
                    )
                    for _ in range(arguments.repeats)
                ]
                ideal = arguments.evaluations * arguments.seconds / n_workers
                wall = statistics.median(took for took, _ in runs)
                pause = statistics.median(ms for _, pauses in runs for ms in pauses)
                row = f"| {batch} | {n_workers} | {ideal:.2f} | {wall:.2f} | {ideal / wall:.2f} | {pause:.1f} |"
                print(row, flush=True)
    finally:
        stop_ray()


if __name__ == "__main__":
    main()
