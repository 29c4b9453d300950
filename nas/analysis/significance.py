"""Whether the values of two measured networks differ significantly, or are a tie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.errors import StoreError
from nas.problem.objectives import EXACT_METRICS, Fidelity, Measurement, Objective
from nas.store.base import RunStore
from supernets.space import Architecture

N_STANDARD_ERRORS = 2.0
"""Accuracies further apart than this many standard errors of their difference are distinguishable."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two values and its threshold.

    Attributes:
        difference: first minus second, in the objective's unit.
        threshold: the smallest difference that counts.
        method: ``paired`` (per-image answers to the same images), ``independent`` (each accuracy's own standard error:
            the per-image answers were not kept, or the images differ), ``noise floor`` or ``exact``.
    """

    difference: float
    threshold: float
    method: Literal["paired", "independent", "noise floor", "exact"]

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is larger than its threshold."""
        return abs(self.difference) > self.threshold


def compare(store: RunStore, a: Architecture, b: Architecture, objective: Objective) -> Comparison:
    """The difference of two measured networks in one objective.

    Latency is compared at the final fidelity where both were measured again, else at the search fidelity; its noise
    floor is the larger of the two. A network compared with itself differs by 0 and is never distinguishable.

    Raises:
        StoreError: one of them has no value, or its stored answers are damaged.
    """
    first, second = _measurements(store, a, b, objective)
    if objective.metric == "accuracy":
        return compare_accuracies((store, first), (store, second))
    difference = _value(first) - _value(second)
    if objective.metric in EXACT_METRICS:
        return Comparison(difference, 0.0, "exact")
    return Comparison(difference, max(first.error or 0.0, second.error or 0.0), "noise floor")


def compare_accuracies(first: tuple[RunStore, Measurement], second: tuple[RunStore, Measurement]) -> Comparison:
    """The difference of two accuracies, each with the store that has its per-image answers.

    Raises:
        StoreError: stored answers are damaged.
    """
    (_, a), (_, b), left, right = first, second, _answers(*first), _answers(*second)
    difference = _value(a) - _value(b)
    if left is None or right is None or a.data != b.data or len(left) != len(right):
        independent = math.hypot(a.error or 0.0, b.error or 0.0)
        return Comparison(difference, N_STANDARD_ERRORS * independent, "independent")
    return Comparison(difference, N_STANDARD_ERRORS * paired_standard_error(left, right), "paired")


def paired_standard_error(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Standard error of the difference of two accuracies, from answers (1 right, 0 wrong) to the same images, (n,).

    Only images on which they disagree count: what is hard for both cancels. Infinite for fewer than two images.
    """
    if len(first) < 2:
        return math.inf
    differences = first.astype(np.float64) - second.astype(np.float64)
    return float(differences.std(ddof=1) / math.sqrt(len(differences)))


def _measurements(
    store: RunStore, a: Architecture, b: Architecture, objective: Objective
) -> tuple[Measurement, Measurement]:
    levels = (Fidelity.FINAL, Fidelity.SEARCH) if objective.profile else (Fidelity.SEARCH,)
    precisions = store.search_facts().precisions
    for fidelity in levels:
        requests = [precisions.request(candidate, objective, fidelity) for candidate in (a, b)]
        found = store.find(requests)
        pair = [found[request] for request in requests if request in found and found[request].value is not None]
        if len(pair) == 2:
            return pair[0], pair[1]
    problem = f"{objective.name} of {a.key} and {b.key} cannot be compared: this run has not measured both"
    raise StoreError(problem, code="network.not-measured")


def _value(measurement: Measurement) -> float:
    return math.nan if measurement.value is None else measurement.value


def _answers(store: RunStore, measurement: Measurement) -> NDArray[np.uint8] | None:
    """Per-image answers, (n_images,); None where they were not kept (values from a table)."""
    samples = store.samples(measurement.request)
    if samples is None:
        return None
    n_images = int(measurement.detail.get("images", 0))
    packed = np.frombuffer(samples, dtype=np.uint8)
    if len(packed) != math.ceil(n_images / 8) or n_images == 0:
        key, sizes = measurement.request.architecture.key, f"{len(packed)} bytes for {n_images} images"
        problem = f"the answers stored for {key} are damaged: {sizes}; measure it again in a new run"
        raise StoreError(problem, code="store.damaged")
    return np.unpackbits(packed, count=n_images)
