"""Benchmark of the search's predictor on published tables, against the best baseline.

Run: ``python -m tests.benchmarks.predictors_on_tables ROWS.jsonl TABLE.yaml...``; a second run continues the first.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.runs.bench.predictor import bench_predictor
from nas.runs.bench.table import Table

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


def measure(path: Path, rows: Path, *, train: Sequence[int], test: int, seeds: int) -> None:
    """Adds the rows that the file lacks, by column of the table and seed."""
    table = Table.load(path)
    known = {(r["table"], r["target"], r["seed"]) for r in read(rows)}
    for target in table.values:
        if "latency" not in target and "accuracy" not in target:
            continue  # parameters and operations are computed, never predicted
        if all((path.stem, target, seed) in known for seed in range(seeds)):
            continue
        by_seed: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in bench_predictor(table, target, train=train, test=test, seeds=seeds):
            by_seed[row.seed].append({"table": path.stem, "target": target, **row.to_json()})
        with rows.open("a", encoding="utf-8") as stream:
            for seed, found in by_seed.items():
                if (path.stem, target, seed) not in known:
                    stream.writelines(json.dumps(row) + "\n" for row in found)
        print(f"{path.stem} {target}", flush=True)


def read(rows: Path) -> list[dict[str, Any]]:
    """All rows of a file; none where there is no file."""
    if not rows.exists():
        return []
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]


def cells(rows: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """Rows by cell, in their order."""
    grouped: dict[tuple[str, str, int], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        grouped.setdefault((row["table"], row["target"], row["train"]), {}).setdefault(row["model"], []).append(row)
    return [
        Cell(
            *key,
            {model: float(np.mean([r["mape"] for r in found])) for model, found in models.items()},
            float(np.mean([r["coverage"] for r in models["auto"]])),
            float(np.mean([r["fit_s"] for r in models["auto"]])),
        )
        for key, models in grouped.items()
    ]


def mean_ratio(found: Sequence[Cell], baseline: str | None = None) -> float:
    """Geometric mean of the ratios."""
    return math.exp(float(np.mean([math.log(cell.ratio(baseline)) for cell in found])))


def report(found: Sequence[Cell]) -> None:
    """Prints the cells, and the means by number of training rows."""
    print("| table | column | rows | auto MAPE % | best baseline | MAPE % | ratio | coverage | fit s |")
    print("|---" * 9 + "|")
    for c in found:
        print(
            f"| {c.table} | {c.target} | {c.train} | {100 * c.mape['auto']:.2f} | {c.best} | "
            f"{100 * c.mape[c.best]:.2f} | {c.ratio():.3f} | {c.coverage:.3f} | {c.fit_s:.2f} |"
        )
    print(
        "\n| rows | cells | ratio to the best | worst | to mean | to ridge | to lightgbm | to gp | coverage | fit s |"
    )
    print("|---" * 10 + "|")
    groups = {str(n): [c for c in found if c.train == n] for n in sorted({c.train for c in found})}
    for name, group in {**groups, "all": found}.items():
        ratios = " | ".join(f"{mean_ratio(group, b):.3f}" for b in ("mean", "ridge", "lightgbm", "gp"))
        print(
            f"| {name} | {len(group)} | {mean_ratio(group):.3f} | {max(c.ratio() for c in group):.3f} | {ratios} | "
            f"{np.mean([c.coverage for c in group]):.3f} | {np.mean([c.fit_s for c in group]):.2f} |"
        )
    print("\n| table | coverage from 50 rows on |\n|---|---|")
    for table in dict.fromkeys(c.table for c in found):
        print(f"| {table} | {np.mean([c.coverage for c in found if c.table == table and c.train >= 50]):.3f} |")


def main() -> None:
    """Parses the command line, measures what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("tables", type=Path, nargs="*")
    parser.add_argument("--train", default="25,50,100,200")
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    for path in args.tables:
        measure(path, args.rows, train=[int(n) for n in args.train.split(",")], test=args.test, seeds=args.seeds)
    rows = read(args.rows)
    if not rows:
        raise SystemExit(f"{args.rows} has no rows yet; name tables to measure")
    print(METHOD.format(seeds=len({r["seed"] for r in rows}), test=args.test), end="\n\n")
    report(cells(rows))


if __name__ == "__main__":
    main()
