"""Exports of measured networks."""

from __future__ import annotations

from pathlib import Path

from nas.errors import ExportFailedError, SelectionError
from nas.jobs.schema import load_job
from nas.results.analysis.network_selection import by_index, knee, select
from nas.results.export.format_names import FOLDERS, FORMATS, LANGUAGE_FOLDERS, ONNX, TRANSFORMERS, FormatName
from nas.results.export.manifest import NO_TOKENIZERS
from nas.search.problem.tasks import LANGUAGE
from nas.service.api import schemas
from nas.service.run_tasks import RunTasks
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind
from nas.service.tasks import TaskRequests
from nas.service.views.open_runs import OpenRuns
from nas.service.views.results import Results
from nas.service.views.run_index import RunIndex
from supernets.families.registry import FAMILIES


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
        options = [*self._choice(run, request), f"--format={request.format}"]
        if request.format in LANGUAGE_FOLDERS and request.format not in (formats := self.formats(run)):
            message = f"the format {request.format} has language models alone; expected {' or '.join(formats)}"
            raise ExportFailedError(message, code="export.task-unavailable")
        if request.with_preprocessing:
            if request.format != ONNX:
                message = f"networks in the format {request.format} take tensors; leave with_preprocessing out"
                raise ExportFailedError(message, code="export.preprocessing-unavailable")
            if not self.takes_images(run):
                raise ExportFailedError(NO_TOKENIZERS, code="export.preprocessing-unavailable")
            options.append("--with-preprocessing")

        def command(folder: Path) -> list[str]:
            # Others are written into a folder that has files of the task, too.
            output = folder / f"{run}-{request.format}" if request.format in FOLDERS else folder
            return ["export", run, "-o", str(output), *options]

        return self._request(run, TaskKind.EXPORT, command, request.model_dump())

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

    def formats(self, run: str) -> dict[FormatName, str]:
        """The formats for the networks of a run's task and family, with what they are."""
        job = load_job(self._runs.get(run).job_file, stored=True)
        unavailable: set[FormatName] = set() if job.task == LANGUAGE else set(LANGUAGE_FOLDERS)
        family = FAMILIES.get(job.supernet.family)
        if job.supernet.from_ is None and family is not None and family.pretrained is None:
            unavailable.add(TRANSFORMERS)  # the library has the families alone that are also made of its networks
        return {name: text for name, text in FORMATS.items() if name not in unavailable}

    def takes_images(self, run: str) -> bool:
        """True if the networks of a run take images, whose preprocessing their graph can do."""
        return load_job(self._runs.get(run).job_file, stored=True).data.of_images

    def _described(self, task: Task) -> schemas.Export:
        return schemas.Export.model_validate(self._fields(task))
