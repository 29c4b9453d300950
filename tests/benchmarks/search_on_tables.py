"""Benchmark of the registry's search algorithms: evaluations to a share of a table's exact hypervolume.

    python -m tests.benchmarks.search_on_tables TABLES --cache runs/benchmarks/search-on-tables
    python -m tests.benchmarks.search_on_tables TABLE.yaml --cache FOLDER --maximize accuracy \\
        --minimize latency_ms --minimize latency_ms,parameters

TABLES is a folder with NAS-Bench-201 and NAS-Bench-Macro; of another table, each `--minimize` is a column of the comparison. A
second run continues the first and repeats what has changed since. Further algorithms: ``--also optuna-gp --also module:Class``,
see `tests.benchmarks.other_projects`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import comb
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from nas.runs.bench.results_file import Row
from nas.runs.bench.search import BATCH
from nas.search.algorithms import ALGORITHMS
from tests.benchmarks.cached_runs import Cache, Spec, run_missing
from tests.benchmarks.markdown import table_head, table_row

METHOD = """\
Evaluations to a share of the exact hypervolume, by the loop of real searches with the algorithms that `nas search` makes.
Reference point: the exact front's nadir, moved out by 10 % of the front's range. The smallest and the largest network
come first and are counted; then batches of {batch}. guided has {guided_seeds} seeds from {first_seed} on, the others {seeds}.
Each run ends at the share or at its budget, and counts as its budget if it does not reach the share: {budgets}.
Cells: median over seeds ({spread}); "> N": not within the budget.
Ratio: guided's median over the least median of the others but random. CPU seconds are without those of other environments."""
_LEAST_TO_MOST = "least to most"
_INTERVAL = "its distribution-free 95 % interval, by order statistics; least to most for fewer than 6 seeds"

BUDGETS = {
    "guided": 400,
    "nsga2+lightgbm": 400,
    "nsga2+auto": 400,
    "linas": 500,
    "optuna-tpe": 500,
    "optuna-gp": 200,
    "QNEHVI": 200,
}
"""Of a plug-in by the name of its class."""
_BUDGET = 1000
LINES = (
    "guided",
    "guided-exact",
    "nsga2+lightgbm",
    "nsga2+auto",
    "nsga2",
    "nsga2-uniform",
    "regularized-evolution",
    "optuna-tpe",
    "linas",
    "random",
)
"""In the order printed; further ones follow. ``guided-exact`` is guided with functions of a problem's exact columns, as a real
search has for parameters and MACs."""
_SLOW = ("guided", "guided-exact", "nsga2+lightgbm", "nsga2+auto", "optuna-tpe", "linas")
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
            known = line == "guided-exact" or line.partition("+")[0] in ALGORITHMS or line in also
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
    listed = dict.fromkeys([*LINES, *(algorithm for _, algorithm in found)])
    print(table_head("algorithm", *(f"{p.name} ({p.target:.0%})" for p in problems), "CPU s a run"))
    for algorithm in listed:
        cells = [found.get((p, algorithm)) for p in problems]
        if seconds := [cell.seconds for cell in cells if cell is not None]:
            shown = [cell.text(interval=intervals) if cell else "–" for cell in cells]
            print(table_row(algorithm.rpartition(":")[2], *shown, f"{np.mean(seconds):.1f}"))
    ratios = [_ratio(problem, found) for problem in problems]
    if any(ratio is not None for ratio in ratios):
        print(table_row("ratio", *("–" if r is None else f"{r[0]:.2f} ({r[1]})" for r in ratios), ""))


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


def main(
    tables: Annotated[Path, typer.Argument(help="the folder of published tables, or a table's YAML file")],
    cache: Annotated[Path, typer.Option(help="folder that keeps each run")],
    jobs: Annotated[int, typer.Option(help="processes of one thread")] = 1,
    seeds: int = 5,
    guided_seeds: int = 11,
    first_seed: int = 0,
    only: Annotated[list[str], typer.Option(metavar="COLUMN/ALGORITHM", help="e.g. raspi4/, /linas")] = [],  # noqa: B006
    budget: Annotated[list[str], typer.Option(metavar="ALGORITHM=N")] = [],  # noqa: B006
    cached: Annotated[bool, typer.Option("--cached", help="print the finished runs only")] = False,
    maximize: Annotated[str, typer.Option(metavar="COL[,COL]")] = "",
    minimize: Annotated[list[str], typer.Option(metavar="COL[,COL]")] = [],  # noqa: B006
    exact: Annotated[str, typer.Option(metavar="COL[,COL]")] = "",
    target: float = 0.99,
    also: Annotated[list[str], typer.Option(metavar="NAME", help="e.g. optuna-gp, or module:Class")] = [],  # noqa: B006
    intervals: Annotated[bool, typer.Option("--intervals", help="print intervals of the medians")] = False,
) -> None:
    """Runs what is missing and prints the comparison."""
    budgets = BUDGETS | {name: int(n) for name, _, n in (text.partition("=") for text in budget)}
    if tables.is_dir():
        problems = published(tables)
    elif maximize and minimize:
        problems = own(tables, maximize, minimize, target, exact)
    else:
        raise typer.BadParameter("a table needs --maximize and --minimize")
    cells = plan(problems, seeds, guided_seeds, only, budgets, first_seed, also)
    finished = Cache(cache)
    if not cached:
        names = {spec: f"{problem.name}/{name}" for (problem, name), specs in cells.items() for spec in specs}
        for spec, row in run_missing(list(names), finished, jobs):
            reached = row.evaluations_to[f"{spec.target:g}"]
            text = f"{names[spec]}, seed {spec.seed}: {reached or f'> {spec.budget}'}, {row.own_seconds:.1f} s"
            print(text, file=sys.stderr, flush=True)
    found = {cell: Cell.of(specs, [finished.find(spec) for spec in specs]) for cell, specs in cells.items()}
    shown = ", ".join(f"{name} {n}" for name, n in budgets.items()) + f", others {_BUDGET}"
    numbers = {"batch": BATCH, "seeds": seeds, "guided_seeds": guided_seeds, "first_seed": first_seed}
    print(METHOD.format(budgets=shown, spread=_INTERVAL if intervals else _LEAST_TO_MOST, **numbers), end="\n\n")
    print_table([p for p in problems if any(cell[0] == p for cell in cells)], found, intervals=intervals)
    print()
    print_summary(problems, found)


if __name__ == "__main__":
    typer.run(main)
