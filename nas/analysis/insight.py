"""Insight into a run beyond its front: timeline, accuracy of predictions, importance of genes and diversity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas.analysis.diversity import Diversity, diversity_of
from nas.analysis.importance import Importance, importance_of
from nas.analysis.predictor_accuracy import PredictorAccuracy, predictor_accuracy_of
from nas.analysis.report import RunReport
from nas.analysis.run_measurements import RecordedSteps
from nas.analysis.timeline import Timeline, timeline_of
from nas.store.base import RunStore
from predictors.threads import one_thread
from supernets.space import SearchSpace


@dataclass(frozen=True)
class Insight:
    """The parts of a run's insight; what takes long is computed on first access."""

    report: RunReport
    timeline: Timeline
    predictor_accuracy: Mapping[str, PredictorAccuracy]

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.report.space

    @cached_property
    def importance(self) -> Mapping[str, Importance]:
        """Importance of genes, by objective name."""
        with one_thread():
            return importance_of(self.report, self.space)

    @cached_property
    def diversity(self) -> Diversity | None:
        """Diversity of the front; None for fewer than two members."""
        return diversity_of(self.report, self.space)


def insight_of(report: RunReport, store: RunStore, steps: RecordedSteps | None = None) -> Insight:
    """The insight into a search.

    Args:
        store: from which the report was made.
        steps: of this store, if they were read already.
    """
    steps = steps or RecordedSteps.of(store)
    return Insight(report, timeline_of(report, store.statuses()), predictor_accuracy_of(report, steps.fits, steps.asks))


def insight_json(insight: Insight) -> dict[str, Any]:
    """The ``insight`` of ``nas show --json``; null for undefined numbers."""
    timeline = insight.timeline
    return {
        "seconds": [round(second, 3) for second in timeline.seconds.tolist()],
        "found": {
            key: {"evaluations": int(timeline.evaluations[i]), "seconds": round(float(timeline.seconds[i]), 3)}
            for key, i in timeline.found.items()
        },
        "foresight": {
            name: {"n": len(f.step)}
            | {key: _number(getattr(f, key)) for key in ("kendall_tau", "mape", "rmse", "bias", "coverage")}
            for name, f in insight.predictor_accuracy.items()
        },
        "importance": {
            name: {
                "n": i.n,
                "r2": _number(i.r2),
                "refused": i.refused,
                "by_gene": dict(i.by_gene),
                "relative": i.relative,
                "effects": {gene: {str(o): effect for o, effect in e.items()} for gene, e in i.effects.items()},
            }
            for name, i in insight.importance.items()
        },
        "diversity": None if insight.diversity is None else _diversity_json(insight.diversity),
    }


def _diversity_json(diversity: Diversity) -> dict[str, Any]:
    return {
        "n_genes": diversity.n_genes,
        "distance": {"mean": diversity.mean, "least": diversity.least, "most": diversity.most},
        "distance_evaluated": diversity.evaluated,
        "shared": dict(diversity.shared),
        "options": {gene: {str(o): share for o, share in shares.items()} for gene, shares in diversity.options.items()},
        "active": dict(diversity.active),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
