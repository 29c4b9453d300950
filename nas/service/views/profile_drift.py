"""The drift of a hardware profile's machine from run to run: its sentinel's level and its noise floor."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import groupby

from nas.engine.store.base import MeasuringSession
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import NasError
from nas.service.api import schemas
from nas.service.stamped_cache import StampedCache

_MAX_RUNS = 1000
"""Cached runs; each takes some hundred bytes."""


class ProfileDrift:
    """The drift of all profiles over the runs of a folder; a run is read only when it has changed."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._of_runs = StampedCache(lambda folder, _: _of_run(folder), max_weight=_MAX_RUNS)

    def by_run(self, profile: str) -> tuple[schemas.Drift, ...]:
        """The drift of a profile by run, the oldest first; runs that cannot be read are left out."""
        profile_drifts = []
        for folder in self._runs.list():
            with suppress(NasError):  # the list of runs shows the error
                drifts = self._of_runs.get(folder)
                profile_drifts += [drifts[profile]] if profile in drifts else []
        return tuple(sorted(profile_drifts, key=lambda drift: drift.time))


def _of_run(folder: RunFolder) -> Mapping[str, schemas.Drift]:
    """Medians over the measuring sessions of a run, by profile."""
    with closing(open_store(folder)) as store:
        by_profile = groupby(store.sessions(), key=lambda session: session.profile)
        return {profile: _drift(folder.id, list(sessions)) for profile, sessions in by_profile}


def _drift(run: str, sessions: Sequence[MeasuringSession]) -> schemas.Drift:
    sessions = [
        session for session in sessions if session.runtime == sessions[0].runtime
    ]  # levels differ between runtimes
    noises = [session.noise for session in sessions if session.noise is not None]
    return schemas.Drift(
        run=run,
        time=datetime.fromtimestamp(min(session.time for session in sessions), UTC),
        level_ms=statistics.median(session.level_ms for session in sessions),
        noise=statistics.median(noises) if noises else None,
    )
