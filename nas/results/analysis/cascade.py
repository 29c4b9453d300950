"""Cascades: a small network answers where it is confident, and a larger one of the same front elsewhere.

After the mixture of weak and strong experts (Zeng et al. 2023, arXiv 2311.05185), whose experts are trained together and whose
confidence is a learned function. Here both are networks of a run as they are, and the confidence is the largest softmax
probability (Hendrycks and Gimpel 2017, arXiv 1610.02136) with a threshold for each pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.engine.store.base import RunStatus
from nas.errors import Remedy, RunStateError, SelectionError
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from nas.results.analysis.significance import N_STANDARD_ERRORS, Comparison, paired_standard_error
from nas.search.problem.objectives import Objective
from nas.search.problem.pareto import non_dominated
from nas.search.problem.tasks import CLASSIFICATION

Array = NDArray[np.float64]

SHARES = tuple(n / 20 for n in range(1, 20))
"""Of the examples that are passed on to the large network, for which thresholds are tried."""
_WINDOW = 0.01
"""Share of the examples around a wanted number of them among which the widest gap is the threshold's."""
_MIN_GAP = 1e-5
"""Between the confidences beside a threshold: runtimes round exponentials differently, by up to some 1e-6."""
_STEP = 0.5
"""Standard errors of the accuracy by which a cascade of a table must be better than the row of the front before it."""
_LEVELS = (np.arange(200) + 0.5) / 200
"""Of the quantiles that stand for the times of a network."""


