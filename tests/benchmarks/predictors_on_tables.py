"""Benchmark of the search's predictor on published tables, against the best baseline.

    python -m tests.benchmarks.predictors_on_tables RESULTS.jsonl TABLE.yaml... [--train 25,50,100,200] [--seeds 10]

A second run continues the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from nas.runs.bench.predictor import PredictorRow, bench_predictor
from nas.runs.bench.results_file import ResultsFile
from nas.runs.bench.table import Table
from tests.benchmarks.markdown import table_head, table_row

METHOD = """\
A cell is a table, a column and a number of training rows; its values are means over {seeds} seeds, on {test} held-out
rows. Ratio: auto's MAPE over the least of the baselines' (mean, ridge, lightgbm, gp). Means over cells are geometric."""


@dataclass(frozen=True)
class Cell:
    """One table, column and number of training rows, with means over seeds by model."""

    table: str
    target: str
    train: int
    mape: Mapping[str, float]
    coverage: float
    fit_s: float

    @property
    def best(self) -> str:
        """The baseline of least error."""
        return min((m for m in self.mape if m != "auto"), key=self.mape.__getitem__)

    def ratio(self, baseline: str | None = None) -> float:
        """Auto's error over a baseline's, the best one's by default."""
        return self.mape["auto"] / self.mape[baseline or self.best]


def cells(
    path: Path, results: ResultsFile[PredictorRow], *, train: Sequence[int], test: int, seeds: int
) -> Iterator[Cell]:
    """The cells of a table; what the file of results lacks is measured."""
    table = Table.load(path)
    for target in table.values:
        if "latency" not in target and "accuracy" not in target:
            continue  # parameters and operations are computed, never predicted
        rows = list(bench_predictor(table, target, train=train, test=test, seeds=seeds, results=results))
        for n in train:
            models = {
                row.model: [other for other in rows if (other.model, other.train) == (row.model, n)] for row in rows
            }
            mape = {model: float(np.mean([row.mape for row in found])) for model, found in models.items()}
            coverage, fit_s = (
                float(np.mean([getattr(row, name) for row in models["auto"]])) for name in ("coverage", "fit_s")
            )
            yield Cell(path.stem, target, n, mape, coverage, fit_s)


def mean_ratio(found: Sequence[Cell], baseline: str | None = None) -> float:
    """Geometric mean of the ratios."""
    return math.exp(float(np.mean([math.log(cell.ratio(baseline)) for cell in found])))


def report(found: Sequence[Cell]) -> None:
    """Prints the cells, and the means by number of training rows."""
    print(table_head("table", "column", "rows", "auto MAPE %", "best baseline", "MAPE %", "ratio", "coverage", "fit s"))
    for c in found:
        errors = (f"{100 * c.mape['auto']:.2f}", c.best, f"{100 * c.mape[c.best]:.2f}", f"{c.ratio():.3f}")
        print(table_row(c.table, c.target, c.train, *errors, f"{c.coverage:.3f}", f"{c.fit_s:.2f}"))
    baselines = ("mean", "ridge", "lightgbm", "gp")
    names = ("rows", "cells", "ratio to the best", "worst", *(f"to {b}" for b in baselines), "coverage", "fit s")
    print("", table_head(*names), sep="\n")
    groups = {str(n): [c for c in found if c.train == n] for n in sorted({c.train for c in found})}
    for name, group in {**groups, "all": found}.items():
        ratios = [mean_ratio(group), max(c.ratio() for c in group), *(mean_ratio(group, b) for b in baselines)]
        ratios.append(float(np.mean([c.coverage for c in group])))
        print(table_row(name, len(group), *(f"{r:.3f}" for r in ratios), f"{np.mean([c.fit_s for c in group]):.2f}"))
    print("", table_head("table", "coverage from 50 rows on"), sep="\n")
    for table in dict.fromkeys(c.table for c in found):
        print(table_row(table, f"{np.mean([c.coverage for c in found if c.table == table and c.train >= 50]):.3f}"))


def main(
    results: Annotated[Path, typer.Argument(help="file that keeps each row")],
    tables: Annotated[list[Path], typer.Argument(help="descriptions of tables")],
    train: Annotated[str, typer.Option(help="numbers of training rows")] = "25,50,100,200",
    test: Annotated[int, typer.Option(help="held-out rows")] = 500,
    seeds: int = 10,
) -> None:
    """Measures what is missing and prints the tables."""
    file, numbers, found = ResultsFile(results, PredictorRow), [int(n) for n in train.split(",")], list[Cell]()
    for path in tables:
        found += cells(path, file, train=numbers, test=test, seeds=seeds)
        print(path.stem, flush=True)
    print(METHOD.format(seeds=seeds, test=test), end="\n\n")
    report(found)


if __name__ == "__main__":
    typer.run(main)
