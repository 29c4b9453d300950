"""Hardware profiles, of the catalog and of users, and measurements of models on them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import known_profiles, load_profile
from hardware_profiles.errors import ProfileError
from nas.engine.store.folder import write_atomically
from nas.errors import JobError, RunStateError, UnknownNameError
from nas.jobs.schema.strict_yaml import parse_mapping
from nas.plugins import is_dotted
from nas.service.api import schemas
from nas.service.jobs.job_runner import JobRunner
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind
from nas.service.tasks import TaskRequests
from nas.service.uploads.onnx_models import keep_model
from nas.service.uploads.storage_checks import check_quota, checked_name
from nas.service.views.open_runs import OpenRuns
from nas.service.views.profiles import ProfileAvailability, ProfileDrift

_ADDED = "[!.]*.yaml"
"""Files of profiles; names that begin with a dot are being written."""


class Hardware:
    """The hardware profiles of a server.

    Args:
        runner: knows the nodes of the cluster, whose boards profiles may name.
        users: the runs that need them.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        tasks: TaskRequests,
        runner: JobRunner,
        users: OpenRuns,
    ) -> None:
        self._limits, self._tasks, self._users = settings.limits, tasks, users
        self._availability, self._drifts = ProfileAvailability(runner), ProfileDrift(settings.runs)
        self._folder = settings.uploads / "profiles"
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
        if (problem := self._availability.problem(self._loaded(name))) is not None:
            raise JobError(str(problem), code=problem.code)
        return entry

    def _loaded(self, name: str) -> HardwareProfile:
        return self._shipped.get(name) or load_profile(str(self._added_file(name)))

    def list(self) -> tuple[schemas.Profile, ...]:
        """The catalog's profiles, then those that were added; damaged files are left out."""
        added = []
        for path in sorted(self._folder.glob(_ADDED)):
            try:
                added.append(self._described(load_profile(str(path))))
            except ProfileError:
                continue  # `get` raises the error
        return (*map(self._described, self._shipped.values()), *added)

    def get(self, name: str) -> schemas.Profile:
        """One profile, with the noise and the drift of its measurements."""
        return self._described(self._loaded(name), drift=self._drifts.by_run(name))

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
            target = self._folder / f"{profile.name}.yaml"
            try:
                target.hardlink_to(temporary)  # unlike a rename, this never replaces a file
            except FileExistsError:
                text = f"there is a profile {profile.name!r} already, with measurements in runs; choose another name"
                raise RunStateError(text, code="name.taken") from None
        finally:
            temporary.unlink()
        return self._described(profile)

    def delete(self, name: str) -> None:
        """Removes a profile that was added; its measurements stay in their runs.

        Raises:
            RunStateError: it is one of the catalog, or a run or a measurement that waits or runs uses it.
        """
        if name in self._shipped:
            raise RunStateError(f"the profile {name!r} belongs to the catalog, and stays", code="profile.shipped")
        path = self._added_file(name)
        measuring = [task.task for task in self._tasks.list(TaskKind.MEASUREMENT, name) if task.open]
        self._users.check_unused(path.absolute(), f"the profile {name!r}", tasks=measuring)
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

    def _added_file(self, name: str) -> Path:
        added = [path.stem for path in self._folder.glob(_ADDED)]
        if name not in added:
            raise UnknownNameError("hardware profile", name, [*self._shipped, *added])
        return self._folder / f"{name}.yaml"

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
        problem = None if profile.remote else self._availability.problem(profile)  # a board may join the cluster later
        if problem is not None:
            raise JobError(str(problem), code=problem.code, fields=[("profile", str(problem))])
        return profile

    def _described(self, profile: HardwareProfile, *, drift: Sequence[schemas.Drift] = ()) -> schemas.Profile:
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
            unavailable=str(self._availability.problem(profile) or ""),
            drift=tuple(drift),
        )

    def _measurement(self, task: Task) -> schemas.ModelMeasurement:
        result = None if task.result is None else dict(task.result)
        fields = self._tasks.status_fields(task)
        return schemas.ModelMeasurement(measurement=task.task, profile=task.of, result=result, **fields)
