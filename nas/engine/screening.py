"""Staged evaluation: cheap metrics first, and the rest only of candidates that may still enter the front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import (
    ACCURACY,
    EXACT_METRICS,
    Constraint,
    Evaluation,
    Fidelity,
    Measurement,
    Objective,
    Request,
    Status,
    minimised,
)
from nas.problem.variants import Variants
from nas.search.base import SearchAlgorithm
from supernets.space import Architecture

_Z = 2.0
"""Standard errors by which a metric of the task on a few examples may differ from that on all."""

MetricAt = tuple[Objective, Fidelity]


@dataclass(frozen=True, slots=True)
class Stages:
    """The order in which a candidate's metrics are taken; each stage is for the candidates that the one before leaves.

    Attributes:
        steps: metrics with the fidelity that they are taken at; the ``search`` fidelity of every metric comes once.
    """

    steps: tuple[tuple[MetricAt, ...], ...]

    @classmethod
    def of(cls, metrics: Sequence[Objective], *, screened_first: bool) -> Stages:
        """Exact metrics; then those of profiles and those of the task on a few examples, the cheaper first; then these on all,
        with what is left."""
        exact = tuple((o, Fidelity.SEARCH) for o in metrics if o.metric in EXACT_METRICS)
        timed = tuple((o, Fidelity.SEARCH) for o in metrics if o.profile is not None)
        scored = [o for o in metrics if o.of_task]
        screen = tuple((o, Fidelity.SCREEN) for o in scored)
        middle = (screen, timed) if screened_first else (timed, screen)
        rest = tuple((o, Fidelity.SEARCH) for o in metrics if o.profile is None and o.metric not in EXACT_METRICS)
        return cls(tuple(step for step in (exact, *middle, rest) if step))

    def after(self, step: int) -> list[Objective]:
        """The metrics whose ``search`` fidelity comes after a step."""
        return [o for later in self.steps[step + 1 :] for o, fidelity in later if fidelity is Fidelity.SEARCH]


def scoring_is_cheaper(anchors: Sequence[Evaluation], metrics: Sequence[Objective], images: int) -> bool:
    """Whether scoring a number of images costs less than timing, by the seconds that the anchors took."""
    timed = scored = 0.0
    for evaluation in anchors:
        for metric in metrics:
            measurement = evaluation.measurements[metric.name]
            if metric.profile is not None:
                timed += measurement.seconds
            elif metric.of_task:
                scored += measurement.seconds * images / max(images, measurement.n_images)
    return scored < timed


def known_evaluation(
    architecture: Architecture, metrics: Sequence[Objective], found: dict[Request, Measurement], variants: Variants
) -> Evaluation:
    """A candidate with the best known measurement of each metric: its own, else that of a few examples, else why it was
    skipped.

    Where scoring a few examples failed, the candidate has failed until the score of all is known.
    """
    known: dict[str, Measurement] = {}
    for metric in metrics:
        own = found.get(variants.request(architecture, metric))
        few = found.get(variants.request(architecture, metric, Fidelity.SCREEN))
        is_skipped = own is not None and own.status is Status.SKIPPED
        best = few if own is None or (is_skipped and few is not None and few.value is not None) else own
        if best is not None:
            known[metric.name] = best
    return Evaluation(architecture, known)


def was_skipped(recorded: Sequence[Measurement], step: int) -> bool | None:
    """The decision after a step, by the records of the metrics that come later; None where nothing is recorded."""
    if not recorded:
        return None
    return any(m.skipped_after == step for m in recorded)


def reasons_to_skip(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    front: NDArray[np.float64],
    algorithm: SearchAlgorithm,
) -> list[str]:
    """Why the rest of each candidate's metrics is not worth its cost; "" where it may be.

    A candidate is skipped where a member of the front is at least as good in everything and better in something, even in
    the candidate's best case: its timed metrics one noise floor better, a score of a few examples at the better end of
    its interval, and what was not taken yet as good as the algorithm's models allow (without models: unboundedly). It is
    also skipped where it breaks a constraint even so, once something keeps them all. A failed candidate is not skipped:
    the failure is then recorded for all of its metrics.

    Args:
        front: (f, m) minimised values of complete evaluations; 0 rows while nothing is feasible.
    """
    if not len(front) or not evaluations:
        return [""] * len(evaluations)
    best = minimised(evaluations, objectives) - np.array([[_tolerance(e, o) for o in objectives] for e in evaluations])
    bounds = algorithm.lower_confidence_bounds([e.architecture for e in evaluations])
    missing = np.array([[o.name not in e.measurements for o in objectives] for e in evaluations])
    best = np.where(missing, -np.inf if bounds is None else bounds, best)
    found = []
    for evaluation, row in zip(evaluations, best, strict=True):
        dominated = np.all(front <= row, axis=1) & np.any(front < row, axis=1)
        broken = next((c for c in constraints if _breaks(evaluation, c)), None)
        if evaluation.failed or not (dominated.any() or broken):
            found.append("")
        else:
            found.append(f"breaks {broken.metric.name}" if broken else "dominated by the front even at its best")
    return found


def _tolerance(evaluation: Evaluation, metric: Objective) -> float:
    """By how much a value may be better than measured, at least 0; 0 for what is exact, complete or missing."""
    found = evaluation.measurements.get(metric.name)
    if found is None or found.value is None:
        return 0.0
    if found.request.fidelity is Fidelity.SCREEN:
        if metric != ACCURACY:
            return _Z * (found.error or 0.0)
        return _upper(found.value, found.n_images) - found.value
    return (found.error or 0.0) if metric.profile is not None else 0.0


def _upper(share: float, n: int) -> float:
    """The upper end of a share's interval of two standard errors (Wilson 1927): above it, unlike p + 2 s, at 0 and 1 too."""
    z2 = _Z * _Z
    middle, half = share + z2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return min(1.0, (middle + half) / (1 + z2 / n))


def _breaks(evaluation: Evaluation, constraint: Constraint) -> bool:
    """Whether a known value breaks a constraint by more than its tolerance."""
    value = evaluation.value(constraint.metric)
    if math.isnan(value):
        return False
    tolerance = _tolerance(evaluation, constraint.metric)
    low = -math.inf if constraint.minimum is None else constraint.minimum
    high = math.inf if constraint.maximum is None else constraint.maximum
    return value - tolerance > high or value + tolerance < low
