"""Benchmark of the registry's search algorithms: evaluations to a share of a table's exact hypervolume.

Run: ``python -m tests.benchmarks.search_on_tables TABLES --cache runs/benchmarks/search-on-tables``, a folder
with NAS-Bench-201 and NAS-Bench-Macro. A second run continues the first and repeats what has changed since. Or another
table: ``TABLE.yaml --maximize accuracy --minimize latency_ms --minimize latency_ms,parameters`` (a column each). Further
algorithms: ``--also optuna-gp --also module:Class``, see `tests.benchmarks.other_projects`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import comb
from pathlib import Path

import numpy as np

from nas.runs.bench.results_file import Row
from nas.runs.bench.search import BATCH
from nas.search.algorithms import ALGORITHMS
from tests.benchmarks.cached_runs import Cache, Spec, run_missing

METHOD = """\
Evaluations to a share of the exact hypervolume, by the loop of real searches with the algorithms that `nas search` makes.
Reference point: the exact front's nadir, moved out by 10 % of the front's range. The smallest and the largest network
come first and are counted; then batches of {batch}. guided has {guided_seeds} seeds from {first_seed} on, the others {seeds}.
Each run ends at the share or at its budget, and counts as its budget if it does not reach the share: {budgets}.
Cells: median over seeds ({spread}); "> N": not within the budget.
Ratio: guided's median over the least median of the others but random. CPU seconds are without those of other environments."""
_LEAST_TO_MOST = "least to most"
_INTERVAL = "its distribution-free 95 % interval, by order statistics; least to most for fewer than 6 seeds"

BUDGETS = {"guided": 400, "linas": 500, "optuna-tpe": 500, "optuna-gp": 200, "QNEHVI": 200}
"""Of a plug-in by the name of its class."""
_BUDGET = 1000
LINES = ("guided", "guided-exact", "nsga2", "nsga2-uniform", "regularized-evolution", "optuna-tpe", "linas", "random")
"""In the order printed; further ones follow. ``guided-exact`` is guided with functions of a problem's exact columns, as a real
search has for parameters and MACs."""
_SLOW = ("guided", "guided-exact", "optuna-tpe", "linas")
"""These run after all others but further ones, in this order."""
_COMPARED = ("guided", "guided-exact", "random")
"""Not among those that guided is compared with."""


@dataclass(frozen=True)
class Problem:
    """A column of the comparison.

    Attributes:
        group: columns that are summarised together.
        exact: columns that ``guided-exact`` can compute.
    """

    name: str
    group: str
    table: Path
    maximize: tuple[str, ...]
    minimize: tuple[str, ...]
    target: float
    exact: tuple[str, ...] = ()

    def spec(self, line: str, seed: int, budget: int, batch: int) -> Spec:
        """One run of a line of the comparison."""
        algorithm, exact = (line, ()) if line != "guided-exact" else ("guided", self.exact)
        return Spec(self.table, self.maximize, self.minimize, exact, algorithm, seed, budget, self.target, batch)


def published(folder: Path) -> list[Problem]:
    """The comparison on published tables."""
    table, accuracy, parameters = folder / "nasbench201.yaml", ("accuracy_cifar100",), "params_M_cifar100"
    clean = ("1080ti_256", "raspi4", "titanx_32", "1080ti_1", "silver_4114")
    noisy = ("titanxp_1", "samsung_s7")
    return [
        *(Problem(name, "clean latencies", table, accuracy, (f"latency_ms_{name}",), 0.99) for name in clean),
        *(Problem(name, "noisy latencies", table, accuracy, (f"latency_ms_{name}",), 0.95) for name in noisy),
        Problem(
            "1080ti_1+params", "three objectives", table, accuracy, ("latency_ms_1080ti_1", parameters), 0.99, (parameters,)
        ),
        Problem(
            "macro-flops", "NAS-Bench-Macro", folder / "nasbench_macro.yaml", ("accuracy_cifar10",), ("flops",), 0.99,
            ("flops",),
        ),
    ]  # fmt: skip


def own(table: Path, maximize: str, minimize: Sequence[str], target: float, exact: str) -> list[Problem]:
    """A column for each list of columns to minimise."""
    computed = tuple(exact.split(",")) if exact else ()
    return [
        Problem(text, table.stem, table, tuple(maximize.split(",")), tuple(text.split(",")), target,
                tuple(name for name in computed if name in (*maximize.split(","), *text.split(","))))
        for text in minimize
    ]  # fmt: skip


