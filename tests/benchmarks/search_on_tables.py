"""How many evaluations search algorithms need on a table whose exact front is known.

Run: ``python -m tests.benchmarks.search_on_tables TABLE.yaml --maximize accuracy --minimize latency_ms``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.evaluation.table import Table, TableEvaluator
from nas.objectives import Evaluation, Goal, Objective, minimised
from nas.pareto import hypervolume, hypervolume_history, non_dominated
from nas.precisions import Precisions
from nas.search.base import SearchAlgorithm
from nas.search.evolution import EvolutionSearch
from nas.search.guided import GuidedSearch
from nas.search.random import RandomSearch
from supernets.space import Architecture

SHARES = (0.9, 0.95, 0.99)
METHOD = """\
Share: hypervolume of what was evaluated over that of the table's exact front. Reference point: the exact front's nadir,
moved out by 10 % of the front's range. The smallest and the largest architecture are told first and counted; then
batches of {batch}. Median of {seeds} seeds (least, most); "> {n}": not within {n} evaluations."""


@dataclass(frozen=True)
class Problem:
    """A table, its objectives and the volume of its front."""

    table: Table
    objectives: tuple[Objective, ...]
    evaluator: TableEvaluator
    reference: NDArray[np.float64]
    volume: float

    @classmethod
    def of(cls, path: Path, maximize: Sequence[str], minimize: Sequence[str]) -> Problem:
        """The problem of a table file and its columns.

        Raises:
            SystemExit: the table is not exhaustive, so that its exact front is not known.
        """
        table = Table.load(path)
        if not table.exhaustive:
            raise SystemExit(f"{path}: not exhaustive, so its exact front is not known; take one with exhaustive: true")
        objectives = (
            *(Objective(name, "", Goal.MAXIMIZE) for name in maximize),
            *(Objective(name, "", Goal.MINIMIZE) for name in minimize),
        )
        evaluator = TableEvaluator(table, {o.name: o.name for o in objectives})
        values = np.column_stack([o.sign * np.array(table.figures[o.name]) for o in objectives])
        front = values[non_dominated(values)]
        reference = front.max(axis=0) + 0.1 * np.ptp(front, axis=0)
        return cls(table, objectives, evaluator, reference, hypervolume(front, reference))

    def evaluate(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """The table's figures."""
        requests = [Precisions().request(a, o) for a in architectures for o in self.objectives]
        found = {m.request: m for m in self.evaluator.evaluate(requests)}
        return [
            Evaluation(a, {o.name: found[Precisions().request(a, o)] for o in self.objectives}) for a in architectures
        ]

    def algorithm(self, name: str, seed: int) -> SearchAlgorithm:
        """An algorithm by the name that job files give it."""
        space = self.table.space
        match name:
            case "random":
                return RandomSearch(space, seed=seed)
            case "nsga2":
                return EvolutionSearch(space, self.objectives, seed=seed)
            case "guided":
                return GuidedSearch(space, self.objectives, seed=seed)
            case _:
                raise SystemExit(f"unknown algorithm {name!r}; expected random, nsga2 or guided")

    def shares(self, algorithm: SearchAlgorithm, n: int, batch: int) -> NDArray[np.float64]:
        """The share of the exact volume after each evaluation, (n,) or fewer where the space ends."""
        space = self.table.space
        told = self.evaluate(list(dict.fromkeys([space.smallest, space.largest])))
        algorithm.tell(told)
        while len(told) < n and (asked := algorithm.ask(min(batch, n - len(told)))):
            evaluations = self.evaluate(asked)
            algorithm.tell(evaluations)
            told += evaluations
        history = hypervolume_history(minimised(told, self.objectives), self.reference)
        return history / self.volume


def row(name: str, runs: Sequence[NDArray[np.float64]], n: int, seconds: float) -> str:
    """One line of the table that is printed."""
    cells = []
    for share in SHARES:
        reached = sorted(
            float(np.argmax(run >= share - 1e-12)) + 1 if run[-1] >= share - 1e-12 else math.inf for run in runs
        )
        cells.append("{} ({}-{})".format(*(_count(x, n) for x in (float(np.median(reached)), reached[0], reached[-1]))))
    last = float(np.median([run[-1] for run in runs]))
    return f"| {name} | " + " | ".join(cells) + f" | {last:.4f} | {seconds:.1f} |"


def _count(reached: float, n: int) -> str:
    return f"{reached:.0f}" if math.isfinite(reached) else f"> {n}"


def main() -> None:
    """Parses the command line and prints one row an algorithm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--maximize", action="append", default=[])
    parser.add_argument("--minimize", action="append", default=[])
    parser.add_argument("--algorithms", default="random,nsga2,guided")
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=10)
    args = parser.parse_args()
    problem = Problem.of(args.table, args.maximize, args.minimize)
    print(METHOD.format(batch=args.batch, seeds=args.seeds, n=args.evaluations))
    print(f"{args.table.name}: {', '.join(o.name for o in problem.objectives)}\n")
    print("| algorithm | " + " | ".join(f"to {share:.0%}" for share in SHARES) + " | share at the end | CPU s a run |")
    print("|---" * (len(SHARES) + 3) + "|")
    for name in args.algorithms.split(","):
        start = time.process_time()
        runs = [problem.shares(problem.algorithm(name, s), args.evaluations, args.batch) for s in range(args.seeds)]
        print(row(name, runs, args.evaluations, (time.process_time() - start) / args.seeds), flush=True)


if __name__ == "__main__":
    main()
