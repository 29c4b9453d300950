"""The service without HTTP: the parts that the API's routes and the pages share."""

from __future__ import annotations

from collections.abc import Callable

from nas.service.artifacts import Artifacts
from nas.service.exports import Exports
from nas.service.hardware import Hardware
from nas.service.jobs.job_runner import JobRunner
from nas.service.jobs.run_queue import RunQueue
from nas.service.ownership import Ownership
from nas.service.path_privacy import PathPrivacy
from nas.service.plans import Plans
from nas.service.recipes import Recipes
from nas.service.retention import Retention
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from nas.service.submissions import Submissions
from nas.service.tasks import TaskRequests
from nas.service.uploads.captured_models import CapturedModels
from nas.service.uploads.data_sets import DataSets
from nas.service.uploads.job_validation import JobValidator
from nas.service.views.open_runs import OpenRuns
from nas.service.views.results import Results
from nas.service.views.run_index import RunIndex
from nas.service.views.run_summaries import RunSummaries


class Service:
    """The service over one runs folder.

    Methods of all parts raise `nas.errors.UnknownNameError` for a run (export, profile, ...) that does not exist, and other
    subclasses of `nas.errors.NasError`; routes turn them into problem details.

    Args:
        index: of the runs, if the dispatcher shares it.
        run_queue: of the runs that wait, if the dispatcher shares it.
        wake: called when a run or a task is there for the dispatcher.
        problem: why no job can be started; "" where jobs can be started.
        driver_deaths: number of drivers that died since the dispatcher began.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        jobs: JobRunner,
        *,
        index: RunIndex | None = None,
        run_queue: RunQueue | None = None,
        wake: Callable[[], None] = lambda: None,
        problem: Callable[[], str] = lambda: "",
        driver_deaths: Callable[[], int] = lambda: 0,
    ) -> None:
        self.problem, self.driver_deaths = problem, driver_deaths
        self.owners = Ownership(settings, state)
        settings = self.owners.visible(settings)
        self.settings, self.state, self.jobs = settings, state, jobs
        index = index or RunIndex(settings.runs, state.submitted_kind, hide_paths=PathPrivacy(settings))
        tasks = self.tasks = TaskRequests(settings, state, wake, self.owners)
        run_queue = run_queue or RunQueue(settings, state, index)
        self.runs = RunSummaries(
            settings.runs, state, index, run_queue=run_queue, problem=problem, hide_paths=PathPrivacy(settings)
        )
        self.results = Results(index)
        users = OpenRuns(state, index, self.owners)
        self.data_sets = DataSets(settings, users, self.owners)
        self.models = CapturedModels(settings, users, self.owners)
        self.recipes = Recipes(self.data_sets, self.models)
        self.hardware = Hardware(settings, tasks, jobs, users, self.owners)
        self.exports = Exports(settings, self.results, index, tasks, users)
        self.artifacts = Artifacts(settings, self.results, self.hardware, tasks, users)
        validator = JobValidator(
            settings.runs, self.hardware, self.data_sets, self.models, self.artifacts, settings.allowed_plugins
        )
        self.plans = Plans(settings, tasks, validator, self.owners)
        self.submissions = Submissions(
            settings,
            state=state,
            runner=jobs,
            validator=validator,
            index=index,
            summaries=self.runs,
            users=users,
            owners=self.owners,
            run_queue=run_queue,
            planned_s=self.plans.expected_s,
            wake=wake,
        )
        self.retention = Retention(settings, state, index, self.submissions)