def plan(
    problems: Sequence[Problem],
    seeds: int,
    guided_seeds: int,
    only: Sequence[str],
    budgets: Mapping[str, int],
    first_seed: int = 0,
    also: Sequence[str] = (),
) -> dict[tuple[Problem, str], list[Spec]]:
    """The runs of each cell, quick algorithms first.

    Args:
        only: ``COLUMN/ALGORITHM`` patterns with ``*``; either may be left out.
        also: further algorithms, which run last: names, or ``module:Class``.
    """
    cells = {}
    for line in (*(line for line in LINES if line not in _SLOW), *_SLOW, *also):
        for problem in problems:
            known = line == "guided-exact" or line in ALGORITHMS or line in also
            wanted = not only or any(_matches(pattern, problem.name, line) for pattern in only)
            if known and wanted and (line != "guided-exact" or problem.exact):
                numbers = range(guided_seeds if line.startswith("guided") else seeds)
                specs = [problem.spec(line, first_seed + i, _budget(line, budgets), BATCH) for i in numbers]
                cells[problem, line] = specs
    return cells


def _matches(pattern: str, column: str, line: str) -> bool:
    left, _, right = pattern.partition("/")
    return fnmatchcase(column, left or "*") and fnmatchcase(line, right or "*")


def _budget(line: str, budgets: Mapping[str, int]) -> int:
    return budgets.get("guided" if line == "guided-exact" else line.rpartition(":")[2], _BUDGET)


@dataclass(frozen=True)
class Cell:
    """The evaluations of one algorithm's runs; one that did not reach the share counts as its budget."""

    counts: tuple[int, ...]
    budget: int
    n_missing: int
    seconds: float

    @classmethod
    def of(cls, specs: Sequence[Spec], rows: Sequence[Row | None]) -> Cell | None:
        """None without a run that is done."""
        done = [row for row in rows if row is not None]
        if not done:
            return None
        share = f"{specs[0].target:g}"
        budget = specs[0].budget
        counts = [budget + 1 if (n := row.evaluations_to[share]) is None else n for row in done]
        return cls(tuple(sorted(counts)), budget, len(rows) - len(done), float(np.mean([r.own_seconds for r in done])))

    @property
    def median(self) -> float:
        """Over seeds; a run that did not reach the share counts as its budget."""
        return float(np.median(np.minimum(self.counts, self.budget)))

    @property
    def interval(self) -> tuple[int, int]:
        """A 95 % interval of the median whatever the distribution; the least and the most of few seeds."""
        n, cut = len(self.counts), 0
        while 2 * sum(comb(n, i) for i in range(cut + 2)) <= 0.05 * 2**n:
            cut += 1
        return self.counts[cut], self.counts[n - 1 - cut]

    def text(self, *, interval: bool) -> str:
        """The median with its `interval`, or with the least and the most."""
        low, high = self.interval if interval else (self.counts[0], self.counts[-1])
        middle, least, most = (
            f"> {self.budget}" if n > self.budget else f"{n:.0f}" for n in (float(np.median(self.counts)), low, high)
        )
        text = f"{middle} ({least} to {most})" if least != most else middle
        return f"{text}, {self.n_missing} to do" if self.n_missing else text


def print_table(
    problems: Sequence[Problem], found: Mapping[tuple[Problem, str], Cell | None], *, intervals: bool = False
) -> None:
    """One line per algorithm, one column per problem; then the ratios."""
    listed = dict.fromkeys([*LINES, *(line for _, line in found)])
    lines = [line for line in listed if any(found.get((p, line)) for p in problems)]
    print("| algorithm | " + " | ".join(f"{p.name} ({p.target:.0%})" for p in problems) + " | CPU s a run |")
    print("|---" * (len(problems) + 2) + "|")
    for line in lines:
        cells = [found.get((p, line)) for p in problems]
        seconds = [cell.seconds for cell in cells if cell is not None]
        shown = [cell.text(interval=intervals) if cell else "–" for cell in cells]
        print(f"| {line.rpartition(':')[2]} | " + " | ".join(shown) + f" | {np.mean(seconds):.1f} |")
    ratios = [_ratio(problem, found) for problem in problems]
    if any(ratio is not None for ratio in ratios):
        print("| ratio | " + " | ".join("–" if r is None else f"{r[0]:.2f} ({r[1]})" for r in ratios) + " | |")


