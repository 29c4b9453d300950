"""A run of 10,000 evaluations: the cost of filling it, and the time to show and plot it.

Run: ``python -m tests.benchmarks.big_run [--table shared/data/tables/nasbench201.yaml --accuracy COLUMN --latency COLUMN]``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nas.engine.evaluation.base import Evaluator
from nas.engine.search_loop import search
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.run_facts import RunFacts, SearchFacts
from nas.engine.store.sql import SqlStore
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.base import SearchAlgorithm, SearchProblem
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import EXACT_METRICS, Evaluation, Measurement, Objective, Request, Status
from nas.search.registry import make_algorithm
from supernets.space import Architecture, SearchSpace
from tests.benchmarks.engine_time import elastic_space
from tests.nas.commands import SMALL_JOB

METHOD = """\
A search (random by default) by the loop of real searches with the store of real runs (SQLite, WAL, synchronous=NORMAL), with
metrics that cost nothing, of a space of 45 genes or of a table. It records predictions at every step, like guided search. Then
each command runs in a new process: wall and CPU seconds, median of 3, and its peak memory (at least this process's, which a
child inherits)."""
_BATCH, _PROFILE, _REPEATS = 10, "board", 3
_METRICS = ("accuracy", "latency_ms", "parameters", "macs")


class ElasticValues:
    """Metrics that cost nothing: additive costs, and an accuracy that saturates, with a little noise."""

    def __init__(self, space: SearchSpace) -> None:
        rng = np.random.default_rng(0)
        self._weights = {metric: rng.uniform(0.5, 1.5, len(space)) for metric in _METRICS}

    def value(self, architecture: Architecture, metric: str) -> float:
        """The value of a metric, in its unit."""
        levels = np.array(architecture.genes) + 1.0  # 0 for an inactive gene
        size = float((self._weights[metric] * levels).sum())
        if metric == "accuracy":
            return 0.7 + 0.25 * size / (size + 60) + 0.001 * float(np.sin(1000 * size))
        return 1.0 + size if metric == "latency_ms" else 1000.0 * round(size)

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement per request, in order."""
        for request in requests:
            value = self.value(request.architecture, request.metric)
            error = 0.0 if request.metric in EXACT_METRICS else 0.001
            yield Measurement(request, Status.OK, value, error, protocol="instant", environment={"cpu": "none"})

    def close(self) -> None:
        """Nothing to close."""


class Guessing(SearchAlgorithm):
    """A search algorithm that records predictions of its proposals, like one with models: exact values with noise."""

    def __init__(self, name: str, task: SearchProblem, values: ElasticValues) -> None:
        self._inner, self._values = make_algorithm(name, task), values
        self._objectives, self._rng = task.objectives, np.random.default_rng(task.seed)
        self._fits: dict[str, dict[str, object]] = {}

    def ask(self, n: int) -> list[Architecture]:
        asked = self._inner.ask(n)
        scores = {"kendall_tau": 0.7, "mape": 0.05, "rmse": 0.01, "coverage": 0.9}
        quality = {"model": "blurred", "n": 100, **scores, "baselines": {"mean": scores, "ridge": scores}}
        self._fits = {
            o.name: {"quality": quality, "predictions": {a.key: self._guess(a, o.metric) for a in asked}}
            for o in self._objectives
            if o.metric not in EXACT_METRICS
        }
        return asked

    def _guess(self, architecture: Architecture, metric: str) -> list[float]:
        value = self._values.value(architecture, metric)
        return [value * (1 + 0.02 * float(self._rng.standard_normal())), 0.02 * value]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._inner.tell(evaluations)

    def fits(self) -> dict[str, dict[str, object]]:
        return self._fits

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        return self._inner.replay(asked)


