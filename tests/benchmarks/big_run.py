"""A run of 10,000 evaluations: the cost of filling it, and the time to show and plot it.

    python -m tests.benchmarks.big_run [--evaluations 10000] [--objectives 2 --objectives 3] [--algorithm random]

Method. A search (random by default) by the loop of real searches with the store of real runs (SQLite, WAL, synchronous=NORMAL),
with metrics that cost nothing, of a space of 45 genes. It records predictions at every step, like guided search. Then each
command runs in a new process: wall and CPU seconds, median of 3, and its peak memory (at least this process's, which a child
inherits).
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from nas.engine.search_loop import search
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.run_facts import RunFacts, SearchFacts
from nas.engine.store.sql import SqlStore
from nas.search.base import SearchAlgorithm, SearchProblem
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import EXACT_METRICS, Evaluation, Objective
from nas.search.registry import make_algorithm
from supernets.space import Architecture
from tests.benchmarks.instant_evaluations import METRICS, InstantEvaluator, elastic_space
from tests.benchmarks.markdown import table_head, table_row
from tests.nas.commands import SMALL_JOB

_BATCH, _PROFILE, _REPEATS = 10, "board", 3


class Guessing(SearchAlgorithm):
    """A search algorithm that records predictions of its proposals, like one with models: exact values with noise."""

    def __init__(self, name: str, task: SearchProblem, evaluator: InstantEvaluator) -> None:
        self._inner, self._evaluator = make_algorithm(name, task), evaluator
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
        value = self._evaluator.value(architecture, metric)
        return [value * (1 + 0.02 * float(self._rng.standard_normal())), 0.02 * value]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self._inner.tell(evaluations)

    def fits(self) -> dict[str, dict[str, object]]:
        return self._fits

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        return self._inner.replay(asked)


def fill(runs: RunsFolder, n: int, *, n_objectives: int = 2, algorithm: str = "random", report: bool = False) -> str:
    """The id of a new finished run; if `report`, prints milliseconds per evaluation as the run grows."""
    space = elastic_space()
    evaluator = InstantEvaluator(space)
    folder = runs.create("big", SMALL_JOB)
    objectives = [Objective.parse(metric, [_PROFILE]) for metric in METRICS[:n_objectives]]
    stamps = [(0, time.perf_counter())]

    def enough(evaluations: Sequence[Evaluation]) -> str:
        if len(evaluations) >= stamps[-1][0] + n // 5:
            stamps.append((len(evaluations), time.perf_counter()))
        return ""

    store = SqlStore.open(folder.database, create=True, driver=True)
    search_facts = SearchFacts(space=space, objectives=tuple(objectives), profiles=(_PROFILE,))
    store.describe(RunFacts(name="big", compatibility={}, search=search_facts), budget=Budget(n))
    store.set_status(RunStatus.RUNNING)
    guessing = Guessing(algorithm, SearchProblem(space, objectives, 0), evaluator)
    search(space, objectives, guessing, evaluator, store, Budget(n), batch=_BATCH, stop_when=enough)
    store.set_status(RunStatus.FINISHED, reason="the budget of evaluations is used up")
    store.close()
    stamps.append((n, time.perf_counter()))
    for (before, start), (after, end) in itertools.pairwise(stamps):
        if report and after > before:
            each_ms = 1000 * (end - start) / (after - before)
            print(f"  evaluations {before} to {after}: {each_ms:.2f} ms each", flush=True)
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
    export = ["export-study", run, "--storage", f"{runs}/study.log", "--replace"]
    readers = [["show", run], ["show", run, "--json"], ["plot", run], export, ["runs"]]
    commands = {"front": ["-c", front]}
    commands |= {f"nas {' '.join(reader)}": ["-m", "nas.cli", *reader, "--runs", str(runs)] for reader in readers}
    print(table_head("command", "wall, s", "CPU, s", "peak, MiB"))
    for name, command in (*commands.items(), ("nas --help", ["-m", "nas.cli", "--help"])):
        wall, cpu, peak = zip(*(timed(command) for _ in range(_REPEATS)), strict=True)
        print(table_row(name, f"{median(wall):.2f}", f"{median(cpu):.2f}", f"{max(peak):.0f}"), flush=True)
    for path in sorted((runs / run / "plots").iterdir()):
        print(f"  {path.name}: {path.stat().st_size / 2**20:.2f} MiB")


def main(
    evaluations: int = 10_000,
    algorithm: Annotated[str, typer.Option(help="name of a search algorithm")] = "random",
    objectives: Annotated[list[int], typer.Option(min=2, max=4, help="of a run")] = [2, 3],  # noqa: B006
    runs: Annotated[Path | None, typer.Option(help="where to keep the runs; a temporary folder by default")] = None,
) -> None:
    """Fills a run for each number of objectives and reads it."""
    print(__doc__)
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        folder = RunsFolder(runs or Path(temporary))
        for n_objectives in objectives:
            print(f"{n_objectives} objectives, {evaluations} evaluations")
            run = fill(folder, evaluations, n_objectives=n_objectives, algorithm=algorithm, report=True)
            report(folder.root, run)


if __name__ == "__main__":
    typer.run(main)
