"""Evaluation of a batch of candidates: all metrics at once, or in stages that skip what is not worth the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas.engine.screening import MetricAt, Stages, known_evaluation, was_skipped
from nas.evaluation.base import Evaluator
from nas.problem.objectives import Evaluation, Fidelity, Measurement, Objective, Request
from nas.problem.variants import Variants
from nas.store.base import RunStore
from supernets.space import Architecture

SkipReasons = Callable[[Sequence[Evaluation]], list[str]]
"""Why the rest of each candidate's metrics is not worth its cost; "" where it may be."""
_Found = dict[Request, Measurement]


@dataclass(frozen=True, kw_only=True)
class BatchEvaluation:
    """Takes the metrics of the candidates of a batch.

    Attributes:
        evaluator: commits each measurement.
        on_complete: called with the number of candidates that have all of their metrics, until the last one has.
    """

    evaluator: Evaluator
    store: RunStore
    metrics: Sequence[Objective]
    variants: Variants
    on_complete: Callable[[int], None]

    def whole(self, batch: Sequence[Architecture]) -> list[Evaluation]:
        """The candidates with all of their metrics."""
        found: _Found = {}
        self._take(batch, batch, [(metric, Fidelity.SEARCH) for metric in self.metrics], found)
        return self._evaluations(batch, found)

    def in_stages(
        self, batch: Sequence[Architecture], stages: Stages, reasons_to_skip: SkipReasons
    ) -> list[Evaluation]:
        """The candidates with their metrics; what is not worth the rest after a stage is recorded as skipped."""
        found: _Found = {}
        left = list(batch)
        for stage, wanted in enumerate(stages.steps):
            self._take(batch, left, wanted, found)
            if left and (rest := stages.after(stage)):
                skipped = self._skipped(left, stage, rest, found, reasons_to_skip)
                left = [candidate for candidate in left if candidate not in skipped]
        return self._evaluations(batch, found)

    def _evaluations(self, candidates: Sequence[Architecture], found: _Found) -> list[Evaluation]:
        return [known_evaluation(candidate, self.metrics, found, self.variants) for candidate in candidates]

    def _take(
        self,
        batch: Sequence[Architecture],
        candidates: Sequence[Architecture],
        wanted: Sequence[MetricAt],
        found: _Found,
    ) -> None:
        """Adds measurements of some candidates of a batch to those found."""
        request = self.variants.request
        missing = {a: sum(request(a, metric) not in found for metric in self.metrics) for a in batch}
        requests = [request(a, metric, fidelity) for a in candidates for metric, fidelity in wanted]
        for measurement in self.evaluator.evaluate(requests):
            found[measurement.request] = measurement
            if measurement.request.fidelity is not Fidelity.SCREEN:
                missing[self.variants.candidate(measurement.request)] -= 1
            complete = sum(n == 0 for n in missing.values())
            if complete < len(batch):  # a complete batch is shown with the front and the hypervolume that it makes
                self.on_complete(complete)

    def _skipped(
        self, candidates: Sequence[Architecture], stage: int, rest: Sequence[Objective], found: _Found,
        reasons_to_skip: SkipReasons,
    ) -> set[Architecture]:  # fmt: skip
        """The candidates whose remaining metrics are skipped: as recorded, or as decided and recorded now."""
        requests = {a: [self.variants.request(a, metric) for metric in rest] for a in candidates}
        known = self.store.find([r for own in requests.values() for r in own])
        recorded = {a: [known[r] for r in own if r in known] for a, own in requests.items()}
        reasons = {a: recorded[a][0].message for a in candidates if was_skipped(recorded[a], stage)}
        undecided = [a for a in candidates if was_skipped(recorded[a], stage) is None]
        decided = zip(undecided, reasons_to_skip(self._evaluations(undecided, found)), strict=True)
        reasons |= {candidate: reason for candidate, reason in decided if reason}
        for candidate, reason in reasons.items():
            for request in requests[candidate]:
                found[request] = known.get(request) or Measurement.skipped(request, reason, stage=stage)
                self.store.add(found[request])
        return set(reasons)