def fill(
    runs: RunsFolder, space: SearchSpace, metrics: Sequence[str], evaluator: Evaluator, n: int, *, algorithm: str,
    report: bool = True,
) -> str:  # fmt: skip
    """The id of a new finished run; if `report`, prints milliseconds per evaluation as the run grows."""
    folder = runs.create("big", SMALL_JOB)
    objectives = [Objective.parse(metric, [_PROFILE]) for metric in metrics]
    stamps = [(0, time.perf_counter())]

    def enough(evaluations: Sequence[Evaluation]) -> str:
        if len(evaluations) >= stamps[-1][0] + n // 5:
            stamps.append((len(evaluations), time.perf_counter()))
        return ""

    store = SqlStore.open(folder.database, create=True, driver=True)
    search_facts = SearchFacts(space=space, objectives=tuple(objectives), profiles=(_PROFILE,))
    store.describe(RunFacts(name="big", compatibility={}, search=search_facts), budget=Budget(n))
    store.set_status(RunStatus.RUNNING)
    guessing = Guessing(algorithm, SearchProblem(space, objectives, 0), ElasticValues(space))
    search(space, objectives, guessing, evaluator, store, Budget(n), batch=_BATCH, stop_when=enough)
    store.set_status(RunStatus.FINISHED, reason="the budget of evaluations is used up")
    store.close()
    stamps.append((n, time.perf_counter()))
    for (before, start), (after, end) in itertools.pairwise(stamps):
        if report and after > before:
            print(
                f"  evaluations {before} to {after}: {1000 * (end - start) / (after - before):.2f} ms each", flush=True
            )
    return folder.id


def timed(arguments: Sequence[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of a new Python process, which must succeed."""
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    # With cached modules, as for a user: compiling all of them takes as long as the command itself.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def report(runs: Path, run: str) -> None:
    """Times the commands that read the run."""
    front = f"import nas; print(len(nas.open_run({run!r}, {str(runs)!r}).front))"
    nas = ["-m", "nas.cli"]
    commands = {
        "front": ["-c", front],
        "nas show": [*nas, "show", run, "--runs", str(runs)],
        "nas show --json": [*nas, "show", run, "--runs", str(runs), "--json"],
        "nas plot": [*nas, "plot", run, "--runs", str(runs)],
        "nas export-study": [
            *nas, "export-study", run, "--runs", str(runs), "--storage", f"{runs}/study.log", "--replace",
        ],
        "nas runs": [*nas, "runs", "--runs", str(runs)],
        "(nas --help)": [*nas, "--help"],
    }  # fmt: skip
    for name, command in commands.items():
        wall, cpu, peak = zip(*(timed(command) for _ in range(_REPEATS)), strict=True)
        middle = _REPEATS // 2
        print(f"| {name} | {sorted(wall)[middle]:.2f} | {sorted(cpu)[middle]:.2f} | {max(peak):.0f} |", flush=True)
    for path in sorted((runs / run / "plots").iterdir()):
        print(f"  {path.name}: {path.stat().st_size / 2**20:.2f} MiB")


def main() -> None:
    """Parses the command line, fills runs of two and of three objectives (or one from a table) and reads them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--algorithm", default="random", help="name of a search algorithm")
    parser.add_argument("--objectives", type=int, nargs="+", default=[2, 3], help="2 to 4")
    parser.add_argument("--table", type=Path, help="a table instead of the space of 45 genes; two objectives")
    parser.add_argument("--accuracy", help="its column of accuracies in per cent")
    parser.add_argument("--latency", help="its column of latencies in milliseconds")
    parser.add_argument("--runs", type=Path, help="where to keep the runs; a temporary folder by default")
    given = parser.parse_args()
    print(METHOD, end="\n\n")
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        runs = RunsFolder(given.runs or Path(temporary))
        for n_objectives in [2] if given.table else given.objectives:
            metrics = _METRICS[:n_objectives]
            print(f"{n_objectives} objectives, {given.evaluations} evaluations")
            if given.table:
                table = Table.load(given.table)
                columns = {"accuracy": given.accuracy, f"latency_ms@{_PROFILE}": given.latency}
                answers: Evaluator = TableEvaluator(table, columns, scales={"accuracy": 0.01})
                space = table.space
            else:
                space = elastic_space()
                answers = ElasticValues(space)
            run = fill(runs, space, metrics, answers, given.evaluations, algorithm=given.algorithm)
            print("| command | wall, s | CPU, s | peak, MiB |\n|---|---|---|---|")
            report(runs.root, run)


if __name__ == "__main__":
    main()
