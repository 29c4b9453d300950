"""Overhead of a search per evaluation: the engine with a durable store, compared with Optuna in SQLite.

    python -m tests.benchmarks.engine_time [--only nsga2,random,guided,linas,optuna]

Optuna's takes minutes.

Method. A space of 45 genes (5 depths, 20 kernels, 20 expansions; 2 objectives), metrics that cost nothing, batches of 10, one
run. Each algorithm runs in the loop of real searches with the store of real runs (SQLite, WAL, synchronous=NORMAL). Optuna: TPE
through its own storage in SQLite, `study.optimize`. Milliseconds per evaluation: wall and CPU, over all evaluations to 302,
and over those from 252 on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.engine.search_loop import search
from nas.engine.store.sql import SqlStore
from nas.search.algorithms import ALGORITHMS
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Evaluation, Objective
from nas.search.registry import make_algorithm
from tests.benchmarks.instant_evaluations import InstantEvaluator, elastic_space
from tests.benchmarks.markdown import table_head, table_row

_FROM, _TO, _BATCH = 252, 302, 10
OBJECTIVES = (Objective.parse("accuracy", ()), Objective.parse("latency_ms@board", ("board",)))

Stamp = tuple[int, float, float]
"""Evaluations, wall seconds, CPU seconds."""


def engine(name: str, folder: Path) -> list[Stamp]:
    """Time stamps of a search by one of our algorithms."""
    space, stamps = elastic_space(), [_stamp(0)]

    def enough(evaluations: Sequence[Evaluation]) -> str:
        stamps.append(_stamp(len(evaluations)))
        return "that was it" if len(evaluations) >= _TO else ""

    store = SqlStore.open(folder / f"{name}.db", create=True, driver=True)
    algorithm = make_algorithm(name, SearchProblem(space, OBJECTIVES, 0))
    budget = Budget(2 * _TO)
    search(space, OBJECTIVES, algorithm, InstantEvaluator(space), store, budget, batch=_BATCH, stop_when=enough)
    store.close()
    return stamps


def optuna_in_sqlite(folder: Path) -> list[Stamp]:
    """Time stamps of Optuna's TPE with its own storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = elastic_space()
    evaluator, levels = InstantEvaluator(space), space.levels.tolist()

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        genes = [trial.suggest_int(c.name, 0, n - 1) for c, n in zip(space.choices, levels, strict=True)]
        architecture = space.canonical(genes)
        return evaluator.value(architecture, "accuracy"), evaluator.value(architecture, "latency_ms")

    storage, sampler = f"sqlite:///{folder / 'optuna.db'}", optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler, directions=["maximize", "minimize"])
    stamps = [_stamp(0)]
    study.optimize(objective, n_trials=_TO, callbacks=[lambda study, trial: stamps.append(_stamp(trial.number + 1))])
    return stamps


def _stamp(n: int) -> Stamp:
    return n, time.perf_counter(), time.process_time()


def row(name: str, stamps: Sequence[Stamp]) -> str:
    """One line of the table, from the first stamp and from that of `_FROM` evaluations."""
    cells = []
    last = _first(stamps, _TO)
    for start in (stamps[0], _first(stamps, _FROM)):
        n, *spent = (after - before for before, after in zip(start, last, strict=True))
        cells += [f"{1000 * seconds / n:,.2f}" for seconds in spent]
    return table_row(name, *cells)


def _first(stamps: Sequence[Stamp], n: int) -> Stamp:
    """The first stamp with at least this number of evaluations: an algorithm may propose less than a batch."""
    return next(stamp for stamp in stamps if stamp[0] >= n)


def main(
    only: Annotated[
        str, typer.Option(help="optuna, and names of search algorithms")
    ] = "random,nsga2,guided,linas,optuna",
    folder: Annotated[Path, typer.Option(help="on the disk that real runs would be on")] = Path("runs"),
) -> None:
    """Prints one row per engine."""
    for name in only.split(","):
        if name != "optuna" and name not in ALGORITHMS:
            raise SystemExit(f"unknown engine {name!r}; expected optuna or one of {', '.join(ALGORITHMS)}")
    print(__doc__)
    print(table_head("engine", "wall, all", "CPU, all", f"wall, from {_FROM}", f"CPU, from {_FROM}"))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name in only.split(","):
            work = Path(temporary)
            print(row(name, optuna_in_sqlite(work) if name == "optuna" else engine(name, work)), flush=True)


if __name__ == "__main__":
    typer.run(main)
