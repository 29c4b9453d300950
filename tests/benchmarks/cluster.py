"""Searches by many workers: how busy they are, what the engine takes, and what asking for one network at a time costs.

    python -m tests.benchmarks.cluster efficiency [--workers 4,16,64] [--algorithms random,nsga2]
    python -m tests.benchmarks.cluster quality TABLE.yaml [--minimize COLUMN] [--workers 4,16] [--seeds 10]

Method of `efficiency`. The real loop, store (SQLite, WAL) and pool of Ray actors; each evaluation is a task for an actor that
sleeps for a log-normal time (median `--median` seconds, sigma 0.6) and answers in a space of 45 genes at no cost. A local
cluster offers as many CPUs as there are workers, whatever the machine has. All actors run already when the clock starts.
Efficiency: the sum of all times / workers / wall time, from the first ask to the last answer; `ideal` is that of list
scheduling of the same times, which the last evaluations keep below 1. Engine: CPU milliseconds of the driver's process for each
evaluation, Ray's threads in it included. Baseline: the synchronous search, with batches of as many networks as there are
workers.

Method of `quality`. The real loop on a published table; workers are simulated (the same log-normal times), so that only the
order of arrival is theirs. Evaluations to 99 % of the exact front's hypervolume, and the simulated time to it in medians of an
evaluation; means over seeds with standard errors. Baseline: the synchronous search with batches of 8, or of as many as there
are workers where these are more.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from nas.engine.evaluation.actors import ActorPool
from nas.engine.evaluation.cluster import start_ray, stop_ray
from nas.engine.search_loop import search
from nas.engine.store.memory import MemoryStore
from nas.engine.store.sql import SqlStore
from nas.runs.bench.search import Replay
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Evaluation, Measurement, Objective, Request, minimised
from nas.search.problem.pareto import hypervolume_history
from nas.search.registry import make_algorithm
from supernets.space import Architecture
from tests.benchmarks.instant_evaluations import InstantEvaluator, elastic_space
from tests.benchmarks.markdown import table_head, table_row
from tests.nas.simulated_workers import SimulatedWorkers

SIGMA = 0.6
SHARE = 0.99
OBJECTIVES = (Objective.parse("accuracy", ()), Objective.parse("latency_ms@board", ("board",)))
app = typer.Typer(add_completion=False)
_Task = tuple[float, tuple[Request, ...]]


class Sleeper:
    """Answers all requests of one architecture after some seconds."""

    def __init__(self) -> None:
        self._values = InstantEvaluator(elastic_space())

    def __call__(self, task: _Task) -> list[Measurement]:
        seconds, requests = task
        time.sleep(seconds)
        return list(self._values.evaluate(requests))


class SleepingWorkers:
    """A streaming evaluator over a pool of `Sleeper`, whose n-th evaluation takes the n-th time."""

    def __init__(self, workers: int, seconds: Sequence[float]) -> None:
        self._pool: ActorPool[_Task, list[Measurement]] = ActorPool(Sleeper, workers=workers)
        self._seconds, self._n_started = seconds, 0

    def warm_up(self, workers: int) -> None:
        request = Request(elastic_space().smallest, "accuracy")
        for _ in range(2):  # the first actor to start may execute all tasks of the first call
            list(self._pool.run([(0.5, (request,))] * workers))

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        tasks: dict[Architecture, list[Request]] = {}
        for request in requests:
            tasks.setdefault(request.architecture, []).append(request)
        for outcome in self._pool.run([self._task(task) for task in tasks.values()]):
            yield from outcome.result or []

    def slots(self) -> int:
        return self._pool.slots()

    def start(self, requests: Sequence[Request]) -> None:
        self._pool.start(self._task(requests))

    def arrived(self) -> Sequence[Measurement]:
        return [measurement for outcome in self._pool.finished() for measurement in outcome.result or []]

    def close(self) -> None:
        self._pool.close()

    def _task(self, requests: Sequence[Request]) -> _Task:
        self._n_started += 1
        return self._seconds[self._n_started - 1], tuple(requests)


def list_scheduled(seconds: Sequence[float], workers: int) -> float:
    """Seconds until the last of these tasks ends, each given to the first free worker."""
    free_at = np.zeros(workers)
    for duration in seconds:
        free_at[np.argmin(free_at)] += duration
    return float(free_at.max())


@app.command()
def efficiency(
    workers: str = "4,16,64",
    algorithms: str = "random,nsga2",
    per_worker: Annotated[int, typer.Option(help="evaluations for each worker")] = 20,
    median: Annotated[float, typer.Option(help="seconds of an evaluation")] = 1.0,
    synchronous: Annotated[bool, typer.Option(help="the baseline, too")] = True,
) -> None:
    """Prints a row for each algorithm and number of workers."""
    print(__doc__)
    head = ("algorithm", "workers", "evaluations", "ideal", "efficiency", "synchronous", "engine, CPU ms")
    print(table_head(*head), flush=True)
    space = elastic_space()
    for n in map(int, workers.split(",")):
        seconds = np.random.default_rng(0).lognormal(np.log(median), SIGMA, per_worker * n).tolist()
        start_ray(cpus=n)
        try:
            for name in algorithms.split(","):
                shares, engine_ms = [], 0.0
                for is_synchronous in [False, True] if synchronous else [False]:
                    evaluator = SleepingWorkers(n, seconds)
                    evaluator.warm_up(n)
                    evaluator._n_started = 0
                    algorithm = make_algorithm(name, SearchProblem(space, OBJECTIVES, 1))
                    with tempfile.TemporaryDirectory() as folder:
                        store = SqlStore.open(Path(folder) / "run.db", create=True, driver=True)
                        started, cpu = time.perf_counter(), time.process_time()
                        search(
                            space, OBJECTIVES, algorithm, evaluator, store, Budget(len(seconds)), batch=n,
                            synchronous=is_synchronous,
                        )  # fmt: skip
                        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
                        store.close()
                    evaluator.close()
                    shares.append(sum(seconds) / n / wall)
                    engine_ms = engine_ms or 1e3 * cpu / len(seconds)
                ideal = sum(seconds) / n / list_scheduled(seconds, n)
                cells = [f"{share:.2f}" for share in (ideal, *shares)]
                cells += ["–"] * (3 - len(cells))
                print(table_row(name, n, len(seconds), *cells, f"{engine_ms:.1f}"), flush=True)
        finally:
            stop_ray()


class _Reached:
    """Ends a search once it has a share of the exact front's hypervolume."""

    def __init__(self, replay: Replay) -> None:
        self._replay, self._n_checked = replay, 0

    def evaluations(self, evaluated: Sequence[Evaluation]) -> int | None:
        """The number of evaluations with the share; None if it is not reached."""
        values = minimised(evaluated, self._replay.objectives)
        volumes = hypervolume_history(values, self._replay.reference)
        reached = np.flatnonzero(np.asarray(volumes) >= SHARE * self._replay.volume)
        return int(reached[0]) + 1 if len(reached) else None

    def __call__(self, evaluated: Sequence[Evaluation]) -> str:
        if len(evaluated) < self._n_checked + 4:
            return ""
        self._n_checked = len(evaluated)
        return "reached" if self.evaluations(evaluated) is not None else ""


