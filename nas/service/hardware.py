"""Hardware profiles, of the catalog and of users: whether they can be served, their drift, and measurements on them."""

from __future__ import annotations

import os
import secrets
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import environment_for, known_profiles, load_profile
from hardware_profiles.errors import ProfileError
from hardware_profiles.requirements import check_requirements, offering_node
from nas.engine.store.base import MeasuringSession
from nas.engine.store.folder import RunFolder, write_atomically
from nas.engine.store.opening import open_store
from nas.errors import JobError, NasError, RunStateError, ServiceError, UnknownNameError
from nas.jobs.schema.strict_yaml import parse_mapping
from nas.plugins import is_dotted
from nas.service.api import schemas
from nas.service.jobs.job_runner import JobRunner
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.settings import ServiceSettings
from nas.service.stamped_cache import StampedCache, fresh
from nas.service.state import Task, TaskKind
from nas.service.tasks import TaskRequests
from nas.service.uploads.onnx_models import keep_model
from nas.service.uploads.storage_checks import check_quota, checked_name
from nas.service.views.open_runs import OpenRuns

_NODES_S = 10.0
"""Before the cluster is asked again for its nodes."""
_MAX_RUNS = 1000
"""Runs whose drifts are cached; each takes some hundred bytes."""
_ADDED = "[!.]*.yaml"
"""Files of profiles; names that begin with a dot are being written."""


