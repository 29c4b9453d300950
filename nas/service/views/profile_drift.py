"""How quiet a hardware profile's machine was, run by run: its sentinel's level and its noise floor."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from datetime import UTC, datetime

from nas.api import schemas
from nas.engine.run import Run
from nas.errors import NasError
from nas.problem.objectives import Measurement
from nas.service.views.reports import Stamped
from nas.store.folder import RunsFolder

_KEPT = 1000
"""Runs of which it is kept; a run takes some hundred bytes."""


class Drifts:
    """The drift of all profiles over the runs of a folder, read of each run only where it has changed."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._told: Stamped[Mapping[str, schemas.Drift]] = Stamped(runs, lambda run, _: _of_run(run), most=_KEPT)

    def of(self, profile: str) -> tuple[schemas.Drift, ...]:
        """By run, the oldest first; runs that cannot be read are passed over."""
        found = []
        for folder in self._runs.list():
            try:
                told = self._told.get(folder.id).get(profile)
            except NasError:
                continue  # the list of runs says what is wrong with it
            if told is not None:
                found.append(told)
        return tuple(sorted(found, key=lambda drift: drift.time))


def _of_run(run: Run) -> dict[str, schemas.Drift]:
    """By profile: medians over the measuring sessions of a run."""
    sessions: dict[str, dict[tuple[float, float | None], float]] = {}
    with run.store() as store:
        for measurement in store.measurements():
            level = measurement.environment.get("level_ms")
            if measurement.request.profile is not None and level is not None:
                # A session's rows all say the same of it.
                key = (float(level), _noise(measurement))
                sessions.setdefault(measurement.request.profile, {}).setdefault(key, measurement.committed)
    return {profile: _drift(run.id, found) for profile, found in sessions.items()}


def _noise(measurement: Measurement) -> float | None:
    noise = measurement.environment.get("noise")
    return None if noise is None else float(noise)


def _drift(run: str, sessions: Mapping[tuple[float, float | None], float]) -> schemas.Drift:
    noises = [noise for _, noise in sessions if noise is not None]
    return schemas.Drift(
        run=run,
        time=datetime.fromtimestamp(min(sessions.values()), UTC),
        level_ms=statistics.median(level for level, _ in sessions),
        noise=statistics.median(noises) if noises else None,
    )
