"""Calls about jobs and runs: check, submit, list, watch, logs, cancel, resume, delete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nas.api import schemas
from nas.client.calls import PATIENCE_S, Calls, path_of
from nas.client.following import LogFollower, OnGone, Patience, Watch
from nas.client.transport import checked


class RunCalls(Calls):
    """Jobs and runs."""

    def check(self, job: str | dict[str, Any], *, hardware: Sequence[str] | None = None) -> schemas.JobCheck:
        """Problems of a job by field; the job is not kept.

        Args:
            job: the text of a job file, or its content.
            hardware: profiles that replace the job's.
        """
        answer = self._transport.send("POST", "jobs/check", body=_submission(job, "search", hardware))
        return self._transport.parsed(answer, schemas.JobCheck)

    def submit(
        self, job: str | dict[str, Any], *, kind: schemas.RunKind = "search", hardware: Sequence[str] | None = None
    ) -> schemas.RunSummary:
        """Submits a job; returns its run.

        Args:
            job: the text of a job file, or its content.
            kind: a search, or only the training of its supernet.
            hardware: profiles that replace the job's.
        """
        answer = self._transport.send("POST", "runs", body=_submission(job, kind, hardware))
        return self._transport.parsed(answer, schemas.RunSummary)

    def runs(
        self, *, status: schemas.RunStatusName | None = None, kind: schemas.RunKind | None = None,
        name: str | None = None, offset: int = 0, limit: int = 50,
    ) -> schemas.RunsPage:  # fmt: skip
        """A page of the runs, newest first.

        Args:
            name: a part of the run's name.
        """
        params = {"status": status, "kind": kind, "name": name, "offset": offset, "limit": limit}
        return self._transport.get("runs", schemas.RunsPage, params)

    def status(self, run: str) -> schemas.RunSummary:
        """The status of a run."""
        return self._transport.get(f"{path_of(run)}/status", schemas.RunSummary)

    def detail(self, run: str) -> schemas.RunDetail:
        """A run with its objectives, profiles and settings."""
        return self._transport.get(path_of(run), schemas.RunDetail)

    def watch(
        self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None
    ) -> Iterator[schemas.RunSummary]:
        """The status of a run, now and after each change, until the run has ended.

        Args:
            patience_s: seconds that the server may be unreachable.
            on_gone: called with the error when it becomes unreachable.
        """
        return iter(Watch(self._transport, path_of(run), Patience(patience_s, on_gone=on_gone)))

    def logs(self, run: str) -> str:
        """The log of the run's drivers, oldest line first."""
        return self._transport.read(f"{path_of(run)}/logs").text

    def follow_logs(self, run: str, *, patience_s: float = PATIENCE_S, on_gone: OnGone | None = None) -> Iterator[str]:
        """The log in pieces as they are written, until the run has ended; see `watch`."""
        return iter(LogFollower(self._transport, path_of(run), Patience(patience_s, on_gone=on_gone)))

    def cancel(self, run: str) -> schemas.RunSummary:
        """Cancels a run; it can be resumed."""
        return self._transport.parsed(self._transport.send("POST", f"{path_of(run)}/cancel"), schemas.RunSummary)

    def resume(
        self, run: str, *, evaluations: str | int | None = None, minutes: str | float | None = None
    ) -> schemas.RunSummary:
        """Queues a run that has ended once more.

        Args:
            evaluations: a new total (``150``) or an addition (``"+50"``); a finished run continues with it.
            minutes: likewise.
        """
        request = checked(schemas.ResumeRequest, {"evaluations": _text(evaluations), "minutes": _text(minutes)})
        answer = self._transport.send("POST", f"{path_of(run)}/resume", body=request)
        return self._transport.parsed(answer, schemas.RunSummary)

    def delete(self, run: str) -> None:
        """Deletes a run that no driver holds, with all its files."""
        self._transport.send("DELETE", path_of(run))


def _submission(
    job: str | dict[str, Any], kind: schemas.RunKind, hardware: Sequence[str] | None
) -> schemas.JobSubmission:
    return checked(
        schemas.JobSubmission, {"job": job, "kind": kind, "hardware": None if hardware is None else tuple(hardware)}
    )


def _text(budget: str | float | None) -> str | None:
    return None if budget is None else str(budget)
