"""Plans of jobs before they are submitted: requested here, and made by tasks."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from nas.engine.store.folder import write_atomically
from nas.jobs.schema import SearchJob
from nas.service.api import schemas
from nas.service.ownership import Ownership, Thing, ThingKind
from nas.service.people import current_caller
from nas.service.settings import ServiceSettings
from nas.service.state import Task, TaskKind
from nas.service.tasks import TaskRequests
from nas.service.uploads.job_validation import JobValidator
from nas.service.uploads.storage_checks import check_disk_space

_OF = "jobs"
"""What the tasks are of; others are of a run or a profile."""
_MAX_PLANS = 20
"""Plans of a person that have ended; a new one replaces the oldest."""


class Plans:
    """The plans of a server."""

    def __init__(
        self, settings: ServiceSettings, tasks: TaskRequests, validator: JobValidator, owners: Ownership
    ) -> None:
        self._runs, self._folder, self._tasks, self._validator = settings.runs, settings.plans, tasks, validator
        self._owners = owners

    def request(self, submission: schemas.JobSubmission) -> schemas.JobPlan:
        """A new plan of a job, which a task makes: it trains and measures for some seconds.

        Raises:
            JobError: the job is rejected.
            TooManyError: too many tasks wait.
            StoreError: the disk is nearly full.
        """
        job = self._validator.validated(submission).job
        check_disk_space(self._runs.root)
        task = self._tasks.new_id(TaskKind.PLAN)
        person = current_caller().name
        plans_of_person = [old for old in self._tasks.list(TaskKind.PLAN, _OF) if old.submitter == person]
        for old in [old for old in plans_of_person if not old.open][:-_MAX_PLANS]:
            self._tasks.delete(old.task, TaskKind.PLAN, _OF)
        folder = (self._folder / task).absolute()
        folder.mkdir(parents=True)
        path = folder / "job.yaml"
        write_atomically(path, job.to_yaml().encode())
        argv = ["plan", str(path), "--runs", str(self._runs.root.absolute()), "--json"]
        request = {"digest": _digest(job)}
        return self._plan(self._tasks.add(task, TaskKind.PLAN, _OF, folder, argv, request, uses=[path], joins=True))

    def get(self, plan: str) -> schemas.JobPlan:
        """One plan."""
        return self._plan(self._tasks.get(plan, TaskKind.PLAN, _OF))

    def expected_s(self, job: SearchJob, kind: schemas.RunKind) -> float | None:
        """The duration of a run of a job by the newest plan of the same job that the sender of the request sees, or None.

        Args:
            kind: of the run; a training takes a part of the time.
        """
        digest, part = _digest(job), "total" if kind == "search" else "training"
        for task in reversed(self._tasks.list(TaskKind.PLAN, _OF)):
            span = ((task.result or {}).get("time") or {}).get(part)
            is_seen = self._owners.sees(Thing(ThingKind.TASK, task.task))
            if span is not None and task.request["asked"].get("digest") == digest and is_seen:
                return float(span["seconds"])
        return None

    def _plan(self, task: Task) -> schemas.JobPlan:
        path = (self._folder / task.task / "job.yaml").absolute()
        fields = self._tasks.status_fields(replace(task, reason=task.reason.replace(str(path), "job")))
        result = None if task.result is None else dict(task.result)
        return schemas.JobPlan(plan=task.task, result=result, **fields)


def _digest(job: SearchJob) -> str:
    return hashlib.sha256(job.to_yaml().encode()).hexdigest()
