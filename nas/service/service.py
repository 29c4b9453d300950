"""Everything that a client can ask of the service, without HTTP: what the API's routes and the pages share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from nas.analysis.report import RunReport
from nas.api import schemas
from nas.recipes import list_recipes, read_recipe
from nas.service.exports import Exports
from nas.service.hardware import Hardware
from nas.service.jobs.job_runner import JobRunner
from nas.service.jobs.task_requests import TaskRequests
from nas.service.readiness import Readiness
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.submissions import Submissions
from nas.service.uploads.data_sets import DataSets
from nas.service.uploads.job_validation import JobValidator
from nas.service.views.profile_drift import ProfileDrift
from nas.service.views.results import Results
from nas.service.views.run_index import RunIndex
from nas.service.views.run_summaries import RunSummaries

_T = TypeVar("_T")


class Service:
    """The service over one runs folder.

    Every method raises `nas.errors.UnknownNameError` for a run (export, profile, ...) that is not there, and others of
    `nas.errors.NasError` for what cannot be done; routes turn them into problem details.

    Args:
        index: of the runs, if the dispatcher shares it.
        wake: called when there is something new to be done.
        problem: what keeps jobs from being started; "" where nothing does.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        jobs: JobRunner,
        *,
        index: RunIndex | None = None,
        wake: Callable[[], None] = lambda: None,
        problem: Callable[[], str] = lambda: "",
    ) -> None:
        self.settings, self.state, self.jobs, self._wake = settings, state, jobs, wake
        index = index or RunIndex(settings.runs, state.submitted_kind)
        self._data, tasks = DataSets(settings), TaskRequests(state)
        self._hardware = Hardware(settings, tasks, ProfileDrift(settings.runs))
        self._results, self._summaries = Results(index), RunSummaries(settings.runs, state, index, problem)
        self._submissions = Submissions(
            settings,
            state=state,
            runner=jobs,
            jobs=JobValidator(settings.runs, self._hardware, self._data),
            index=index,
            summaries=self._summaries,
        )
        self._exports = Exports(settings.runs, self._results, index, tasks)
        self._readiness = Readiness(settings, state, jobs)

    def _woken(self, made: _T) -> _T:
        self._wake()
        return made

    # Jobs and runs

    def check(self, submission: schemas.JobSubmission) -> schemas.JobCheck:
        """What is wrong with a job, by field; nothing is written."""
        return self._submissions.check(submission)

    def submit(self, submission: schemas.JobSubmission, submitter: str = "") -> schemas.RunSummary:
        """Makes a queued run of a job: its folder, its job file, its store, and what was asked for, in this order."""
        return self._woken(self._submissions.submit(submission, submitter))

    def runs(
        self, *, status: str | None = None, kind: str | None = None, name: str | None = None, offset: int = 0,
        limit: int = 50,
    ) -> schemas.RunsPage:  # fmt: skip
        """The runs of these statuses, kinds and names (a part of the run's id), the newest first."""
        return self._summaries.page(status=status, kind=kind, name=name, offset=offset, limit=limit)

    def summary(self, run: str) -> schemas.RunSummary:
        """Where a run stands; cheap enough to be asked again and again by many."""
        return self._summaries.of(run)

    def detail(self, run: str) -> schemas.RunDetail:
        """A run with what it is made of."""
        return self._summaries.detail(run)

    def cancel(self, run: str) -> schemas.RunSummary:
        """Wants a run to end; it can be resumed. Durable before it returns."""
        return self._woken(self._submissions.cancel(run))

    def resume(self, run: str, request: schemas.ResumeRequest, submitter: str = "") -> schemas.RunSummary:
        """Puts a run that ended (or was started by hand and interrupted) into the queue again."""
        return self._woken(self._submissions.resume(run, request, submitter))

    def delete(self, run: str) -> None:
        """Removes a run that is not being driven, with all its files."""
        self._submissions.delete(run)

    def logs(self, run: str) -> str:
        """What the run's drivers wrote, the oldest first."""
        return self._submissions.logs(run)

    # Results

    def report(self, run: str, *, profile: str | None = None) -> RunReport:
        """What a search's results are told from, kept until its store changes: of 10,000 evaluations it takes a second."""
        return self._results.report(run, profile)

    def front(self, run: str, *, profile: str | None = None, select: str | None = None) -> schemas.Front:
        """The front, of one profile alone, or within limits in place of the job's."""
        return self._results.front(run, profile=profile, select=select)

    def evaluations(
        self, run: str, *, offset: int = 0, limit: int = 1000, sort: str | None = None, descending: bool = False
    ) -> schemas.NetworksPage:
        """Evaluated networks in the order told, or by a figure."""
        return self._results.evaluations(run, offset=offset, limit=limit, sort=sort, descending=descending)

    def predicted(self, run: str, *, limit: int = 2000) -> schemas.NetworksPage:
        """Networks that were predicted and never measured."""
        return self._results.predicted(run, limit=limit)

    def predictors(self, run: str) -> tuple[schemas.PredictorInfo, ...]:
        """How well each objective was predicted."""
        return self._results.predictors(run)

    def convergence(self, run: str) -> tuple[tuple[int, float], ...]:
        """(evaluations, hypervolume) as the search went."""
        return self._results.convergence(run)

    def pick(self, run: str, select: str, *, profile: str | None = None) -> schemas.Network:
        """The most accurate measured network within limits."""
        return self._results.pick(run, select, profile=profile)

    def compare(self, runs: list[str]) -> schemas.Comparison:
        """Searches side by side in the objectives that all of them have, from one reference point."""
        return self._results.compare(runs)

    # Exports

    def export(self, run: str, request: schemas.ExportRequest) -> schemas.Export:
        """Asks for an export; it is made in a process of its own."""
        return self._woken(self._exports.ask(run, request))

    def exports(self, run: str) -> tuple[schemas.Export, ...]:
        """All exports of a run, oldest first."""
        return self._exports.list(run)

    def export_of(self, run: str, export: str) -> schemas.Export:
        """One of them."""
        return self._exports.get(run, export)

    def export_file(self, run: str, export: str, name: str) -> Path:
        """A file of a finished export, on disk."""
        return self._exports.file(run, export, name)

    # Hardware, recipes, data

    def profiles(self) -> tuple[schemas.Profile, ...]:
        """Those of the catalog, then those that were added."""
        return self._hardware.list()

    def profile(self, name: str) -> schemas.Profile:
        """One profile, with the noise and the drift of its measurements."""
        return self._hardware.get(name)

    def add_profile(self, upload: schemas.ProfileUpload) -> schemas.Profile:
        """Keeps a profile of the users' own; jobs name it like those of the catalog."""
        return self._hardware.add(upload)

    def measure_model(self, profile: str, model: BinaryIO) -> schemas.ModelMeasurement:
        """Asks for the latency of an ONNX model, which is kept, bounded in size; measured in a process of its own."""
        return self._woken(self._hardware.measure(profile, model))

    def measurement(self, profile: str, measurement: str) -> schemas.ModelMeasurement:
        """Where that stands."""
        return self._hardware.measurement(profile, measurement)

    def recipes(self) -> tuple[schemas.Recipe, ...]:
        """The ready jobs, by name."""
        return tuple(schemas.Recipe(name=recipe.name, title=recipe.title) for recipe in list_recipes())

    def recipe(self, name: str) -> schemas.Recipe:
        """One of them, with its text."""
        text = read_recipe(name)
        title = next(recipe.title for recipe in list_recipes() if recipe.name == name)
        return schemas.Recipe(name=name, title=title, job=text)

    def add_data(self, name: str, archive: BinaryIO) -> schemas.DataUpload:
        """Unpacks a zip archive of images, one folder a class, within the limits."""
        return self._data.add(name, archive)

    # Operations

    def ready(self) -> schemas.Readiness:
        """Whether jobs can be run now."""
        return self._readiness.now()
