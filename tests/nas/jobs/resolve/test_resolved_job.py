"""`nas.jobs.resolve.resolved_job`: the task of a job."""

from __future__ import annotations

from pathlib import Path

from nas.engine.store.folder import RunsFolder
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from nas.search.problem.objectives import Goal
from nas.search.problem.tasks import SHIPPED
from tests.nas.commands import SMALL_JOB


def test_the_metrics_of_shipped_tasks_are_those_of_their_classes(tmp_path: Path) -> None:
    job = parse_job(SMALL_JOB, source="job.yaml")
    for name, known in SHIPPED.items():
        task = ResolvedJob(job.model_copy(update={"task": name}), RunsFolder(tmp_path)).task_class
        assert task.name == name
        found = [(m.name, m.unit, m.maximize) for m in task.metrics]
        assert found == [(m.name, m.unit, m.goal is Goal.MAXIMIZE) for m in known.metrics]
