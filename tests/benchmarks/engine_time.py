"""Overhead of a search per evaluation: the engine with a durable store, compared with Optuna in SQLite.

Run: ``python -m tests.benchmarks.engine_time --only nsga2,random,guided,linas,optuna`` (Optuna's takes minutes).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nas.engine.search_loop import search
from nas.engine.store.sql import SqlStore
from nas.search.algorithms import ALGORITHMS
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Evaluation, Measurement, Objective, Request, Status
from nas.search.registry import make_algorithm
from supernets.space import INACTIVE, Choice, SearchSpace

METHOD = """\
A space of 45 genes (5 depths, 20 kernels, 20 expansions; 2 objectives), metrics that cost nothing, batches of 10, one run.
Each algorithm runs in the loop of real searches with the store of real runs (SQLite, WAL, synchronous=NORMAL). Optuna: TPE
through its own storage in SQLite, `study.optimize`. Milliseconds per evaluation: wall and CPU, over all evaluations to 302,
and over those from 252 on."""
_FROM, _TO, _BATCH = 252, 302, 10
OBJECTIVES = (Objective.parse("accuracy", ()), Objective.parse("latency_ms@board", ("board",)))

Stamp = tuple[int, float, float]
"""Evaluations, wall seconds, CPU seconds."""


def elastic_space() -> SearchSpace:
    """Five stages of two to four blocks with three kernels and three expansions, as in Once-for-all."""
    stages = range(5)
    choices = [Choice(f"depth_{s}", (2, 3, 4)) for s in stages]
    for gene, options in (("kernel", (3, 5, 7)), ("expand", (3, 4, 6))):
        for stage in stages:
            for block in range(4):
                needed = (f"depth_{stage}", block - 1) if block > 1 else None
                choices.append(Choice(f"{gene}_{stage}_{block}", options, needed))
    return SearchSpace(choices)


class Instant:
    """Metrics that cost nothing: an additive latency, and an accuracy that saturates with it, with a little noise."""

    def __init__(self, space: SearchSpace) -> None:
        rng = np.random.default_rng(0)
        self._costs, self._gains = (rng.uniform(0.5, 1.5, len(space)) for _ in range(2))

    def values(self, genes: Sequence[int]) -> tuple[float, float]:
        """Accuracy and latency."""
        levels = np.array(genes) + 1.0  # 0 for an inactive gene
        assert INACTIVE == -1
        noise = float(np.sin(1000 * (self._costs * levels).sum()))
        gain = float((self._gains * levels).sum())
        return 0.7 + 0.25 * gain / (gain + 60) + 0.001 * noise, 1.0 + float((self._costs * levels).sum())

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement per request, in order."""
        for request in requests:
            value = self.values(request.architecture.genes)[request.metric == "latency_ms"]
            yield Measurement(request, Status.OK, value, 0.001, protocol="instant", environment={"cpu": "none"})

    def close(self) -> None:
        """Nothing to close."""


def engine(name: str, folder: Path) -> list[Stamp]:
    """Time stamps of a search by one of our algorithms."""
    space, stamps = elastic_space(), [_stamp(0)]

    def enough(evaluations: Sequence[Evaluation]) -> str:
        stamps.append(_stamp(len(evaluations)))
        return "that was it" if len(evaluations) >= _TO else ""

    store = SqlStore.open(folder / f"{name}.db", create=True, driver=True)
    search(
        space, OBJECTIVES, make_algorithm(name, SearchProblem(space, OBJECTIVES, 0)), Instant(space), store, Budget(2 * _TO),
        batch=_BATCH, stop_when=enough,
    )  # fmt: skip
    store.close()
    return stamps


def optuna_in_sqlite(folder: Path) -> list[Stamp]:
    """Time stamps of Optuna's TPE with its own storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = elastic_space()
    instant, levels = Instant(space), space.levels.tolist()

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        genes = [trial.suggest_int(c.name, 0, n - 1) for c, n in zip(space.choices, levels, strict=True)]
        return instant.values(space.canonical(genes).genes)

    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}",
        sampler=optuna.samplers.TPESampler(seed=0),
        directions=["maximize", "minimize"],
    )
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
    return f"| {name} | " + " | ".join(cells) + " |"


def _first(stamps: Sequence[Stamp], n: int) -> Stamp:
    """The first stamp with at least this number of evaluations: an algorithm may propose less than a batch."""
    return next(stamp for stamp in stamps if stamp[0] >= n)


def main() -> None:
    """Parses the command line and prints one row per engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="random,nsga2,guided,linas,optuna", help="optuna, and names of search algorithms"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="on the disk that real runs would be on")
    args = parser.parse_args()
    names = args.only.split(",")
    print(METHOD, end="\n\n")
    print("| engine | wall, all | CPU, all | wall, from 252 | CPU, from 252 |")
    print("|---" * 5 + "|")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for name in names:
            if name != "optuna" and name not in ALGORITHMS:
                raise SystemExit(f"unknown engine {name!r}; expected optuna or one of {', '.join(ALGORITHMS)}")
            stamps = optuna_in_sqlite(Path(folder)) if name == "optuna" else engine(name, Path(folder))
            print(row(name, stamps), flush=True)


if __name__ == "__main__":
    main()