@app.command()
def quality(
    table: Path,
    maximize: Annotated[str, typer.Option(help="a column")] = "accuracy_cifar100",
    minimize: Annotated[str, typer.Option(help="a column")] = "latency_ms_raspi4",
    workers: str = "4,16",
    algorithms: str = "nsga2",
    seeds: int = 10,
    evaluations: int = 400,
) -> None:
    """Prints a row for each algorithm, number of workers and way of asking."""
    print(__doc__)
    replay = Replay.from_table(Table.load(table), [maximize], [minimize])
    print(f"{replay.table.name}: {maximize} against {minimize}; {seeds} seeds\n")
    print(table_head("algorithm", "workers", "asks", "evaluations to 99 %", "time to 99 %", "not reached"), flush=True)
    answers = TableEvaluator(replay.table, {o.name: o.name for o in replay.objectives})
    for name in algorithms.split(","):
        for n in map(int, workers.split(",")):
            for synchronous in (True, False):
                counts, times, n_missed = [], [], 0
                for seed in range(seeds):
                    simulated, reached = SimulatedWorkers(answers, n, sigma=SIGMA, seed=seed), _Reached(replay)
                    evaluated = search(
                        replay.table.space, replay.objectives, make_algorithm(name, replay.problem(seed)), simulated,
                        MemoryStore(), Budget(evaluations), batch=max(8, n), synchronous=synchronous, stop_when=reached,
                    )  # fmt: skip
                    count = reached.evaluations(evaluated)
                    n_missed += count is None
                    counts.append(evaluations if count is None else count)
                    times.append(simulated.now)
                cells = [f"{np.mean(c):.0f} ± {np.std(c, ddof=1) / np.sqrt(len(c)):.0f}" for c in (counts, times)]
                print(table_row(name, n, "batches" if synchronous else "one by one", *cells, n_missed), flush=True)


if __name__ == "__main__":
    app()
