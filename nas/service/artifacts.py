"""Artifacts of runs, which tasks make: tables and exports of cascades, plots, and lookup tables of latencies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

from nas.errors import JobError, NasError, RunStateError, UnknownNameError
from nas.results.analysis.cascade import cascade_pairs
from nas.results.analysis.network_selection import parse_limits
from nas.service.api import schemas
from nas.service.hardware import Hardware
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind, TaskStatus
from nas.service.tasks import TaskRequests, folder_of
from nas.service.uploads.storage_checks import check_disk_space, check_quota
from nas.service.views.open_runs import OpenRuns
from nas.service.views.results import Results

KINDS = (TaskKind.CASCADE, TaskKind.PLOTS, TaskKind.CALIBRATION)
TABLES = "calibrations"
"""The folder of lookup tables in job files: ``lookup_tables: [calibrations/ID]``."""
_TABLE_SUFFIX = ".lookup.json"


class Artifacts:
    """The artifacts of runs; each has a folder of its own below its run's.

    Args:
        users: the runs that need their lookup tables, and what the jobs of runs need.
    """

    def __init__(
        self, settings: ServiceSettings, results: Results, hardware: Hardware, tasks: TaskRequests, users: OpenRuns
    ) -> None:
        self._runs, self._max_artifacts = settings.runs, settings.limits.exports_of_a_run
        self._results, self._hardware, self._tasks, self._users = results, hardware, tasks, users

    def request(self, run: str, request: schemas.ArtifactRequest) -> schemas.Artifact:
        """A new artifact, which a task makes; what can be checked without its data is checked now.

        Raises:
            SelectionError: the run has no cascades, or the limits are no limits.
            RunStateError: the run is not finished (for cascades), has no results, or has too many artifacts.
            JobError: nothing can be measured on the profile now, there is no such table, or the job of the run names something
                that is hidden from its owner by now.
            StoreError: the disk is nearly full.
        """
        run_folder = self._runs.get(run)
        if TaskKind(request.kind) is not TaskKind.PLOTS:  # those are of what the run has stored
            self._users.check_seen(run)
        kind = TaskKind(request.kind)
        folder = run_folder.path / "artifacts" / self._tasks.new_id(kind)
        argv = self._command(run, request, folder.absolute())
        check_disk_space(self._runs.root)
        check_quota(
            f"artifacts of run {run}",
            len(self._stored(run)),
            self._max_artifacts,
            f"DELETE /api/v1/runs/{run}/artifacts/ARTIFACT",
        )
        folder.mkdir(parents=True)
        argv = [*argv, "--runs", str(self._runs.root.absolute()), "--json"]
        return self._artifact(
            self._tasks.add(folder.name, kind, run, folder.absolute(), argv, request.model_dump(mode="json"))
        )

    def _command(self, run: str, request: schemas.ArtifactRequest, folder: Path) -> list[str]:
        """The command of an artifact's task."""
        match request:
            case schemas.CascadeRequest():
                cascade_pairs(self._results.report(run, request.profile))
                return ["cascade", run, *self._cascade_options(request, folder)]
            case schemas.PlotsRequest():
                report = None if request.experts else self._results.report(run)
                if report is not None and request.select is not None:
                    parse_limits(report, request.select)
                if report is not None and not report.evaluated:
                    raise RunStateError(f"run {run!r} has measured nothing yet; plot it later", code="run.not-begun")
                options = ["--experts"] if request.experts else []
                options += [] if request.select is None else [f"--select={request.select}"]
                return ["plot", run, "-o", str(folder), *options]
            case schemas.CalibrationRequest():
                name = f"{request.profile}{_TABLE_SUFFIX}"
                tables = [f"--from={self.table(Path(table))}" for table in request.tables]
                sizes = [f"--samples={request.samples}"] if tables else [f"--subnets={request.subnets}"]
                job = str(self._runs.get(run).job_file.absolute())
                profile = self._hardware.chosen(request.profile)
                return ["calibrate", profile, "--job", job, "-o", str(folder / name), *sizes, *tables]
        assert_never(request)

    def _cascade_options(self, request: schemas.CascadeRequest, folder: Path) -> list[str]:
        if request.row is None and request.test:
            raise NasError("test scores one cascade of the table; give its number as row", code="cascade.no-row")
        options = [] if request.profile is None else [f"--profile={request.profile}"]
        if request.row is not None:
            options += [f"--row={request.row}", "-o", str(folder)]
        return [*options, "--test"] if request.test else options

    def list(self, run: str) -> tuple[schemas.Artifact, ...]:
        """All artifacts of a run, the oldest first."""
        self._runs.get(run)
        return tuple(self._artifact(task) for task in self._stored(run))

    def get(self, run: str, artifact: str) -> schemas.Artifact:
        """One artifact of a run."""
        return self._artifact(self._task(run, artifact))

    def delete(self, run: str, artifact: str) -> None:
        """Removes an artifact that has ended, with its files.

        Raises:
            RunStateError: it waits or runs, or a run that waits or runs uses its table.
        """
        task = self._task(run, artifact)
        self._users.check_unused(folder_of(task), f"the table {TABLES}/{artifact}")
        self._tasks.delete(artifact, TaskKind(task.kind), run)

    def file(self, run: str, artifact: str, name: str) -> Path:
        """The path of a file of a finished artifact."""
        return self._tasks.file(self._task(run, artifact), name)

    def table(self, path: Path) -> Path:
        """The lookup table that a job file names as ``calibrations/ID``.

        Raises:
            JobError: there is no finished calibration of this id that the sender of the request sees.
        """
        for task in self._tasks.list(TaskKind.CALIBRATION, None):
            is_named = path == Path(TABLES, task.task) and task.status is TaskStatus.FINISHED
            if is_named and self._tasks.sees(task.task):
                return next(folder_of(task).glob(f"*{_TABLE_SUFFIX}"))
        text = f"{str(path)!r}: there is no such table; expected {TABLES}/ID of a finished calibration of this server"
        raise JobError(text, code="job.not-allowed")

    def _stored(self, run: str) -> Sequence[Task]:
        tasks = [task for kind in KINDS for task in self._tasks.list(kind, run)]
        return sorted(tasks, key=lambda task: (task.submitted, task.task))

    def _task(self, run: str, artifact: str) -> Task:
        self._runs.get(run)
        task_by_id = {task.task: task for task in self._stored(run)}
        if artifact not in task_by_id:
            raise UnknownNameError("artifact", artifact, task_by_id, where=run)
        return task_by_id[artifact]

    def _artifact(self, task: Task) -> schemas.Artifact:
        is_table = task.kind == TaskKind.CALIBRATION and task.status is TaskStatus.FINISHED
        return schemas.Artifact.model_validate(
            {
                "artifact": task.task,
                "run": task.of,
                "request": task.request["asked"],
                "files": self._tasks.files(task),
                "table": f"{TABLES}/{task.task}" if is_table else None,
                "result": None if task.result is None else _without_folder(dict(task.result), folder_of(task)),
                **self._tasks.status_fields(task),
            }
        )


def _without_folder(value: Any, folder: Path) -> Any:
    """A command's output with the names of the files in a folder in place of their paths."""
    if isinstance(value, dict):
        return {key: _without_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folder(item, folder) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).parent == folder else value
