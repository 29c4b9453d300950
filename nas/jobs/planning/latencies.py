"""Measures deployments of which every one must succeed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hardware_profiles.base import Deployment, LatencyFailure, LatencyMeasurement, LatencyProfiler
from nas.errors import EvaluationError


def measure_all(
    profiler: LatencyProfiler, deployments: Iterable[Deployment], names: Sequence[str]
) -> list[LatencyMeasurement]:
    """The measurements of all deployments, in order; `EvaluationError` with its name if one cannot be measured."""
    measurements = []
    for name, result in zip(names, profiler.measure(deployments), strict=True):
        if isinstance(result, LatencyFailure):
            raise EvaluationError(f"cannot measure {name}: {result.message}", code="latency.not-measured")
        if result.energy_failure:
            raise EvaluationError(
                f"cannot measure the energy of {name}: {result.energy_failure}", code="energy.not-measured"
            )
        measurements.append(result)
    return measurements
