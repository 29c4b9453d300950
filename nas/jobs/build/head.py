"""The head of a job's networks, which its task trains and decodes them by."""

from __future__ import annotations

from dataclasses import replace

from nas.errors import JobError
from nas.jobs.build.job_data import JobData
from supernets.sharing.base import Family


def with_head(data: JobData, family: Family) -> JobData:
    """The data with a task that has the head of the family's networks.

    Raises:
        JobError: the task needs a head, and the networks have none, or the other way round.
    """
    task, facts, source = data.task, family.head, data.job.source
    if task.needs_head and facts is None:
        raise JobError(
            f"{source}: task: {task.name} needs networks with a head that decodes their outputs, and those of {family.name} "
            "have none; take the family detector, or a detector of torchvision as supernet.model",
            code="job.conflict",
        )
    if facts is not None and not task.needs_head:
        message = f"the outputs of {family.name} are decoded by a {facts['kind']} head, and {task.name} takes none"
        raise JobError(f"{source}: task: {message}; write task: detection", code="job.conflict")
    return data if facts is None else replace(data, task=task.with_head(facts))
