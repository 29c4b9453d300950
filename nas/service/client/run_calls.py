"""Calls about jobs and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nas.service.api import schemas
from nas.service.client.following import PATIENCE_S, OnGone, Patience, finished, followed_log, watched
from nas.service.client.transport import Calls, checked, path_of, quoted


class RunCalls(Calls):
    """Calls about jobs before they are runs, runs and the queue."""

    def job_schema(self) -> dict[str, Any]:
        """The JSON schema of job files."""
        return self._transport.get("jobs/schema", dict[str, Any])

    def check(self, job: str | dict[str, Any], *, hardware: Sequence[str] | None = None) -> schemas.JobCheck:
        """Problems of a job by field, or its usual settings; the job is not kept.

        Args:
            job: Text of a job file (YAML), or its content as a mapping.
            hardware: Names of at most 16 hardware profiles of the server that replace the job's; None keeps the job's.
        """
        return self._transport.post("jobs/check", schemas.JobCheck, body=_submission(job, "search", hardware))

    def edit(self, job: str, changes: Mapping[str, Any]) -> str:
        """The text of a job file with other values by path, e.g. ``{"search.evaluations": 80}``; comments stay.

        Args:
            job: Text of a job file (YAML).
            changes: New values by the path of their key, at most 20; None removes the key.
        """
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
        plan = self._transport.post("jobs/plans", schemas.JobPlan, body=_submission(job, "search", hardware))
        return finished(self._transport, plan, f"jobs/plans/{quoted(plan.plan)}", on_change, subject="the plan")

    def submit(
        self,
        job: str | dict[str, Any],
        *,
        kind: schemas.RunKind = "search",
        hardware: Sequence[str] | None = None,
        priority: schemas.PriorityName = "normal",
        webhook: tuple[str, str] | None = None,
    ) -> schemas.RunSummary:
        """Submits a job; returns its run.

        Args:
            job: the text of a job file, or its content.
            kind: a search, or only the training of its supernet.
            hardware: profiles that replace the job's.
            priority: of the run in the queue; ``high`` is for administrators.
            webhook: An address that is notified of the end of the run, and the secret that signs the notification.
        """
        # Earlier servers know no priorities.
        submission = _submission(job, kind, hardware, None if priority == "normal" else priority)
        if webhook is not None:
            body = checked(schemas.WebhookRequest, dict(zip(("url", "secret"), webhook, strict=True)))
            submission = submission.model_copy(update={"webhook": body})
        return self._transport.post("runs", schemas.RunSummary, body=submission)

    def queue(self) -> schemas.Queue:
        """The runs that run and wait, those that wait in the order in which they start, with expected starts."""
        return self._transport.get("queue", schemas.Queue)

    def set_priority(self, run: str, priority: schemas.PriorityName) -> schemas.RunSummary:
        """Changes the priority of a run that waits; a higher one is for administrators.

        Args:
            run: Id of the run.
            priority: its new priority.
        """
        return self._reorder(run, {"priority": priority})

    def move(self, run: str, position: int) -> schemas.RunSummary:
        """Puts a run that waits at a position of the queue; for administrators.

        Args:
            run: Id of the run.
            position: 1 for the run that starts next; 0 returns the run to its turn.
        """
        return self._reorder(run, {"position": position})

    def _reorder(self, run: str, values: Mapping[str, Any]) -> schemas.RunSummary:
        return self._transport.put(f"{path_of(run)}/queue", schemas.RunSummary, checked(schemas.QueueChange, values))

    def runs(
        self,
        *,
        status: schemas.RunStatusName | None = None,
        kind: schemas.RunKind | None = None,
        name: str | None = None,
        tag: str | None = None,
        data: str | None = None,
        submitter: str | None = None,
        min_accuracy: float | None = None,
        max_latency_ms: float | None = None,
        sort: schemas.RunOrder | None = None,
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
    ) -> schemas.RunsPage:
        """A page of the runs, newest first unless sorted; `name` may be a part of a run's name.

        Args:
            status: Only runs of this status; None for all.
            kind: Only searches, or only trainings of a supernet; None for both.
            name: Part of a run's id, in upper or lower case; at most 80 characters, None for all runs.
            tag: Only runs with exactly this tag; at most 40 characters, None for all runs.
            data: Only runs on data of this name; None for all runs.
            submitter: Only runs that a token of this name submitted; None for all runs.
            min_accuracy: Smallest best accuracy of a run's front, 0 to 1; None for all runs.
            max_latency_ms: Largest best latency of a run's front; None for all runs.
            sort: Value to sort by, see `nas.service.api.schemas.RunOrder`; None for the newest first.
            descending: Whether the largest value (by ``accuracy``, the best one) is first; has no effect unless `sort` is set.
                Runs without the value come last in both directions.
            offset: Number of runs before the page, at least 0.
            limit: Largest number of runs of the page, 1 to 1,000.
        """
        params = {
            "status": status,
            "kind": kind,
            "name": name,
            "tag": tag,
            "data": data,
            "submitter": submitter,
            "min_accuracy": min_accuracy,
            "max_latency_ms": max_latency_ms,
            "sort": sort,
            "descending": descending or None,
            "offset": offset,
            "limit": limit,
        }
        return self._transport.get("runs", schemas.RunsPage, params)

    def status(self, run: str) -> schemas.RunSummary:
        """The status of a run.

        Args:
            run: Id of a run, e.g. ``digits-cnn-1``.
        """
        return self._transport.get(f"{path_of(run)}/status", schemas.RunSummary)

    def detail(self, run: str) -> schemas.RunDetail:
        """A run with its objectives, profiles and settings.

        Args:
            run: Id of a run.
        """
        return self._transport.get(path_of(run), schemas.RunDetail)

    def watch(
        self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None
    ) -> Iterator[schemas.RunSummary]:
        """The status of a run, now and after each change, until the run has ended.

        Args:
            run: Id of a run.
            patience_s: seconds that the server may be unreachable.
            on_gone: called with the error when it becomes unreachable.
        """
        return watched(self._transport, path_of(run), Patience(patience_s, on_gone=on_gone))

    def logs(self, run: str) -> str:
        """The log of the run's drivers, oldest line first.

        Args:
            run: Id of a run, whose log is cut to its last million bytes.
        """
        return self._transport.read(f"{path_of(run)}/logs").text

    def follow_logs(self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None) -> Iterator[str]:
        """The log in pieces as they are written, until the run has ended; see `watch`.

        Args:
            run: Id of a run.
            patience_s: Seconds that the server may be unreachable after its last answer; then the error is raised.
            on_gone: Called with the error once each time that the server becomes unreachable; None for no call.
        """
        return followed_log(self._transport, path_of(run), Patience(patience_s, on_gone=on_gone))

    def cancel(self, run: str) -> schemas.RunSummary:
        """Cancels a run; it can be resumed.

        Args:
            run: Id of a run that is queued or running, and that was submitted to this server.
        """
        return self._transport.post(f"{path_of(run)}/cancel", schemas.RunSummary)

    def resume(
        self,
        run: str,
        *,
        evaluations: str | int | None = None,
        minutes: str | float | None = None,
        retry_failed: bool = False,
    ) -> schemas.RunSummary:
        """Queues a run that has ended once more.

        Args:
            run: Id of a run that has ended.
            evaluations: a new total (``150``) or an addition (``"+50"``); a finished run continues with it.
            minutes: likewise.
            retry_failed: measure again what failed or was too noisy, also in a finished run.
        """
        budget = {"evaluations": evaluations, "minutes": minutes}
        texts = {name: None if value is None else str(value) for name, value in budget.items()}
        # Only where it is wanted: an earlier server knows no such field.
        retry = {"retry_failed": True} if retry_failed else {}
        request = checked(schemas.ResumeRequest, {**texts, **retry})
        return self._transport.post(f"{path_of(run)}/resume", schemas.RunSummary, body=request)

    def label(self, run: str, *, tags: Sequence[str] | None = None, note: str | None = None) -> schemas.RunSummary:
        """Replaces the tags of a run, its note, or both; what is None stays.

        Args:
            run: Id of a run.
            tags: All tags that the run then has: at most 20 distinct words of at most 40 letters, digits and ``. _ + -``; None
                keeps its tags.
            note: Text of at most 2,000 characters; "" removes the note, and None keeps it.
        """
        if tags is None or note is None:
            now = self.status(run)
            tags, note = now.tags if tags is None else tags, now.note if note is None else note
        labels = checked(schemas.RunLabels, {"tags": tuple(tags), "note": note})
        return self._transport.put(f"{path_of(run)}/labels", schemas.RunSummary, labels)

    def delete(self, run: str) -> None:
        """Deletes a run that no driver holds, with all its files.

        Args:
            run: Id of a run that neither waits nor runs, and that no open run needs.
        """
        self._transport.send("DELETE", path_of(run))


def _submission(
    job: str | dict[str, Any],
    kind: schemas.RunKind,
    hardware: Sequence[str] | None,
    priority: schemas.PriorityName | None = None,
) -> schemas.JobSubmission:
    """A submission of a job."""
    values: dict[str, Any] = {"job": job, "kind": kind, "hardware": None if hardware is None else tuple(hardware)}
    return checked(schemas.JobSubmission, values if priority is None else {**values, "priority": priority})
