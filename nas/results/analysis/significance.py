"""Whether the values of two measured networks differ significantly, or are a tie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.engine.store.base import RunStore
from nas.errors import StoreError
from nas.search.problem.example_scores import decoded, standard_error
from nas.search.problem.objectives import EXACT_METRICS, Fidelity, Measurement, Objective
from supernets.space import Architecture

N_STANDARD_ERRORS = 2.0
"""Values of a task's metric further apart than this many standard errors of their difference are distinguishable."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two values and its threshold.

    Attributes:
        difference: first minus second, in the objective's unit.
        threshold: the smallest difference that counts.
        method: ``paired`` (scores on the same examples), ``independent`` (each value's own standard error: the scores of
            single examples were not kept, or the examples differ), ``noise floor`` or ``exact``.
    """

    difference: float
    threshold: float
    method: Literal["paired", "independent", "noise floor", "exact"]

    @property
    def distinguishable(self) -> bool:
        """True if the difference is larger than its threshold."""
        return abs(self.difference) > self.threshold


def compare(store: RunStore, a: Architecture, b: Architecture, objective: Objective) -> Comparison:
    """The difference of two measured networks in one objective.

    Latency is compared at the final fidelity where both were measured again, else at the search fidelity; its noise
    floor is the larger of the two. A network compared with itself differs by 0 and is never distinguishable.

    Raises:
        StoreError: One of the networks has no value, or its stored scores are damaged.
    """
    first, second = _measurements(store, a, b, objective)
    if objective.of_task:
        return compare_scores((store, first), (store, second))
    difference = _value(first) - _value(second)
    if objective.metric in EXACT_METRICS:
        return Comparison(difference, 0.0, "exact")
    return Comparison(difference, max(first.error or 0.0, second.error or 0.0), "noise floor")


def compare_scores(first: tuple[RunStore, Measurement], second: tuple[RunStore, Measurement]) -> Comparison:
    """The difference of two values of a task's metric, each with the store that has its scores on single examples.

    Raises:
        StoreError: stored scores are damaged.
    """
    (_, a), (_, b), first_scores, second_scores = first, second, _scores(*first), _scores(*second)
    difference = _value(a) - _value(b)
    if first_scores is None or second_scores is None or a.data != b.data or len(first_scores) != len(second_scores):
        independent = math.hypot(a.error or 0.0, b.error or 0.0)
        return Comparison(difference, N_STANDARD_ERRORS * independent, "independent")
    return Comparison(difference, N_STANDARD_ERRORS * paired_standard_error(first_scores, second_scores), "paired")


def paired_standard_error(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Standard error of the difference of two values of a metric, from scores on the same examples, (n,).

    Of accuracies, only examples on which they disagree count: what is hard for both cancels. Infinite for fewer than two
    examples.
    """
    return standard_error(first.astype(np.float64) - second.astype(np.float64))


def _measurements(
    store: RunStore, a: Architecture, b: Architecture, objective: Objective
) -> tuple[Measurement, Measurement]:
    levels = (Fidelity.FINAL, Fidelity.SEARCH) if objective.profile else (Fidelity.SEARCH,)
    variants = store.search_facts().variants
    for fidelity in levels:
        requests = [variants.request(candidate, objective, fidelity) for candidate in (a, b)]
        stored = store.find(requests)
        pair = [stored[request] for request in requests if request in stored and stored[request].value is not None]
        if len(pair) == 2:
            return pair[0], pair[1]
    problem = f"{objective.name} of {a.key} and {b.key} cannot be compared: this run has not measured both"
    raise StoreError(problem, code="network.not-measured")


def _value(measurement: Measurement) -> float:
    return math.nan if measurement.value is None else measurement.value


def _scores(store: RunStore, measurement: Measurement) -> NDArray[Any] | None:
    """Scores on single examples, (n,); None where they were not kept (values from a table)."""
    samples = store.samples(measurement.request)
    if samples is None:
        return None
    try:
        return decoded(samples, measurement.detail)
    except ValueError as error:
        key = measurement.request.architecture.key
        problem = f"the answers stored for {key} are damaged: {error}; measure it again in a new run"
        raise StoreError(problem, code="store.damaged") from None
