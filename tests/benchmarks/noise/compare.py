"""Compares estimators of latency on recorded rounds.

    python -m tests.benchmarks.noise.compare FOLDER [--odd] [--only TEXT]

The truth of an estimator is its own median over the quiet sessions, so that none is punished for what it defines as latency.
For each load: the error of a network is its mean over the sessions; the table has its median and its worst over the networks,
pairs in the wrong order that are more than 15 % apart (mean per session), the share of values within their stated 90 %
intervals, the median of what is stated, and the seconds of a session of 30 networks. ``--odd`` reports the sessions of odd
number only: constants were fitted on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from hardware_profiles.measuring.pace import usual_speed
from tests.benchmarks.noise.estimators import ESTIMATORS, Estimator, Recording, speed_of

LOADS = ("quiet", "one", "bursts", "4", "8", "20")
APART, PAIRS_APART = 0.15, 0.03


@dataclass(frozen=True, slots=True)
class Row:
    """An estimator under a load; `median`, `worst` and `covered` are shares, `covered` NaN without stated intervals."""

    estimator: str
    load: str
    sessions: int
    median: float
    worst: float
    worst_network: str
    inverted: float
    covered: float
    width: float
    seconds: float


def with_speeds(recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings with what a machine's record says of its speed, and with what the first session of each load says."""
    speeds = [speed_of(recording) for recording in recordings]
    usual = usual_speed([speed for r, speed in zip(recordings, speeds, strict=True) if r.load == "quiet"])
    beside = {r.load: speed for r, speed in reversed(list(zip(recordings, speeds, strict=True)))}
    return [replace(r, usual=usual, beside=beside[r.load]) for r in recordings]


def rows(recordings: Sequence[Recording], name: str, estimator: Estimator, *, odd: bool) -> list[Row]:
    """The rows of one estimator."""
    guesses = {(r.load, r.number): (r, estimator(r)) for r in recordings}
    truth = np.median([[g.ms for g in found] for r, found in guesses.values() if r.load == "quiet"], axis=0)
    made = []
    for load in LOADS:
        of_load = [v for (at, number), v in guesses.items() if at == load and (not odd or number % 2)]
        if not of_load:
            continue
        ms = np.array([[g.ms for g in found] for _, found in of_load])
        stated = np.array([[g.error for g in found] for _, found in of_load])
        errors = np.abs(ms / truth - 1)
        each = errors.mean(axis=0)
        covered = np.nan if np.isnan(stated).all() else float(np.mean(errors <= stated))
        seconds = [r.seconds([g.n_rounds for g in found]) for r, found in of_load]
        made.append(
            Row(
                name, load, len(of_load), float(np.median(each)), float(each.max()),
                of_load[0][0].names[-len(truth) :][int(each.argmax())], inversions(ms, truth), covered,
                float(np.median(stated)), float(np.mean(seconds)),
            )
        )  # fmt: skip
    return made


def inversions(ms: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Mean number per session of pairs in the wrong order whose truths are more than `APART` apart."""
    pairs = [(i, j) for i, j in combinations(range(len(truth)), 2) if abs(truth[i] / truth[j] - 1) > APART]
    wrong = [(found[i] - found[j]) * (truth[i] - truth[j]) < 0 for found in ms for i, j in pairs]
    return float(sum(wrong)) / len(ms)


def repeatability(ms: NDArray[np.float64]) -> str:
    """How well sessions agree, (n_sessions, n_networks): as `tests.benchmarks.repeatability` has it of two."""
    differences, inverted = [], []
    for a, b in combinations(ms, 2):
        mean = (a + b) / 2
        differences.append(float(np.mean(np.abs(a - b) / mean)))
        apart = [(i, j) for i, j in combinations(range(len(mean)), 2) if abs(mean[i] / mean[j] - 1) > PAIRS_APART]
        inverted.append(sum((a[i] - a[j]) * (b[i] - b[j]) < 0 for i, j in apart))
    return f"{np.mean(differences):.2%}, {max(differences):.2%}, {np.mean(inverted):.1f}"


def tables(found: Sequence[Row]) -> str:
    """Two tables in Markdown, a row for each estimator and a column for each load."""
    errors = _table(found, lambda row: f"{row.median:.1%} / {row.worst:.1%}")
    others = _table(
        found,
        lambda row: (
            f"{row.inverted:.1f}, {'–' if np.isnan(row.covered) else f'{row.covered:.0%}'}, "
            f"{'–' if np.isnan(row.width) else f'{row.width:.1%}'}, {row.seconds:.1f} s"
        ),
    )
    return (
        f"Error, median / worst:\n\n{errors}\n\nPairs inverted, intervals that cover, error stated, time:\n\n{others}"
    )


def _table(found: Sequence[Row], cell: Callable[[Row], str]) -> str:
    loads = [load for load in LOADS if any(row.load == load for row in found)]
    sessions = {row.load: row.sessions for row in found}
    heads = [f"{load} ({sessions[load]})" for load in loads]
    lines = [f"| estimator | {' | '.join(heads)} |", "|---" * (1 + len(loads)) + "|"]
    for name in dict.fromkeys(row.estimator for row in found):
        own = {row.load: cell(row) for row in found if row.estimator == name}
        lines.append(f"| {name} | {' | '.join(own[load] for load in loads)} |")
    return "\n".join(lines)


def main(
    folder: Path,
    *,
    odd: Annotated[bool, typer.Option("--odd", help="only the sessions on which nothing was fitted")] = False,
    only: Annotated[str, typer.Option(help="estimators whose names contain this")] = "",
) -> None:
    """Prints the table."""
    files = [file for load in LOADS for file in sorted(folder.glob(f"{load}.*.npz"))]
    recordings = with_speeds([Recording.read(file) for file in files])
    found = [
        row
        for name, estimator in ESTIMATORS.items()
        if only in name
        for row in rows(recordings, name, estimator, odd=odd)
    ]
    print(tables(found))
    print(
        "\nPairs of quiet sessions: mean difference of the same network (mean and worst pair), pairs of networks inverted:\n"
    )
    for name in dict.fromkeys(row.estimator for row in found):
        values = [[g.ms for g in ESTIMATORS[name](r)] for r in recordings if r.load == "quiet"]
        print(f"- {name}: {repeatability(np.array(values))}")


if __name__ == "__main__":
    typer.run(main)
