"""The table of the benchmark of value: test accuracies by model and limit, and paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.json_lines import Row
from tests.benchmarks.markdown import table_head, table_row

RIVALS = ("magnitude", "Taylor", "isomorphic")
"""Torch-Pruning's methods, of which a cell has the one with the best validation accuracy."""


def as_table(rows: Sequence[Row]) -> str:
    """A line for each model, limit and seed whose methods are all there; then the numbers of cells that ours wins."""
    differences = ("ours - pruned", "ours - uniform", "latency of ours / pruned / uniform")
    names = ("model", "limit", "original", "ours", "best pruned", "uniform", " / ".join(RIVALS), *differences)
    lines = [table_head(*names)]
    by_key = {(row["model"], row["seed"], row["method"]): row for row in rows}
    ahead: list[tuple[bool, bool]] = []
    for model, seed in dict.fromkeys((row["model"], row["seed"]) for row in rows):
        if (model, seed, "latency") not in by_key:
            continue
        own = {m: by_key[model, seed, m] for m in ("ours", "uniform", *RIVALS)}
        original = by_key[model, seed, "original"]["networks"]["1.0"]
        latency = by_key[model, seed, "latency"]["ratios"]
        for limit in own["ours"]["networks"]:
            at = {method: row["networks"][limit] for method, row in own.items()}
            best = max(RIVALS, key=lambda m: at[m]["validation"])
            to_pruned, to_uniform = (paired(at["ours"], at[other]) for other in (best, "uniform"))
            ahead.append((to_pruned[0] > 0, to_uniform[0] > 0))
            each = " / ".join(f"{100 * at[m]['test']:.2f}" for m in RIVALS)
            shown = [f"{at[m]['test']:.2%}" for m in ("ours", best, "uniform")]
            ratios = " / ".join(f"{latency[f'{m} {limit}']:.3f}" for m in ("ours", best, "uniform"))
            name = f"{model} ({seed})" if seed else model
            accuracies = (f"{original['test']:.2%}", shown[0], f"{shown[1]} ({best})", shown[2], each)
            gaps = _difference(*to_pruned), _difference(*to_uniform)
            lines.append(table_row(name, f"{float(limit):.0%}", *accuracies, *gaps, ratios))
    wins = [sum(one) for one in zip(*ahead, strict=True)] if ahead else [0, 0]
    both = sum(map(all, ahead))
    lines += [
        "",
        f"Ahead of the best pruned network in {wins[0]} of {len(ahead)} cells, of uniform scaling in {wins[1]}, "
        f"of both in {both}.",
    ]
    return "\n".join(lines)


def paired(ours: Row, other: Row) -> tuple[float, float]:
    """The difference of two accuracies on the same examples, and half of its 95 % interval (McNemar's variance)."""
    a, b = _bits(ours["correct"]), _bits(other["correct"])
    n = round(float(np.sum(a)) / ours["test"])
    better, worse = float(np.sum(a & ~b)), float(np.sum(b & ~a))
    return (better - worse) / n, 1.96 * math.sqrt(better + worse - (better - worse) ** 2 / n) / n


def _bits(text: str) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(bool)


def _difference(value: float, half: float) -> str:
    return f"{100 * value:+.2f} ± {100 * half:.2f}"
