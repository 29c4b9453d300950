"""Evaluation of a batch of candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas.engine.evaluation.base import Evaluator
from nas.search.problem.objectives import Evaluation, Measurement, Objective, Request
from nas.search.problem.variants import Variants
from supernets.space import Architecture


@dataclass(frozen=True, kw_only=True)
class BatchEvaluation:
    """Takes all metrics of the candidates of a batch.

    Attributes:
        evaluator: commits each measurement.
        on_complete: called with the number of candidates that have all of their metrics, until the last one has.
    """

    evaluator: Evaluator
    metrics: Sequence[Objective]
    variants: Variants
    on_complete: Callable[[int], None]

    def __call__(self, batch: Sequence[Architecture]) -> list[Evaluation]:
        """The candidates with their metrics."""
        requests = {a: {metric.name: self.variants.request(a, metric) for metric in self.metrics} for a in batch}
        missing = {a: len(self.metrics) for a in batch}
        measurements: dict[Request, Measurement] = {}
        for measurement in self.evaluator.evaluate([r for by_metric in requests.values() for r in by_metric.values()]):
            measurements[measurement.request] = measurement
            missing[self.variants.candidate(measurement.request)] -= 1
            complete = sum(n == 0 for n in missing.values())
            if complete < len(batch):  # a complete batch is shown with the front and the hypervolume that it makes
                self.on_complete(complete)
        return [
            Evaluation(a, {name: measurements[r] for name, r in by_metric.items()}) for a, by_metric in requests.items()
        ]
