"""Insight into a run beyond its front: timeline, accuracy of predictions, importance of genes and diversity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.engine.store.base import RunStatus, RunStore
from nas.results.analysis.diversity import Diversity, diversity_of
from nas.results.analysis.importance import Importance, importance_of
from nas.results.analysis.predictor_accuracy import PredictorAccuracy, predictor_accuracy_of
from nas.results.analysis.report import RunReport
from nas.results.analysis.run_measurements import RecordedSteps
from predictors.threads import one_thread


@dataclass(frozen=True, slots=True)
class Timeline:
    """Evaluations and search time after each measured network.

    Attributes:
        evaluations: Number of evaluations, failed ones included, (n,).
        seconds: Search time since the first measured network, (n,), without the pauses between two drivers.
        front_positions: Position of each member of the front among the n, by key.
    """

    evaluations: NDArray[np.int64]
    seconds: NDArray[np.float64]
    front_positions: Mapping[str, int]


@dataclass(frozen=True)
class Insight:
    """The parts of a run's insight; what takes long is computed on first access."""

    report: RunReport
    timeline: Timeline
    predictor_accuracy: Mapping[str, PredictorAccuracy]

    @cached_property
    def importance(self) -> Mapping[str, Importance]:
        """Importance of genes, by objective name."""
        with one_thread():
            return importance_of(self.report, self.report.space)

    @cached_property
    def diversity(self) -> Diversity | None:
        """Diversity of the front; None for fewer than two members."""
        return diversity_of(self.report, self.report.space)


def insight_of(report: RunReport, store: RunStore, steps: RecordedSteps | None = None) -> Insight:
    """The insight into a search; `store` is that of the report, and `steps` its steps if they were read already."""
    steps = steps or RecordedSteps.read(store)
    return Insight(report, timeline_of(report, store.statuses()), predictor_accuracy_of(report, steps.fits, steps.asks))


def timeline_of(report: RunReport, statuses: Sequence[tuple[RunStatus, float]]) -> Timeline:
    """The timeline of a search, from its `RunStore.statuses`; empty while nothing is measured."""
    numbers = [number for number, _ in report.hypervolume] or range(1, len(report.evaluated) + 1)
    starts = [at for status, at in statuses if status is RunStatus.RUNNING]
    places = report.evaluated.places
    front_positions = {point.key: places[point.key] for point in report.front if point.key in places}
    return Timeline(np.array(numbers, dtype=np.int64), _searching(report.evaluated.committed, starts), front_positions)


def _searching(committed: NDArray[np.float64], starts: Sequence[float]) -> NDArray[np.float64]:
    """Seconds since the first commit, (n,), without the pauses before each driver's start."""
    if not len(committed):
        return committed
    times = np.maximum.accumulate(committed)
    seconds: NDArray[np.float64] = times - times[0]
    # After drivers that measured nothing, the pause ends with the start of the last one.
    last = {int(np.searchsorted(times, start)): start for start in sorted(starts)}
    for after, start in last.items():
        if 0 < after < len(times):  # between two measurements: a pause
            seconds[after:] -= start - times[after - 1]
    return seconds


def insight_json(insight: Insight) -> dict[str, Any]:
    """The ``insight`` of ``nas show --json``; null for undefined numbers."""
    timeline = insight.timeline
    return {
        "seconds": [round(second, 3) for second in timeline.seconds.tolist()],
        "found": {
            key: {"evaluations": int(timeline.evaluations[i]), "seconds": round(float(timeline.seconds[i]), 3)}
            for key, i in timeline.front_positions.items()
        },
        "foresight": {
            name: {"n": len(f.step)}
            | {key: _number(getattr(f, key)) for key in ("kendall_tau", "mape", "rmse", "bias", "coverage")}
            for name, f in insight.predictor_accuracy.items()
        },
        **_genes_json(insight.importance, insight.diversity),
    }


def genes_json(report: RunReport) -> dict[str, Any]:
    """The ``importance`` and the ``diversity`` of `insight_json`, of a report alone."""
    with one_thread():
        return _genes_json(importance_of(report, report.space), diversity_of(report, report.space))


def _genes_json(importance: Mapping[str, Importance], diversity: Diversity | None) -> dict[str, Any]:
    return {
        "importance": {
            name: {
                "n": i.n,
                "r2": _number(i.r2),
                "refused": i.refused,
                "by_gene": dict(i.by_gene),
                "relative": i.relative,
                "effects": {gene: {str(o): effect for o, effect in e.items()} for gene, e in i.effects.items()},
            }
            for name, i in importance.items()
        },
        "diversity": None if diversity is None else _diversity_json(diversity),
    }


def _diversity_json(diversity: Diversity) -> dict[str, Any]:
    return {
        "n_genes": diversity.n_genes,
        "distance": {"mean": diversity.mean, "least": diversity.min_distance, "most": diversity.max_distance},
        "distance_evaluated": diversity.evaluated,
        "shared": dict(diversity.shared),
        "options": {gene: {str(o): share for o, share in shares.items()} for gene, shares in diversity.options.items()},
        "active": dict(diversity.active),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
