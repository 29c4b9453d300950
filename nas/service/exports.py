"""Exports of measured networks as ONNX: requested here, run as tasks, and downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.errors import ExportFailedError, SelectionError
from nas.jobs.schema import load_job
from nas.results.analysis.network_selection import by_index, knee, select
from nas.results.export.manifest import NO_TOKENIZERS
from nas.service.api import schemas
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind
from nas.service.tasks import TaskRequests
from nas.service.uploads.storage_checks import check_disk_space, check_quota
from nas.service.views.open_runs import OpenRuns
from nas.service.views.results import Results
from nas.service.views.run_index import RunIndex

_PATHS = ("path", "weights", "manifest", "tokenizer", "script")
"""Keys of the output of `nas export` that are paths on the server."""


class Exports:
    """The exports of runs; each has a folder of its own below its run's."""

    def __init__(
        self, settings: ServiceSettings, results: Results, index: RunIndex, tasks: TaskRequests, users: OpenRuns
    ) -> None:
        self._runs, self._max_exports = settings.runs, settings.limits.exports_of_a_run
        self._results, self._index, self._tasks, self._users = results, index, tasks, users

    def request(self, run: str, request: schemas.ExportRequest) -> schemas.Export:
        """A new export, which a task makes; the network is selected now.

        Raises:
            SelectionError: no network matches the request, or it names both a selection and an index.
            RunStateError: the run has too many exports.
            JobError: the run's job names something that is hidden from its owner by now.
            ExportFailedError: the graph is to do preprocessing that it cannot do.
            StoreError: the disk is nearly full.
        """
        self._users.check_seen(run)
        argv = self._choice(run, request)
        if request.with_preprocessing:
            if not self.takes_images(run):
                raise ExportFailedError(NO_TOKENIZERS, code="export.preprocessing-unavailable")
            argv.append("--with-preprocessing")
        check_disk_space(self._runs.root)
        check_quota(
            f"exports of run {run}",
            len(self._tasks.list(TaskKind.EXPORT, run)),
            self._max_exports,
            f"DELETE /api/v1/runs/{run}/exports/EXPORT",
        )
        task = self._tasks.new_id(TaskKind.EXPORT)
        folder = self._folder(run, task)
        folder.mkdir(parents=True)
        argv = ["export", run, "--runs", str(self._runs.root.absolute()), "-o", str(folder.absolute()), "--json", *argv]
        return self._export(self._tasks.add(task, TaskKind.EXPORT, run, folder.absolute(), argv, request.model_dump()))

    def _choice(self, run: str, request: schemas.ExportRequest) -> list[str]:
        """The options that select the network: by its key, since the front may change before the export."""
        if request.select is not None and request.index is not None:
            raise SelectionError("expected select or index, or neither for the front's knee; got both")
        if request.select is not None and self._index.snapshot(run).kind == "training":
            return [f"--select={request.select}"]  # only its checkpoint knows the networks of a training
        report = self._results.report(run)
        if request.select is not None:
            point = select(report, request.select)
        else:
            point = knee(report) if request.index is None else by_index(report, request.index)
        return [f"--select=key={point.key}"]

    def takes_images(self, run: str) -> bool:
        """True if the networks of a run take images, whose preprocessing their graph can do."""
        return load_job(self._runs.get(run).job_file, stored=True).data.of_images

    def list(self, run: str) -> tuple[schemas.Export, ...]:
        """All exports of a run, the oldest first."""
        self._runs.get(run)
        return tuple(self._export(task) for task in self._tasks.list(TaskKind.EXPORT, run))

    def get(self, run: str, export: str) -> schemas.Export:
        """One export of a run."""
        self._runs.get(run)
        return self._export(self._tasks.get(export, TaskKind.EXPORT, run))

    def delete(self, run: str, export: str) -> None:
        """Removes an export that has ended, with its files.

        Raises:
            RunStateError: it waits or runs.
        """
        self._runs.get(run)
        self._tasks.delete(export, TaskKind.EXPORT, run)

    def file(self, run: str, export: str, name: str) -> Path:
        """The path of a file of a finished export."""
        self._runs.get(run)
        return self._tasks.file(self._tasks.get(export, TaskKind.EXPORT, run), name)

    def _folder(self, run: str, task: str) -> Path:
        return self._runs.get(run).path / "exports" / task

    def _export(self, task: Task) -> schemas.Export:
        result: dict[str, Any] | None = None
        if task.result is not None:
            result = {key: Path(str(value)).name if key in _PATHS else value for key, value in task.result.items()}
        return schemas.Export(
            export=task.task,
            run=task.of,
            request=schemas.ExportRequest.model_validate(task.request["asked"]),
            files=self._tasks.files(task),
            result=result,
            **self._tasks.status_fields(task),
        )
