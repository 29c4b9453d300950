"""The drift of a hardware profile's machine from run to run: its sentinel's level and its noise floor."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime

from nas.api import schemas
from nas.errors import NasError
from nas.problem.objectives import Measurement
from nas.service.stamped_cache import StampedCache
from nas.store.folder import RunFolder, RunsFolder
from nas.store.opening import open_store

_KEPT = 1000
"""Cached runs; each takes some hundred bytes."""


class ProfileDrift:
    """The drift of all profiles over the runs of a folder; a run is read only when it has changed."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._of_runs = StampedCache(lambda folder, _: _of_run(folder), most=_KEPT)

    def of(self, profile: str) -> tuple[schemas.Drift, ...]:
        """By run, the oldest first; runs that cannot be read are left out."""
        found = []
        for folder in self._runs.list():
            with suppress(NasError):  # the list of runs shows the error
                drifts = self._of_runs.get(folder)
                found += [drifts[profile]] if profile in drifts else []
        return tuple(sorted(found, key=lambda drift: drift.time))


def _of_run(folder: RunFolder) -> Mapping[str, schemas.Drift]:
    """By profile: medians over the measuring sessions of a run."""
    sessions: dict[str, dict[tuple[float, float | None], float]] = {}
    with closing(open_store(folder)) as store:
        for measurement in store.measurements():
            level = measurement.environment.get("level_ms")
            if measurement.request.profile is not None and level is not None:
                # All rows of a session have the same values.
                key = (float(level), _noise(measurement))
                sessions.setdefault(measurement.request.profile, {}).setdefault(key, measurement.committed)
    return {profile: _drift(folder.id, found) for profile, found in sessions.items()}


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
