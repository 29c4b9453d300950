"""Hardware profiles over time: whether they can be served now, and the drift of their measurements from run to run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from typing import Any

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import environment_for
from hardware_profiles.errors import ProfileError
from hardware_profiles.measuring.worker import environment_of
from hardware_profiles.requirements import check_requirements, offering_node
from nas.engine.store.base import MeasuringSession
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.errors import NasError, ServiceError
from nas.service.api import schemas
from nas.service.jobs.job_runner import JobRunner
from nas.service.stamped_cache import StampedCache, fresh

_NODES_S = 10.0
"""Before the cluster is asked again for its nodes."""


class ProfileAvailability:
    """Answers whether profiles can be served now. Safe to use from several threads.

    Args:
        runner: knows the nodes of the cluster.
    """

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner
        self._asked: tuple[float, Sequence[Mapping[str, float]] | None] | None = None

    def problem(self, profile: HardwareProfile) -> ProfileError | None:
        """Why nothing can be measured on a profile now; None where that is possible, or is not known here.

        An ssh host checks its own machine, and so does a node when its worker starts.
        """
        if profile.ssh:
            return None
        try:
            if not profile.placement:
                check_requirements(profile, environment_for(profile, this_machine()))
            elif (nodes := self._nodes()) is not None:
                offering_node(profile, nodes)
        except ProfileError as error:
            return error
        return None

    def _nodes(self) -> Sequence[Mapping[str, float]] | None:
        """The resources of the cluster's nodes; None while it does not answer."""
        now = time.monotonic()
        if self._asked is None or not fresh(self._asked[0], now, _NODES_S):
            try:
                self._asked = now, self._runner.nodes()
            except ServiceError:
                self._asked = now, None
        return self._asked[1]


@cache
def this_machine() -> Mapping[str, Any]:
    """The description of this machine that its measuring process would send, as when it was first needed."""
    return environment_of(sorted(os.sched_getaffinity(0))[:1], "CPUExecutionProvider")


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