def confidence(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The softmax probability of the most probable class, (n,), from logits (n, classes)."""
    return np.asarray(1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A network of a front with its answers to the same examples as the others.

    Attributes:
        index: Number of the network on the front.
        latency_ms, latency_error_ms: Latency of a call with its error, as the run measured it.
        runs_ms: Wall times of its timed runs, (r,); empty where they are too few for a p99.
        confidence: Confidence of each answer, (n,), from 0 to 1.
        right: Mask of the right answers, (n,).
    """

    index: int
    point: Point
    latency_ms: float
    latency_error_ms: float
    runs_ms: Array = field(repr=False)
    confidence: NDArray[np.float32] = field(repr=False)
    right: NDArray[np.bool_] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cascade:
    """Two networks with a threshold; or, without `large`, a single network.

    Attributes:
        small, large: Numbers of the networks on the front.
        threshold: An example is passed on where the small network's confidence is below it.
        accuracy, error: Share of right answers with one standard error, binomial as that of a classification.
        share: Share of the examples that are passed on.
        mean_ms: Mean latency: the small network's latency, and the large one's times the share: computed from measured
            latencies.
        mean_error_ms: Error of the mean latency, from the noise floors of both latencies and the standard error of the share.
        worst_ms: Latency of an example that is passed on: the sum of both.
        p99_ms: 99th percentile over examples of the wall times; None where too few runs were timed.
    """

    small: int
    large: int | None
    threshold: float | None
    accuracy: float
    error: float
    share: float
    mean_ms: float
    mean_error_ms: float
    worst_ms: float
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A cascade or a single network of a table.

    Attributes:
        on_front: True if no other row is as accurate at a lower mean latency, or more accurate at the same.
        against: For a cascade, the number on the front of the most accurate single network that is no slower than its mean.
        gain: Gain of its accuracy over that network, paired by examples.
    """

    cascade: Cascade
    on_front: bool
    against: int | None = None
    gain: Comparison | None = None


@dataclass(frozen=True, eq=False)
class CascadeTable:
    """The networks of a run's front and their cascades, in accuracy and mean latency on the validation part.

    Attributes:
        latency: the objective that latencies are of.
        batch_size: examples of a call of the hardware profile.
        members: the front, the fastest first.
        rows: every single network, and the cascades on the common front, by mean latency. Of cascades whose accuracies are
            within half a standard error, the fastest alone.
        cascades: all that were tried.
    """

    run: str
    latency: Objective
    batch_size: int
    members: tuple[Member, ...]
    rows: tuple[Row, ...]
    cascades: tuple[Cascade, ...]

    @classmethod
    def from_pairs(
        cls,
        run: str,
        members: Sequence[Member],
        pairs: Sequence[tuple[int, int]],
        *,
        latency: Objective,
        batch_size: int,
    ) -> CascadeTable:
        """The table of these pairs (small, large) of members, by their numbers on the front."""
        tried = tuple(cascade for small, large in pairs for cascade in _cascades(members[small], members[large]))
        return cls(run, latency, batch_size, tuple(members), _rows(members, tried), tried)

    def pair(self, number: int) -> tuple[Member, Member, float]:
        """The small network, the large one and the threshold of a row.

        Raises:
            SelectionError: There is no such row, or the row is a single network.
        """
        if not 0 <= number < len(self.rows):
            problem = f"row {number}: the table of run {self.run!r} has rows 0 to {len(self.rows) - 1}"
            raise SelectionError(problem, code="selection.unknown-network", parameter="row")
        row = self.rows[number].cascade
        if row.large is None or row.threshold is None:
            problem = (
                f"row {number}: the row is a single network; choose a row of two networks, or export this one alone"
            )
            remedy = Remedy("export", self.run, {"index": row.small})
            raise SelectionError(problem, code="cascade.single-network", remedy=remedy, parameter="row")
        return self.members[row.small], self.members[row.large], row.threshold

    def to_json(self) -> dict[str, Any]:
        """The output of `nas cascade --json`."""
        return {
            "run": self.run,
            "latency": self.latency.name,
            "batch_size": self.batch_size,
            "examples": len(self.members[0].right),
            "networks": [member.point.key for member in self.members],
            "rows": [{"number": i, **asdict(row)} for i, row in enumerate(self.rows)],
            "cascades": [asdict(cascade) for cascade in self.cascades],
        }


def cascade_pairs(report: RunReport) -> list[tuple[int, int]]:
    """Pairs (small, large) of members of a front by their numbers: of one runtime, the large one slower.

    Raises:
        RunStateError: the run is not finished.
        SelectionError: its task is none of classes, it measured no latency, or no two members can be paired.
    """
    run = f"run {report.run!r}"
    if report.status is not RunStatus.FINISHED:
        problem = f"{run} is {report.status}; its front may change: resume the run"
        raise RunStateError(problem, remedy=Remedy("resume", report.run))
    if report.task.name != CLASSIFICATION.name:
        problem = f"{run} has the task {report.task.name}; a cascade needs the confidences of a classification"
        raise SelectionError(problem, code="cascade.task-unavailable")
    if (cost := report.cost).metric != "latency_ms":
        objective_names = ", ".join(o.name for o in report.objectives)
        problem = f"{run} has the objectives {objective_names}; a cascade needs a latency: search with latency_ms"
        raise SelectionError(problem, code="cascade.no-latency")
    if len(report.front) < 2:
        problem = (
            f"the front of {run} has {len(report.front)} member(s); a cascade needs 2: search with more evaluations"
        )
        raise SelectionError(problem, code="cascade.too-few-networks")
    numbered = combinations(enumerate(report.front), 2)  # the fastest first
    pairs = [
        (i, j)
        for (i, small), (j, large) in numbered
        if small.runtime == large.runtime and small.values[cost.name] < large.values[cost.name]
    ]
    if not pairs:
        problem = f"the front of {run} has no two networks of one runtime and different latency, which a cascade needs"
        raise SelectionError(f"{problem}; search with one runtime", code="cascade.too-few-networks")
    return pairs


def cascade_of(small: Member, large: Member | None = None, threshold: float = -1.0) -> Cascade:
    """The values of two members at a threshold, or of a single one; without p99."""
    n, passed = len(small.right), small.confidence < threshold
    right, share = answered_right(small, large, threshold), float(passed.mean())
    accuracy = float(right.mean())
    more, more_error = (0.0, 0.0) if large is None else (large.latency_ms, large.latency_error_ms)
    noise = small.latency_error_ms + share * more_error  # of one machine: they may be wrong alike
    return Cascade(
        small.index,
        None if large is None else large.index,
        None if large is None else threshold,
        accuracy,
        _binomial_error(accuracy, n),
        share,
        mean_ms=small.latency_ms + share * more,
        mean_error_ms=math.hypot(noise, _binomial_error(share, n) * more),
        worst_ms=small.latency_ms + more,
    )


def answered_right(small: Member, large: Member | None, threshold: float) -> NDArray[np.bool_]:
    """Mask of the examples that a cascade answers rightly, (n,)."""
    return small.right if large is None else np.where(small.confidence < threshold, large.right, small.right)


def thresholds(confidences: NDArray[np.float32]) -> list[float]:
    """Thresholds below which about each of `SHARES` of the confidences (n,) lie, ascending; float32 values.

    Each is in the middle of the widest gap near its share, so that rounding in another runtime passes on the same examples;
    where confidences crowd, as those of many sure answers do at 1, there is none.
    """
    ordered = np.sort(confidences.astype(np.float64))
    n, gaps, gap_middles = len(ordered), np.diff(ordered), []
    window = max(1, round(_WINDOW * n))
    for share in SHARES:
        wanted = round(share * n)  # gaps[i - 1] is below the example i
        low, high = max(1, wanted - window), min(n - 1, wanted + window)
        if low > high:
            continue
        i = low + int(np.argmax(gaps[low - 1 : high]))
        if gaps[i - 1] > _MIN_GAP:
            gap_middles.append(float(np.float32((ordered[i - 1] + ordered[i]) / 2)))
    return list(dict.fromkeys(gap_middles))


def _cascades(small: Member, large: Member) -> list[Cascade]:
    """A pair with each of its thresholds."""
    cascades = [cascade_of(small, large, threshold) for threshold in thresholds(small.confidence)]
    if not (len(small.runs_ms) and len(large.runs_ms)):
        return cascades
    tails = _p99s(small.runs_ms, large.runs_ms, [cascade.share for cascade in cascades])
    return [replace(cascade, p99_ms=tail) for cascade, tail in zip(cascades, tails, strict=True)]


def _p99s(small: Array, large: Array, shares: Sequence[float]) -> list[float]:
    """99th percentiles of a time that is one of `small`, and with each of these probabilities one of `large` more."""
    alone, more = (np.quantile(runs, _LEVELS) for runs in (small, large))
    with_large = np.sort(np.add.outer(alone, more).ravel())
    times = np.sort(np.concatenate([alone, with_large]))
    below = [np.searchsorted(durations, times, side="right") / len(durations) for durations in (alone, with_large)]
    return [float(times[np.argmax((1 - share) * below[0] + share * below[1] >= 0.99)]) for share in shares]


def _rows(members: Sequence[Member], tried: Sequence[Cascade]) -> tuple[Row, ...]:
    """The rows of a table by mean latency; see `CascadeTable.rows`."""
    singles = [
        replace(cascade_of(member), p99_ms=float(np.quantile(member.runs_ms, 0.99)) if len(member.runs_ms) else None)
        for member in members
    ]
    every = sorted([*singles, *tried], key=lambda c: (c.mean_ms, -c.accuracy))
    leads = non_dominated(np.array([[c.mean_ms, -c.accuracy] for c in every])).tolist()
    rows, min_accuracy = [], -math.inf
    for cascade, leading in zip(every, leads, strict=True):
        if cascade.large is None:
            rows.append(Row(cascade, leading))
        elif leading and cascade.accuracy >= min_accuracy:
            rows.append(_compared(cascade, members, singles))
        else:
            continue
        if leading:
            min_accuracy = cascade.accuracy + _STEP * cascade.error
    return tuple(rows)


def _compared(cascade: Cascade, members: Sequence[Member], singles: Sequence[Cascade]) -> Row:
    """The row of a cascade on the front, compared with the best single network that is no slower."""
    best = max((single for single in singles if single.mean_ms <= cascade.mean_ms), key=lambda single: single.accuracy)
    large = None if cascade.large is None else members[cascade.large]
    right = answered_right(members[cascade.small], large, cascade.threshold or 0.0)
    error = paired_standard_error(right, members[best.small].right)
    return Row(
        cascade, True, best.small, Comparison(cascade.accuracy - best.accuracy, N_STANDARD_ERRORS * error, "paired")
    )


def _binomial_error(share: float, n: int) -> float:
    return math.sqrt(share * (1 - share) / n)