def _ratio(problem: Problem, found: Mapping[tuple[Problem, str], Cell | None]) -> tuple[float, str] | None:
    """Guided's median over the best baseline's, and which that is."""
    guided = found.get((problem, "guided"))
    medians = {
        line: cell.median for (of, line), cell in found.items() if of == problem and line not in _COMPARED and cell
    }
    if guided is None or not medians:
        return None
    best = min(medians, key=medians.__getitem__)
    return guided.median / medians[best], best.rpartition(":")[2]


def print_summary(problems: Sequence[Problem], found: Mapping[tuple[Problem, str], Cell | None]) -> None:
    """By group: guided on the median and the worst column, and the geometric mean of its ratios."""
    for group in dict.fromkeys(p.group for p in problems):
        own_ = [p for p in problems if p.group == group]
        medians = [cell.median for p in own_ if (cell := found.get((p, "guided"))) is not None]
        ratios = [ratio[0] for p in own_ if (ratio := _ratio(p, found)) is not None]
        if medians:
            print(
                f"{group}: guided needs {np.median(medians):.0f} on the median of {len(medians)} columns, "
                f"{max(medians):.0f} on the worst"
            )
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            print(f"{group}: geometric mean of {len(ratios)} ratios {mean:.3f}")


def main() -> None:
    """Parses the command line, runs what is missing and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, help="the folder of published tables, or a table's YAML file")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps each run")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--guided-seeds", type=int, default=11)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", action="append", default=[], metavar="COLUMN/ALGORITHM", help="e.g. raspi4/, /linas")
    parser.add_argument("--budget", action="append", default=[], metavar="ALGORITHM=N")
    parser.add_argument("--cached", action="store_true", help="print the finished runs only")
    parser.add_argument("--maximize", default="", metavar="COL[,COL]")
    parser.add_argument("--minimize", action="append", default=[], metavar="COL[,COL]")
    parser.add_argument("--exact", default="", metavar="COL[,COL]")
    parser.add_argument("--target", type=float, default=0.99)
    parser.add_argument("--also", action="append", default=[], metavar="NAME", help="e.g. optuna-gp, or module:Class")
    parser.add_argument("--intervals", action="store_true", help="print intervals of the medians")
    args = parser.parse_args()
    budgets = BUDGETS | {name: int(n) for name, _, n in (text.partition("=") for text in args.budget)}
    if args.tables.is_dir():
        problems = published(args.tables)
    elif args.maximize and args.minimize:
        problems = own(args.tables, args.maximize, args.minimize, args.target, args.exact)
    else:
        parser.error("a table needs --maximize and --minimize")
    cells = plan(problems, args.seeds, args.guided_seeds, args.only, budgets, args.first_seed, args.also)
    kept = Cache(args.cache)
    if not args.cached:
        names = {spec: f"{problem.name}/{line}" for (problem, line), specs in cells.items() for spec in specs}
        for spec, row in run_missing(list(names), kept, args.jobs):
            reached = row.evaluations_to[f"{spec.target:g}"]
            line = f"{names[spec]}, seed {spec.seed}: {reached or f'> {spec.budget}'}, {row.own_seconds:.1f} s"
            print(line, file=sys.stderr, flush=True)
    found = {cell: Cell.of(specs, [kept.find(spec) for spec in specs]) for cell, specs in cells.items()}
    shown = ", ".join(f"{name} {n}" for name, n in budgets.items()) + f", others {_BUDGET}"
    print(
        METHOD.format(
            batch=BATCH,
            budgets=shown,
            seeds=args.seeds,
            guided_seeds=args.guided_seeds,
            first_seed=args.first_seed,
            spread=_INTERVAL if args.intervals else _LEAST_TO_MOST,
        ),
        end="\n\n",
    )
    print_table([p for p in problems if any(cell[0] == p for cell in cells)], found, intervals=args.intervals)
    print()
    print_summary(problems, found)


if __name__ == "__main__":
    main()
