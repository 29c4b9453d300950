"""A whole search on the table that the tests ship: the real loop, algorithms and store, in a process that can be killed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.engine.evaluation.base import Evaluator
from nas.engine.search_loop import search
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.database import Database
from nas.engine.store.sql import SqlStore
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget, Plateau
from nas.search.problem.objectives import Evaluation, Measurement, Objective, Request
from nas.search.registry import make_algorithm

TABLE = Path(__file__).parents[1] / "data" / "digits_cnn.yaml"
PROFILE = "cpu-1-thread-batch-16"
OBJECTIVES = [Objective.parse(name, [PROFILE]) for name in ("accuracy", "latency_ms")]
COLUMNS = {"accuracy": "accuracy", f"latency_ms@{PROFILE}": "latency_ms"}


@dataclass
class Killed:
    """An evaluator during which the driver is interrupted, as if by a kill, after so many measurements."""

    inner: Evaluator
    left: int

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        for measurement in self.inner.evaluate(requests):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield measurement

    def close(self) -> None:
        """Nothing to close."""


def run_search(
    store: RunStore,
    algorithm: str,
    seed: int,
    evaluations: int,
    *,
    plateau: Plateau | None = None,
    plateau_from: int = 0,
    delay_s: float = 0.0,
    counter: int | None = None,
    kill_after: int | None = None,
) -> list[Evaluation]:
    """Searches to the end.

    Args:
        counter: a file descriptor that each evaluation counted is written to.
        kill_after: raise `KeyboardInterrupt` once so many measurements were made and kept.
    """
    table = Table.load(TABLE)

    def count(progress: SearchProgress) -> None:
        if counter is not None:
            os.write(counter, f"{progress.done}\n".encode())

    evaluator = TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01}, delay_s=delay_s)
    return search(
        table.space,
        OBJECTIVES,
        make_algorithm(algorithm, SearchProblem(table.space, OBJECTIVES, seed)),
        evaluator if kill_after is None else Killed(evaluator, kill_after),
        store,
        Budget(evaluations, None, plateau, plateau_from),
        batch=8,
        on_progress=count,
    )


def drive(
    database: Path | Database, algorithm: str, seed: int, evaluations: int, delay_s: float, counter: Path
) -> None:
    """A driver's process: starts the run, or resumes what is there, and marks it finished."""
    store = SqlStore.open(database, create=True, driver=True)
    descriptor = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store.set_status(RunStatus.RUNNING)
    run_search(store, algorithm, seed, evaluations, delay_s=delay_s, counter=descriptor)
    store.set_status(RunStatus.FINISHED)
    store.close()
