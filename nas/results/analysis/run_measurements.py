"""The measurements, test scores and predictions of a run, read from its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas.engine.store.base import Fit, Outcome, RunStore
from nas.engine.store.run_facts import SearchFacts
from nas.results.analysis.network_values import Points
from nas.search.problem.objectives import Fidelity, Objective, Status, Variant
from nas.search.problem.variants import Variants
from supernets.space import Architecture, SearchSpace


@dataclass(frozen=True, slots=True)
class RecordedSteps:
    """The asks of a search and the fits of its models, by step."""

    asks: Sequence[Sequence[Architecture]]
    fits: Sequence[Fit]

    @classmethod
    def read(cls, store: RunStore) -> RecordedSteps:
        return cls(store.asks(), store.fits())


class MeasuredRun:
    """The measurements of a run by architecture.

    Attributes:
        metrics: the objectives, and what only constraints are on.
        evaluated: architectures with a measurement of every metric, failed and skipped ones included, in the order evaluated:
            the smallest and the largest, then the asked ones, then any others in the order committed.
        complete: those of `evaluated` with a value of every metric, in the same order.
        again: those with measurements by the longer protocol.
    """

    def __init__(
        self,
        store: RunStore,
        search: SearchFacts,
        finalists: Sequence[Architecture],
        asks: Sequence[Sequence[Architecture]],
    ) -> None:
        self.metrics, self._scored = tuple(search.metrics), search.scored.name
        self._n_metrics = len(self.metrics)
        self.again: set[Architecture] = set()
        self._rows = self._read(store, search.variants)
        self._finalists = finalists
        anchors = [search.space.smallest, search.space.largest]
        proposed = [architecture for step in asks for architecture in step]
        self.evaluated: dict[Architecture, None] = {}
        self.complete: dict[Architecture, None] = {}
        for architecture in dict.fromkeys([*anchors, *proposed, *self._rows]):
            outcomes = [
                outcome for outcome in self._rows.get(architecture, ())[: self._n_metrics] if outcome is not None
            ]
            if len(outcomes) == self._n_metrics:
                self.evaluated[architecture] = None
                if all(outcome.value is not None for outcome in outcomes):
                    self.complete[architecture] = None

    def _read(self, store: RunStore, variants: Variants) -> dict[Architecture, list[Outcome | None]]:
        """Rows of outcomes by candidate: each metric by the search, each by the longer protocol, and the test score."""
        searched, final = ([(o.metric, o.profile, f) for o in self.metrics] for f in (Fidelity.SEARCH, Fidelity.FINAL))
        places = {slot: place for place, slot in enumerate([*searched, *final, (self._scored, None, Fidelity.TEST)])}
        n_places, again = len(places), Fidelity.FINAL
        candidates: dict[tuple[Architecture, Variant], Architecture] = {}
        rows: dict[Architecture, list[Outcome | None]] = {}
        for outcome in store.outcomes():
            architecture, metric, profile, fidelity, precision, runtime, *_ = outcome
            variant = Variant(precision, runtime)
            if variant not in variants:
                continue
            candidate = candidates.get((architecture, variant))
            if candidate is None:
                candidate = candidates[architecture, variant] = variants.candidate(outcome.request)
                rows[candidate] = [None] * n_places
            place = places.get((metric, profile, fidelity))
            if place is not None:
                rows[candidate][place] = outcome
            if fidelity is again:
                self.again.add(candidate)
        return rows

    def noisy(self) -> frozenset[str]:
        """Keys of the complete architectures that the search measured with more noise than the protocol wants."""
        n = self._n_metrics
        return frozenset(
            architecture.key
            for architecture in self.complete
            if any(o is not None and o.status is Status.NOISY for o in self._rows[architecture][:n])
        )

    def failures(self) -> dict[str, str]:
        """Reasons by key of each evaluated architecture with a failed measurement."""
        return self._reasons(Status.FAILED)

    def screened_out(self) -> dict[str, str]:
        """Reasons by key of each evaluated architecture that was skipped before all of its measurements."""
        failed = self.failures()
        return {key: why for key, why in self._reasons(Status.SKIPPED).items() if key not in failed}

    def _reasons(self, status: Status) -> dict[str, str]:
        lacking = [a for a in self.evaluated if a not in self.complete]
        messages_by_key = {
            a.key: [o.message for o in self.outcomes(a) if o.value is None and o.status is status] for a in lacking
        }
        return {key: messages[0] for key, messages in messages_by_key.items() if messages}

    def candidates(self) -> list[Architecture]:
        """The architectures from which the front is chosen: the usable finalists, or all usable ones before there are any."""
        return [a for a in self._finalists if a in self.usable] or list(self.usable)

    @cached_property
    def usable(self) -> dict[Architecture, None]:
        """The complete architectures without those that failed when they were measured again (unless all did)."""
        return {a: None for a in self.complete if not self._failed_again(a)} or self.complete

    def _failed_again(self, architecture: Architecture) -> bool:
        """Returns True if a measurement of the architecture by the longer protocol failed."""
        if architecture not in self.again:
            return False
        finals = self._rows[architecture][self._n_metrics : 2 * self._n_metrics]
        return any(outcome is not None and outcome.value is None for outcome in finals)

    def outcomes(self, architecture: Architecture, *, final: bool = False) -> list[Outcome]:
        """Outcomes of all metrics of an evaluated architecture, failed ones included; final ones where they have a value."""
        row, n = self._rows[architecture], self._n_metrics
        pairs = zip(row[:n], row[n : 2 * n] if final else [None] * n, strict=True)
        latest = [search if again is None or again.value is None else again for search, again in pairs]
        return [outcome for outcome in latest if outcome is not None]

    def points(self, space: SearchSpace, architectures: Sequence[Architecture], *, final: bool) -> Points:
        """Complete architectures of the run's space with their values, final ones where there are any, in this order."""
        shape = len(architectures), self._n_metrics
        rows = [self.outcomes(a, final=final and a in self.again) for a in architectures]
        outcomes = [outcome for row in rows for outcome in row]
        again = [final and outcome.fidelity is Fidelity.FINAL for outcome in outcomes]
        tests = {place: self.test_score(a) for place, a in enumerate(architectures)}
        return Points(
            space,
            [architecture.key for architecture in architectures],
            [metric.name for metric in self.metrics],
            np.array([outcome.value for outcome in outcomes], dtype=np.float64).reshape(shape),
            np.array([outcome.error or 0.0 for outcome in outcomes], dtype=np.float64).reshape(shape),
            np.array([outcome.committed for outcome in outcomes], dtype=np.float64).reshape(shape).max(axis=1),
            np.asarray(np.array(again, dtype=bool).reshape(shape).any(axis=1)),
            {place: test for place, test in tests.items() if test is not None},
        )

    def exact(self, architecture: Architecture, objective: Objective) -> float | None:
        """A computed metric of an architecture that need not be complete; None where it is not stored."""
        row = self._rows.get(architecture)
        outcome = None if row is None else row[self.metrics.index(objective)]
        return None if outcome is None else outcome.value

    def test_score(self, architecture: Architecture) -> dict[str, float] | None:
        """The task's metric on the test part with its standard error; None where it was not scored, or that failed."""
        outcome = self._rows[architecture][-1]
        if outcome is None or outcome.value is None:
            return None
        return {self._scored: outcome.value, "error": outcome.error or 0.0}


def predictor_history(fits: Sequence[Fit], objective: Objective) -> dict[int, Mapping[str, Any]]:
    """Quality of every recorded fit of an objective's predictor, by step in ascending order."""
    objective_fits = [fit for fit in fits if fit.objective == objective.name]
    return {fit.step: fit.quality["quality"] for fit in sorted(objective_fits, key=lambda fit: fit.step)}


def predicted_values(fits: Sequence[Fit]) -> dict[Architecture, dict[str, tuple[float, float]]]:
    """Means and standard deviations by architecture and objective name, predicted by the models of the last step."""
    last = max((fit.step for fit in fits), default=0)
    predictions: dict[Architecture, dict[str, tuple[float, float]]] = {}
    for fit in (fit for fit in fits if fit.step == last):
        for key, (mean, std) in fit.quality["predictions"].items():
            if mean is not None and std is not None:  # the store has None for a value that is not finite
                predictions.setdefault(Architecture.parse(key), {})[fit.objective] = (float(mean), float(std))
    return predictions
