"""Calls of the API about jobs before they are runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas.service.api import schemas
from nas.service.client.following import finished
from nas.service.client.transport import Transport, checked, quoted


class JobCalls:
    """Checks, changes and plans of jobs."""

    _transport: Transport

    def job_schema(self) -> dict[str, Any]:
        """The JSON schema of job files."""
        return self._transport.get("jobs/schema", dict[str, Any])

    def check(self, job: str | dict[str, Any], *, hardware: Sequence[str] | None = None) -> schemas.JobCheck:
        """Problems of a job by field, or its usual settings; the job is not kept."""
        return self._transport.post("jobs/check", schemas.JobCheck, body=submission(job, "search", hardware))

    def edit(self, job: str, changes: Mapping[str, Any]) -> str:
        """The text of a job file with other values by path, e.g. ``{"search.evaluations": 80}``; comments stay."""
        body = checked(schemas.JobEdit, {"job": job, "changes": dict(changes)})
        return self._transport.post("jobs/edit", schemas.EditedJob, body=body).job

    def plan(
        self,
        job: str | dict[str, Any],
        *,
        hardware: Sequence[str] | None = None,
        on_change: Callable[[schemas.JobPlan], None] | None = None,
    ) -> schemas.JobPlan:
        """The plan of a job that is not submitted: the size and costs of its space, and an estimate of the time.

        Args:
            job: The text of a job file, or its content.
            hardware: Names of profiles that replace the job's.
            on_change: Called with the plan after each change of its status.

        Raises:
            ServiceError: it failed; the message gives the reason.
        """
        plan = self._transport.post("jobs/plans", schemas.JobPlan, body=submission(job, "search", hardware))
        return finished(self._transport, plan, f"jobs/plans/{quoted(plan.plan)}", on_change, subject="the plan")


def submission(
    job: str | dict[str, Any], kind: schemas.RunKind, hardware: Sequence[str] | None
) -> schemas.JobSubmission:
    """A submission of a job."""
    profiles = None if hardware is None else tuple(hardware)
    return checked(schemas.JobSubmission, {"job": job, "kind": kind, "hardware": profiles})
