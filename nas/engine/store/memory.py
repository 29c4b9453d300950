"""A run's store in memory, for measurements of no run; it ends with the process, and no other driver can hold it."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from operator import attrgetter
from typing import Any

from nas.engine.store.base import Event, Fit, MeasuringSession, Outcome, RunStatus, RunStore
from nas.engine.store.json_values import plain
from nas.engine.store.measurement_rows import check_step, latest, storable
from nas.search.problem.evaluation_counts import EvaluationCounts, Result, worst
from nas.search.problem.objectives import Fidelity, Measurement, Request, Status
from supernets.space import Architecture


class MemoryStore(RunStore):
    """All rows of one run in dicts and lists; what is read is a copy of the caller's own.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._name, self._clock = "the store in memory", clock
        self._statuses: list[tuple[RunStatus, str, float]] = []
        self._info: dict[str, Any] = {}
        self._asks: list[list[Architecture]] = []
        self._told: list[list[Architecture] | None] = []
        self._measurements: dict[tuple[Request, int], Measurement] = {}
        self._attempts: dict[Request, list[Measurement]] = {}
        self._fits: dict[tuple[int, str], Fit] = {}
        self._events: list[Event] = []

    def status(self) -> RunStatus:
        return self._statuses[-1][0] if self._statuses else RunStatus.QUEUED

    def set_status(self, status: RunStatus, *, reason: str = "") -> None:
        self._statuses.append((status, reason, self._clock()))

    def statuses(self) -> list[tuple[RunStatus, float]]:
        return [(status, time) for status, _, time in self._statuses]

    def reason(self) -> str:
        return self._statuses[-1][1] if self._statuses else ""

    def _values(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, Any]:
        names = only or self._info.keys() - set(without)
        return deepcopy({name: self._info[name] for name in names if name in self._info})

    def _set_values(self, values: Mapping[str, Any]) -> None:
        self._info |= values

    def record_ask(
        self, step: int, architectures: Sequence[Architecture], told: Sequence[Architecture] | None = None
    ) -> None:
        check_step(step, len(self._asks))
        self._asks.append(list(architectures))
        self._told.append(None if told is None else list(told))

    def asks(self) -> list[list[Architecture]]:
        return [list(architectures) for architectures in self._asks]

    def told(self) -> list[list[Architecture] | None]:
        return [None if architectures is None else list(architectures) for architectures in self._told]

    def add(self, *measurements: Measurement) -> None:
        for stored in [storable(measurement) for measurement in measurements]:
            if (stored.request, stored.attempt) in self._measurements:
                continue
            stored = replace(stored, committed=self._clock())
            self._measurements[stored.request, stored.attempt] = stored
            insort(self._attempts.setdefault(stored.request, []), stored, key=attrgetter("attempt"))

    def attempts(self, requests: Sequence[Request]) -> dict[Request, list[Measurement]]:
        return {r: list(map(_without_samples, self._attempts[r])) for r in requests if r in self._attempts}

    def measurements(self, fidelity: Fidelity | None = None) -> list[Measurement]:
        measurements = latest(self._measurements.values(), attrgetter("request"))
        return [_without_samples(m) for m in measurements if fidelity is None or m.request.fidelity is fidelity]

    def outcomes(self) -> list[Outcome]:
        return [_outcome(measurement) for measurement in latest(self._measurements.values(), attrgetter("request"))]

    def sessions(self) -> list[MeasuringSession]:
        first: dict[tuple[str, float, float | None, str], float] = {}
        for m in self._measurements.values():
            level = m.environment.get("level_ms")
            if m.request.profile is not None and level is not None:
                key = (m.request.profile, level, m.environment.get("noise"), m.request.runtime)
                first[key] = min(m.committed, first.get(key, m.committed))
        sessions = [MeasuringSession(*key[:3], begun, key[3]) for key, begun in first.items()]
        return sorted(sessions, key=lambda session: (session.profile, session.time))

    def n_measurements(self) -> int:
        return len(self._measurements)

    def counts(self, n_metrics: int) -> EvaluationCounts:
        networks: dict[tuple[Architecture, str], list[Result]] = {}
        for r, attempts in self._attempts.items():
            if r.fidelity is Fidelity.SEARCH:
                m = attempts[-1]
                networks.setdefault((r.architecture, str(r.variant)), []).append(Result.of(m.status, m.detail))
        return EvaluationCounts.of(worst(results) for results in networks.values() if len(results) >= n_metrics)

    def failures(self) -> list[Measurement]:
        return [m for m in self.measurements() if m.status is Status.FAILED]

    def samples(self, request: Request) -> bytes | None:
        return next((m.samples for m in reversed(self._attempts.get(request, [])) if m.samples is not None), None)

    def record_fit(self, fit: Fit) -> None:
        self._fits.pop((fit.step, fit.objective), None)
        self._fits[fit.step, fit.objective] = replace(fit, quality=plain(fit.quality, where="quality"))

    def fits(self) -> list[Fit]:
        return deepcopy(list(self._fits.values()))

    def record_event(self, kind: str, detail: Mapping[str, Any]) -> None:
        self._events.append(Event(kind, plain(detail, where="detail"), self._clock()))

    def events(self) -> list[Event]:
        return deepcopy(self._events)

    def close(self) -> None:
        """Keeps everything, which ends with the process."""


def _outcome(m: Measurement) -> Outcome:
    r = m.request
    request = (r.architecture, r.metric, r.profile, r.fidelity, r.precision, r.runtime)
    return Outcome(*request, m.attempt, m.status, m.value, m.error, m.seconds, m.message, m.committed)


def _without_samples(measurement: Measurement) -> Measurement:
    environment, detail = deepcopy((measurement.environment, measurement.detail))
    return replace(measurement, samples=None, environment=environment, detail=detail)