class Hardware:
    """The hardware profiles of a server.

    Args:
        runner: knows the nodes of the cluster, whose boards profiles may name.
        users: the runs that need them.
        owners: records whom they belong to, and decides who sees them.
    """

    def __init__(
        self, settings: ServiceSettings, tasks: TaskRequests, runner: JobRunner, users: OpenRuns, owners: Ownership
    ) -> None:
        self._limits, self._tasks, self._users, self._owners = settings.limits, tasks, users, owners
        self._runs, self._runner = settings.runs, runner
        self._asked: tuple[float, Sequence[Mapping[str, float]] | None] | None = None  # when, and the cluster's nodes
        self._drifts = StampedCache(lambda folder, _: _drifts_of_run(folder), max_weight=_MAX_RUNS)
        self._folder, self._file_of = settings.added_profiles, settings.added_profile
        self._models = settings.uploaded_models
        self._shipped = {profile.name: profile for profile in known_profiles()}

    def entry(self, name: str) -> str:
        """A profile's entry of a job file's `hardware`: its name in the catalog, or the path of its file."""
        return name if name in self._shipped else str(self._added_file(name))

    def chosen(self, name: str) -> str:
        """The entry of a profile for measurements that begin now, see `entry`.

        Raises:
            JobError: The profile cannot be served now.
        """
        entry = self.entry(name)
        if (problem := self._problem(self._loaded(name))) is not None:
            raise JobError(str(problem), code=problem.code)
        return entry

    def _loaded(self, name: str) -> HardwareProfile:
        return self._shipped.get(name) or load_profile(str(self._added_file(name)))

    def list(self) -> tuple[schemas.Profile, ...]:
        """The catalog's profiles, then those that were added and the sender of the request sees; damaged files are left out."""
        added = []
        for path in sorted(map(self._file_of, self._visible_names())):
            try:
                added.append(self._described(load_profile(str(path))))
            except ProfileError:
                continue  # `get` raises the error
        return (*map(self._described, self._shipped.values()), *added)

    def get(self, name: str) -> schemas.Profile:
        """One profile, with the noise and the drift of its measurements."""
        return self._described(self._loaded(name), drift=self._drift(name))

    def add(self, upload: schemas.ProfileUpload) -> schemas.Profile:
        """A user's profile, added under its name.

        Raises:
            JobError: it is no profile, one that uses the server's ssh or a class as its runtime, or one that this machine
                can never serve.
            RunStateError: its name is taken, or the server has too many.
        """
        # The catalog's own parser is for files of this machine, and has no limits.
        written = parse_mapping(upload.profile, source="profile", noun="hardware profile")
        name, runtime = written.get("name"), written.get("runtime")
        if isinstance(runtime, str) and is_dotted(runtime):  # reading the profile imports its runtime's module
            text = f"the runtime {runtime} is a class: the server's administrator can add the profile"
            raise JobError(text, code="profile.not-allowed", fields=[("profile", text)])
        if isinstance(name, str) and name in self._shipped:
            raise RunStateError(f"the catalog has a profile {name!r}; choose another name", code="name.taken")
        added = len(list(self._folder.glob(_ADDED)))
        check_quota("hardware profiles", added, self._limits.profiles, "DELETE /api/v1/profiles/NAME")
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{secrets.token_hex(8)}.yaml"
        write_atomically(temporary, upload.profile.encode(errors="replace"))
        try:
            profile = self._checked(temporary)
            target = self._file_of(profile.name)
            try:
                with self._owners.taking(Thing(ThingKind.PROFILE, profile.name)):
                    target.hardlink_to(temporary)  # unlike a rename, this never replaces a file
            except FileExistsError:
                text = f"there is a profile {profile.name!r} already; choose another name"
                raise RunStateError(text, code="name.taken") from None
        finally:
            temporary.unlink()
        return self._described(profile)

    def delete(self, name: str) -> None:
        """Removes a profile that was added, with its measurements of models; those of runs stay in their runs.

        Raises:
            RunStateError: it is one of the catalog, or a run or a measurement that waits or runs uses it.
        """
        if name in self._shipped:
            raise RunStateError(f"the profile {name!r} belongs to the catalog, and stays", code="profile.shipped")
        with self._owners.releasing(Thing(ThingKind.PROFILE, name)):
            path = self._added_file(name)
            measurements = self._tasks.list(TaskKind.MEASUREMENT, name)
            measuring = [task.task for task in measurements if task.open]
            self._users.check_unused(path.absolute(), f"the profile {name!r}", tasks=measuring)
            for task in measurements:  # the next profile of this name may belong to another person
                self._tasks.delete(task.task, TaskKind.MEASUREMENT, name)
            path.unlink(missing_ok=True)

    def measure(self, name: str, model: BinaryIO) -> schemas.ModelMeasurement:
        """A new measurement of an ONNX model's latency, which a task makes.

        Raises:
            JobError: it is no ONNX model, or the profile cannot be served now.
            TooLargeError: it exceeds the limit of uploads.
        """
        entry = self.chosen(name)
        task = self._tasks.new_id(TaskKind.MEASUREMENT)
        folder = self._models / task
        path = keep_model(model, folder, self._limits)
        argv = ["profile", str(path), "--profile", entry, "--json"]
        with self._owners.naming:
            self.entry(name)  # raises if the profile was deleted while the model was stored
            return self._measurement(self._tasks.add(task, TaskKind.MEASUREMENT, name, folder, argv, uses=[path]))

    def measurement(self, name: str, measurement: str) -> schemas.ModelMeasurement:
        """One measurement."""
        self.entry(name)
        return self._measurement(self._tasks.get(measurement, TaskKind.MEASUREMENT, name))

    def delete_measurement(self, name: str, measurement: str) -> None:
        """Removes a measurement that has ended.

        Raises:
            RunStateError: it waits or runs.
        """
        self.entry(name)
        self._tasks.delete(measurement, TaskKind.MEASUREMENT, name)

    def _visible_names(self) -> Sequence[str]:
        names = [path.stem for path in self._folder.glob(_ADDED)]
        return [name for name in names if self._owners.sees(Thing(ThingKind.PROFILE, name))]

    def _added_file(self, name: str) -> Path:
        added = self._visible_names()
        if name not in added:
            raise UnknownNameError("hardware profile", name, [*self._shipped, *added])
        return self._file_of(name)

    def _checked(self, path: Path) -> HardwareProfile:
        try:
            profile = load_profile(str(path))
        except ProfileError as error:
            text = str(error).replace(str(path), "profile")
            raise JobError(text, code="profile.invalid", fields=[("profile", text)]) from None
        checked_name("profile", profile.name)
        if profile.ssh:
            text = f"a profile with ssh uses the server's keys: its administrator can add it to uploads/{self._folder.name}/"
            raise JobError(text, code="profile.not-allowed", fields=[("profile", text)])
        if profile.browser:
            text = "a browser is measured by a search in a terminal (nas search), and not on a server"
            raise JobError(text, code="profile.not-allowed", fields=[("profile", text)])
        problem = None if profile.remote else self._problem(profile)  # a board may join the cluster later
        if problem is not None:
            raise JobError(str(problem), code=problem.code, fields=[("profile", str(problem))])
        return profile

    def _described(self, profile: HardwareProfile, *, drift: tuple[schemas.Drift, ...] = ()) -> schemas.Profile:
        return schemas.Profile(
            name=profile.name,
            threads=profile.threads,
            batch_size=profile.batch_size,
            provider=profile.provider,
            runtime=profile.runtime,
            placement=dict(profile.placement),
            ssh=profile.ssh,
            description=profile.description,
            shipped=profile.name in self._shipped,
            owner=self._owners.owner(Thing(ThingKind.PROFILE, profile.name)) or "",
            unavailable=str(self._problem(profile) or ""),
            drift=drift,
        )

    def _measurement(self, task: Task) -> schemas.ModelMeasurement:
        result = None if task.result is None else dict(task.result)
        fields = self._tasks.status_fields(task)
        return schemas.ModelMeasurement(measurement=task.task, profile=task.of, result=result, **fields)

    def _problem(self, profile: HardwareProfile) -> ProfileError | None:
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

    def _drift(self, name: str) -> tuple[schemas.Drift, ...]:
        """The drift of a profile's machine by run, the oldest first; runs that cannot be read are left out."""
        profile_drifts = []
        for folder in self._runs.list():
            with suppress(NasError):  # the list of runs shows the error
                drifts = self._drifts.get(folder)
                profile_drifts += [drifts[name]] if name in drifts else []
        return tuple(sorted(profile_drifts, key=lambda drift: drift.time))


@cache
def this_machine() -> Mapping[str, Any]:
    """The description of this machine that its measuring process would send, as when it was first needed."""
    # With ONNX Runtime, which takes long to load.
    from hardware_profiles.measuring.worker.environment import environment_of

    return environment_of(sorted(os.sched_getaffinity(0))[:1], "CPUExecutionProvider")


def _drifts_of_run(folder: RunFolder) -> Mapping[str, schemas.Drift]:
    """Medians over the measuring sessions of a run, by profile."""
    with closing(open_store(folder)) as store:
        by_profile = groupby(store.sessions(), key=lambda session: session.profile)
        return {profile: _drift_of(folder.id, list(sessions)) for profile, sessions in by_profile}


def _drift_of(run: str, sessions: Sequence[MeasuringSession]) -> schemas.Drift:
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
