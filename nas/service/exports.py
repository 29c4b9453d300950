"""Exports of measured networks as ONNX."""

from __future__ import annotations

from nas.errors import ExportFailedError, SelectionError
from nas.jobs.schema import load_job
from nas.results.analysis.network_selection import by_index, knee, select
from nas.results.export.manifest import NO_TOKENIZERS
from nas.service.api import schemas
from nas.service.run_tasks import RunTasks
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind
from nas.service.tasks import TaskRequests
from nas.service.views.open_runs import OpenRuns
from nas.service.views.results import Results
from nas.service.views.run_index import RunIndex


class Exports(RunTasks[schemas.Export]):
    """The exports of runs."""

    noun = "export"
    kinds = (TaskKind.EXPORT,)

    def __init__(
        self, settings: ServiceSettings, results: Results, index: RunIndex, tasks: TaskRequests, users: OpenRuns
    ) -> None:
        super().__init__(settings, tasks, users)
        self._results, self._index = results, index

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
        options = self._choice(run, request)
        if request.with_preprocessing:
            if not self.takes_images(run):
                raise ExportFailedError(NO_TOKENIZERS, code="export.preprocessing-unavailable")
            options.append("--with-preprocessing")
        return self._request(
            run, TaskKind.EXPORT, lambda folder: ["export", run, "-o", str(folder), *options], request.model_dump()
        )

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

    def _described(self, task: Task) -> schemas.Export:
        return schemas.Export.model_validate(self._fields(task))
