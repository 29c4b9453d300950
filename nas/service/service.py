"""Everything that a client can ask of the service, without HTTP: what the API's routes and the pages share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nas.export.report import RunReport
from nas.service import schemas
from nas.service.jobs import JobRunner
from nas.service.kinds import Kinds
from nas.service.results import Results
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState


class Service:
    """The service over one runs folder.

    Every method raises `nas.errors.UnknownNameError` for a run (export, profile, ...) that is not there, and others of
    `nas.errors.NasError` for what cannot be done; routes turn them into problem details.
    """

    def __init__(self, settings: ServiceSettings, state: ServiceState, jobs: JobRunner) -> None:
        self.settings, self.state, self.jobs = settings, state, jobs
        self._kinds = Kinds(settings.runs, self._submitted_kind)
        self._results = Results(settings.runs, self._kinds)

    def _submitted_kind(self, run: str) -> str | None:
        found = self.state.submission(run)
        return None if found is None else found.kind

    # Jobs and runs

    def check(self, submission: schemas.JobSubmission) -> schemas.JobCheck:
        """What is wrong with a job, by field; nothing is written."""
        raise NotImplementedError

    def submit(self, submission: schemas.JobSubmission, submitter: str = "") -> schemas.RunSummary:
        """Makes a queued run of a job: its folder, its job file, its store, and what was asked for, in this order."""
        raise NotImplementedError

    def runs(
        self, *, status: str | None = None, kind: str | None = None, name: str | None = None, offset: int = 0,
        limit: int = 50,
    ) -> schemas.RunsPage:  # fmt: skip
        """The runs of these statuses, kinds and names (a part of the run's id), the newest first."""
        raise NotImplementedError

    def summary(self, run: str) -> schemas.RunSummary:
        """Where a run stands; cheap enough to be asked again and again by many."""
        raise NotImplementedError

    def detail(self, run: str) -> schemas.RunDetail:
        """A run with what it is made of."""
        raise NotImplementedError

    def cancel(self, run: str) -> schemas.RunSummary:
        """Wants a run to end; it can be resumed. Durable before it returns."""
        raise NotImplementedError

    def resume(self, run: str, request: schemas.ResumeRequest) -> schemas.RunSummary:
        """Puts a run that ended (or was started by hand and interrupted) into the queue again."""
        raise NotImplementedError

    def delete(self, run: str) -> None:
        """Removes a run that is not being driven, with all its files."""
        raise NotImplementedError

    def logs(self, run: str) -> str:
        """What the run's drivers wrote, the oldest first."""
        raise NotImplementedError

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
        raise NotImplementedError

    def exports(self, run: str) -> tuple[schemas.Export, ...]:
        """All exports of a run, oldest first."""
        raise NotImplementedError

    def export_of(self, run: str, export: str) -> schemas.Export:
        """One of them."""
        raise NotImplementedError

    def export_file(self, run: str, export: str, name: str) -> Path:
        """A file of a finished export, on disk."""
        raise NotImplementedError

    # Hardware, recipes, data

    def profiles(self) -> tuple[schemas.Profile, ...]:
        """Those of the catalog, then those that were added."""
        raise NotImplementedError

    def profile(self, name: str) -> schemas.Profile:
        """One profile, with the noise and the drift of its measurements."""
        raise NotImplementedError

    def add_profile(self, upload: schemas.ProfileUpload) -> schemas.Profile:
        """Keeps a profile of the users' own; jobs name it like those of the catalog."""
        raise NotImplementedError

    def measure_model(self, profile: str, model: BinaryIO) -> schemas.ModelMeasurement:
        """Asks for the latency of an ONNX model, which is kept, bounded in size; measured in a process of its own."""
        raise NotImplementedError

    def measurement(self, profile: str, measurement: str) -> schemas.ModelMeasurement:
        """Where that stands."""
        raise NotImplementedError

    def recipes(self) -> tuple[schemas.Recipe, ...]:
        """The ready jobs, by name."""
        raise NotImplementedError

    def recipe(self, name: str) -> schemas.Recipe:
        """One of them, with its text."""
        raise NotImplementedError

    def add_data(self, name: str, archive: BinaryIO) -> schemas.DataUpload:
        """Unpacks a zip archive of images, one folder a class, within the limits."""
        raise NotImplementedError

    # Operations

    def ready(self) -> schemas.Readiness:
        """Whether jobs can be run now."""
        raise NotImplementedError

    def watch(self, run: str) -> Iterator[schemas.RunSummary]:
        """Where a run stands, each time that changes, until it has ended."""
        raise NotImplementedError
