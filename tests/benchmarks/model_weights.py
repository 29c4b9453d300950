"""Benchmark of the weights of models in the search's predictor by number of rows, and of the error without some of them.

Run: ``python -m tests.benchmarks.model_weights CELLS.jsonl TABLE.yaml:COLUMN... --train 40,100,200,600,1500``; a second run
continues the first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.runs.bench.table import Table
from nas.runs.bench.table_features import TableFeatures
from predictors.base import Array
from predictors.candidate_models import LIGHTGBM, candidates
from predictors.ensemble import ensemble_weights, errors_by_model
from predictors.folds import make_folds
from predictors.label_scales import Bounds
from predictors.model_selection import FINE_FOLDS
from predictors.threads import one_thread

METHOD = """\
A cell is a table, a column and a seed. Its models are fitted to the training rows and weighted by their cross-validated errors,
as in searches. Error: of the weighted mean on {test} held-out rows (relative to the label; for accuracies absolute), over that
of the weighted mean of all models but the family's; geometric means over cells (and the worst of LightGBM's)."""
FAMILIES = {LIGHTGBM: (LIGHTGBM,), "Gaussian processes": ("Gaussian process",), "linear models": ("",)}
"""By family, what the name of a model contains; the first one that fits counts."""


def measure(path: Path, target: str, n: int, seed: int, test: int) -> dict[str, Any] | None:
    """One cell; None where the table has too few rows."""
    table = Table.load(path)
    labels = np.array(table.values[target], dtype=np.float64)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~np.isnan(labels)))
    if len(order) < n + test:
        return None
    features, ratio = TableFeatures.from_table(table), "accuracy" not in target
    seen, new = order[test : test + n], order[:test]
    x, asked = (features([table.architectures[i] for i in rows]) for rows in (seen, new))
    y, truth = labels[seen], labels[new]
    rng, bounds = np.random.default_rng(seed), Bounds.of(y, ratio=ratio)
    coarse, fine = make_folds(y, rng), make_folds(y, rng, FINE_FOLDS)
    offered = candidates(features.layout(), x.shape[1], n, positive=ratio, seed=seed)
    held, expected = [], []
    with one_thread():
        for candidate in offered:
            model, found = candidate.tried(x, y, fine=fine, coarse=coarse)
            held.append(bounds.clip(found.mean))
            expected.append(bounds.clip(model.predict(asked).mean))
    names, means, predicted = [c.name for c in offered], np.stack(held), np.stack(expected)

    def weighted(some: Sequence[int]) -> tuple[Array, float]:
        weights = ensemble_weights(y, means[some], np.random.default_rng(seed), ratio=ratio)
        return weights, float(np.abs(errors_by_model(truth, weights @ predicted[some], ratio=ratio)).mean())

    families = [next(f for f, parts in FAMILIES.items() if any(p in name for p in parts)) for name in names]
    weights, error = weighted(range(len(names)))
    shares, ratios = {}, {}
    for family in FAMILIES:
        own = np.array([other == family for other in families])
        shares[family] = float(weights[own].sum())
        ratios[family] = error / weighted(np.flatnonzero(~own).tolist())[1]
    return {"shares": shares, "ratios": ratios}


def report(cells: Mapping[tuple[str, str, int, int], dict[str, Any]]) -> None:
    """Prints a line for each number of rows."""
    columns = [f"{family}: weight | error over that without" for family in FAMILIES]
    print("| rows | cells | " + " | ".join(columns) + " | cells in which LightGBM has no weight |")
    print("|---" * (2 * len(FAMILIES) + 3) + "|")
    for n in sorted({key[2] for key in cells}):
        own = [cell for key, cell in cells.items() if key[2] == n]
        shown = []
        for family in FAMILIES:
            ratios = np.array([cell["ratios"][family] for cell in own])
            worst = f" (worst {ratios.max():.3f})" if family == LIGHTGBM else ""
            share = np.mean([cell["shares"][family] for cell in own])
            shown.append(f"{share:.0%} | {np.exp(np.log(ratios).mean()):.3f}{worst}")
        unused = sum(cell["shares"][LIGHTGBM] == 0 for cell in own)
        print(f"| {n} | {len(own)} | " + " | ".join(shown) + f" | {unused} |")


def main() -> None:
    """Parses the command line, measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=Path)
    parser.add_argument("columns", nargs="*", metavar="TABLE.yaml:COLUMN")
    parser.add_argument("--train", default="40,100,200,600,1500")
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    lines = args.cells.read_text(encoding="utf-8").splitlines() if args.cells.exists() else []
    cells = {(*row["key"],): row["cell"] for row in map(json.loads, lines)}
    for n in map(int, args.train.split(",")):
        for text in args.columns:
            path, _, target = text.rpartition(":")
            for seed in range(args.seeds):
                key = (Path(path).stem, target, n, seed)
                if key not in cells and (cell := measure(Path(path), target, n, seed, args.test)) is not None:
                    cells[key] = cell
                    with args.cells.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps({"key": key, "cell": cell}) + "\n")
    print(METHOD.format(test=args.test), end="\n\n")
    report(cells)


if __name__ == "__main__":
    main()
