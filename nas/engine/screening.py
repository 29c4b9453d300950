"""Staged evaluation: what is cheap first, and the rest only of candidates that may still enter the front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import (
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
from nas.problem.precision import Precisions
from nas.search.base import SearchAlgorithm
from supernets.space import Architecture

_Z = 2.0
"""Standard errors by which the accuracy of some images may be below that of all."""

Wanted = tuple[Objective, Fidelity]


@dataclass(frozen=True, slots=True)
class Stages:
    """The order in which a run takes a candidate's figures; each stage is asked of those that the one before leaves.

    Attributes:
        steps: figures with the fidelity that they are taken at; every figure's own (``search``) fidelity comes once.
    """

    steps: tuple[tuple[Wanted, ...], ...]

    @classmethod
    def of(cls, figures: Sequence[Objective], *, screened_first: bool) -> Stages:
        """Exact figures; then timed ones and the accuracy of some images, the cheaper first; then that of all images."""
        exact = tuple((o, Fidelity.SEARCH) for o in figures if o.metric in EXACT_METRICS)
        timed = tuple((o, Fidelity.SEARCH) for o in figures if o.profile is not None)
        accuracy = [o for o in figures if o.metric == "accuracy"]
        screen = tuple((o, Fidelity.SCREEN) for o in accuracy)
        middle = (screen, timed) if screened_first else (timed, screen)
        return cls(tuple(step for step in (exact, *middle, tuple((o, Fidelity.SEARCH) for o in accuracy)) if step))

    def after(self, step: int) -> list[Objective]:
        """The figures whose own fidelity is still to be taken after a step."""
        return [o for later in self.steps[step + 1 :] for o, fidelity in later if fidelity is Fidelity.SEARCH]


def screened_first(anchors: Sequence[Evaluation], figures: Sequence[Objective], images: int) -> bool:
    """Whether some images' accuracy costs less than timing, by the seconds that the anchors took."""
    timed = accuracy = 0.0
    for evaluation in anchors:
        for figure in figures:
            measurement = evaluation.measurements[figure.name]
            if figure.profile is not None:
                timed += measurement.seconds
            elif figure.metric == "accuracy":
                accuracy += measurement.seconds * images / max(images, measurement.n_images)
    return accuracy < timed


def partial(
    architecture: Architecture, figures: Sequence[Objective], found: dict[Request, Measurement], precisions: Precisions
) -> Evaluation:
    """What is known of a candidate: each figure's own measurement, else its accuracy on some images, else why it was left.

    Where the accuracy of some images failed, the candidate has failed until that of all images is there.
    """
    known: dict[str, Measurement] = {}
    for figure in figures:
        own = found.get(precisions.request(architecture, figure))
        few = found.get(precisions.request(architecture, figure, Fidelity.SCREEN))
        left = own is not None and own.status is Status.SKIPPED
        best = few if own is None or (left and few is not None and few.value is not None) else own
        if best is not None:
            known[figure.name] = best
    return Evaluation(architecture, known)


def was_left(recorded: Sequence[Measurement], step: int) -> bool | None:
    """What was decided after a step, by what is recorded of the figures that come later; None where nothing is."""
    if not recorded:
        return None
    return any(m.skipped_after == step for m in recorded)


def worth(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    front: NDArray[np.float64],
    algorithm: SearchAlgorithm,
) -> list[str]:
    """Why the rest of each candidate's figures is not worth its cost; "" where it may be.

    A candidate is not worth it where a member of the front is at least as good in everything and better in something,
    however lucky the candidate: its timed figures one noise floor faster, the accuracy of some images at the upper end
    of its interval, and what was not taken yet as good as the algorithm's models allow (without models: unboundedly).
    Nor is it where it breaks a constraint even so, once something keeps them all. What failed is worth asking for: the
    failure is then recorded for all of its figures.

    Args:
        front: (f, m) minimised figures of what was evaluated whole; 0 rows while nothing is feasible.
    """
    if not len(front) or not evaluations:
        return [""] * len(evaluations)
    best = minimised(evaluations, objectives) - np.array([[_room(e, o) for o in objectives] for e in evaluations])
    bounds = algorithm.lower_confidence_bounds([e.architecture for e in evaluations])
    open_ = np.array([[o.name not in e.measurements for o in objectives] for e in evaluations])
    best = np.where(open_, -np.inf if bounds is None else bounds, best)
    found = []
    for evaluation, row in zip(evaluations, best, strict=True):
        beaten = np.all(front <= row, axis=1) & np.any(front < row, axis=1)
        broken = next((c for c in constraints if _breaks(evaluation, c)), None)
        if evaluation.failed or not (beaten.any() or broken):
            found.append("")
        else:
            found.append(f"breaks {broken.metric.name}" if broken else "the front is ahead of it at its best")
    return found


def _room(evaluation: Evaluation, figure: Objective) -> float:
    """By how much a figure may be better than it was found, at least 0; 0 for what is exact, whole or not there."""
    found = evaluation.measurements.get(figure.name)
    if found is None or found.value is None:
        return 0.0
    if found.request.fidelity is Fidelity.SCREEN:
        return _upper(found.value, found.n_images) - found.value
    return (found.error or 0.0) if figure.profile is not None else 0.0


def _upper(share: float, n: int) -> float:
    """The upper end of a share's interval of two standard errors (Wilson 1927): above it, unlike p + 2 s, at 0 and 1 too."""
    z2 = _Z * _Z
    middle, half = share + z2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return min(1.0, (middle + half) / (1 + z2 / n))


def _breaks(evaluation: Evaluation, constraint: Constraint) -> bool:
    """Whether a known figure breaks a constraint however far it moves within its room."""
    value = evaluation.value(constraint.metric)
    if math.isnan(value):
        return False
    room = _room(evaluation, constraint.metric)
    low = -math.inf if constraint.minimum is None else constraint.minimum
    high = math.inf if constraint.maximum is None else constraint.maximum
    return value - room > high or value + room < low
