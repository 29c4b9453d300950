"""A table's figures through the true pool of Ray actors, each of which sleeps as long as an evaluation would take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from nas.engine.evaluation.actors import ActorPool
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.problem.objectives import Measurement, Request, Status
from supernets.space import Architecture
from tests.nas.table_search import COLUMNS, TABLE

Requests = tuple[Request, ...]


class TableWorker:
    """Answers all requests of one architecture after some seconds."""

    def __init__(self, table: TableEvaluator, seconds: float) -> None:
        self._table, self._seconds = table, seconds

    def __call__(self, requests: Requests) -> list[Measurement]:
        time.sleep(self._seconds)
        return list(self._table.evaluate(requests))


class PooledTable:
    """An evaluator over a pool of `TableWorker`; of the tests' own table where none is given."""

    def __init__(
        self,
        seconds: float,
        table: TableEvaluator | None = None,
        *,
        workers: int | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        answers = table or TableEvaluator(Table.load(TABLE), COLUMNS, scales={"accuracy": 0.01})
        self.pool: ActorPool[Requests, list[Measurement]] = ActorPool(
            TableWorker, (answers, seconds), workers=workers, note=note
        )

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        tasks: dict[Architecture, list[Request]] = {}
        for request in requests:
            tasks.setdefault(request.architecture, []).append(request)
        for outcome in self.pool.run([tuple(task) for task in tasks.values()]):
            if outcome.failure:
                for request in outcome.task:
                    yield Measurement(request, Status.FAILED, None, None, message=outcome.failure)
            else:
                yield from outcome.result or []

    def close(self) -> None:
        self.pool.close()
