"""The networks of a run that could not be measured, each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.engine.store.base import RunStore
from nas.engine.store.run_facts import SearchFacts
from nas.search.problem.evaluation_counts import Result, worst
from nas.search.problem.objectives import Fidelity, Measurement
from supernets.space import Architecture


@dataclass(frozen=True, slots=True)
class FailedMeasurement:
    """The last attempt at a measurement, which gave no value.

    Attributes:
        metric: ``metric`` or ``metric@profile``.
        fidelity: Name of the protocol, as `nas.search.problem.objectives.Fidelity` names it, e.g. ``final`` for the longer
            protocol.
        result: ``too-noisy`` or ``failed``.
        attempts: how often it was tried.
    """

    metric: str
    fidelity: str
    result: Result
    reason: str
    attempts: int

    @classmethod
    def from_measurement(cls, measurement: Measurement) -> FailedMeasurement:
        """The description of a measurement that failed."""
        request = measurement.request
        result = Result.of(measurement.status, measurement.detail)
        return cls(request.name, str(request.fidelity), result, measurement.message, measurement.attempt + 1)


@dataclass(frozen=True, slots=True)
class FailedNetwork:
    """A network of which a measurement failed.

    Attributes:
        architecture: option values by the names of the choices.
        measurements: those that failed, in the order committed.
    """

    key: str
    architecture: Mapping[str, Any]
    measurements: tuple[FailedMeasurement, ...]

    @property
    def result(self) -> Result:
        """The worst result of its measurements."""
        return worst(measurement.result for measurement in self.measurements)

    def to_json(self) -> dict[str, Any]:
        """The network in `nas show RUN --failed --json`."""
        return {
            "key": self.key,
            "architecture": dict(self.architecture),
            "result": str(self.result),
            "measurements": [
                {
                    "metric": m.metric,
                    "fidelity": m.fidelity,
                    "result": str(m.result),
                    "reason": m.reason,
                    "attempts": m.attempts,
                }
                for m in self.measurements
            ],
        }


def failed_networks(store: RunStore, search: SearchFacts) -> list[FailedNetwork]:
    """The networks of which the last attempt at a measurement failed, in the order of the first such attempt."""
    failures_by_candidate: dict[Architecture, list[FailedMeasurement]] = {}
    for measurement in store.failures():
        candidate = search.variants.candidate(measurement.request)
        failures_by_candidate.setdefault(candidate, []).append(FailedMeasurement.from_measurement(measurement))
    values = search.space.values
    return [
        FailedNetwork(candidate.key, values(candidate), tuple(failures))
        for candidate, failures in failures_by_candidate.items()
    ]


def too_noisy(store: RunStore, search: SearchFacts) -> frozenset[str]:
    """Keys of the networks whose evaluation failed, and only for the noise of the machine."""
    results: dict[Architecture, list[Result]] = {}
    for m in store.failures():
        if m.request.fidelity is Fidelity.SEARCH:
            results.setdefault(search.variants.candidate(m.request), []).append(Result.of(m.status, m.detail))
    return frozenset(candidate.key for candidate, outcomes in results.items() if worst(outcomes) is Result.TOO_NOISY)
