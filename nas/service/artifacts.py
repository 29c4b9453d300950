"""Artifacts of runs, which tasks make: tables and exports of cascades, plots, and lookup tables of latencies."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from nas.errors import JobError, NasError, RunStateError
from nas.results.analysis.cascade import cascade_pairs
from nas.results.analysis.network_selection import parse_limits
from nas.service.api import schemas
from nas.service.hardware import Hardware
from nas.service.run_tasks import RunTasks
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind, TaskStatus
from nas.service.tasks import TaskRequests, folder_of
from nas.service.views.open_runs import OpenRuns
from nas.service.views.results import Results

TABLES = "calibrations"
"""The folder of lookup tables in job files: ``lookup_tables: [calibrations/ID]``."""
_TABLE_SUFFIX = ".lookup.json"


class Artifacts(RunTasks[schemas.Artifact]):
    """The artifacts of runs."""

    noun = "artifact"
    kinds = (TaskKind.CASCADE, TaskKind.PLOTS, TaskKind.CALIBRATION)

    def __init__(
        self, settings: ServiceSettings, results: Results, hardware: Hardware, tasks: TaskRequests, users: OpenRuns
    ) -> None:
        super().__init__(settings, tasks, users)
        self._results, self._hardware = results, hardware

    def request(self, run: str, request: schemas.ArtifactRequest) -> schemas.Artifact:
        """A new artifact, which a task makes; what can be checked without its data is checked now.

        Raises:
            SelectionError: the run has no cascades, or the limits are no limits.
            RunStateError: the run is not finished (for cascades), has no results, or has too many artifacts.
            JobError: nothing can be measured on the profile now, there is no such table, or the job of the run names something
                that is hidden from its owner by now.
            StoreError: the disk is nearly full.
        """
        kind = TaskKind(request.kind)
        self._runs.get(run)
        if kind is not TaskKind.PLOTS:  # those are of what the run has stored
            self._users.check_seen(run)
        return self._request(
            run, kind, lambda folder: self._command(run, request, folder), request.model_dump(mode="json")
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

    def delete(self, run: str, name: str) -> None:
        """Removes an artifact that has ended, with its files.

        Raises:
            RunStateError: it waits or runs, or a run that waits or runs uses its table.
        """
        self._users.check_unused(folder_of(self._task(run, name)), f"the table {TABLES}/{name}")
        super().delete(run, name)

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

    def _described(self, task: Task) -> schemas.Artifact:
        is_table = task.kind == TaskKind.CALIBRATION and task.status is TaskStatus.FINISHED
        table = f"{TABLES}/{task.task}" if is_table else None
        return schemas.Artifact.model_validate({**self._fields(task), "table": table})
