"""Runs as the service tells them and moves them: submitted, listed, cancelled, resumed, deleted."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import cast

from nas.api import schemas
from nas.engine.budget_extension import Extension
from nas.engine.run import Run
from nas.engine.run_table import RunSnapshot
from nas.errors import JobError, NasError, RunHeldError, RunStateError, ServiceError, StoreError, TooManyError
from nas.service.jobs.runner import JobRunner, JobState
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, Submission, TaskKind, Wanted
from nas.service.uploads.disk_space import check_room
from nas.service.uploads.job_files import Intake
from nas.service.views.job_summary import JobFacts, JobFactsOf
from nas.service.views.run_kind import Kinds
from nas.service.views.run_status import Standings
from nas.store.base import RunStatus
from nas.store.folder import RunFolder, write_atomically
from nas.store.opening import is_held, open_store

SUBMITTED = "submitted.yaml"
"""In a run's folder, the job file as its client wrote it; the run's own names this machine's paths."""
_LOG_CHARACTERS = 1024 * 1024


class Submissions:
    """The runs of a server's folder, whoever started them."""

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        jobs: JobRunner,
        intake: Intake,
        standings: Standings,
        kinds: Kinds,
        problem: Callable[[], str],
    ) -> None:
        self._runs, self._limits, self._trash = settings.runs, settings.limits, settings.trash
        self._state, self._jobs, self._intake = state, jobs, intake
        self._standings, self._kinds, self._problem = standings, kinds, problem
        self._facts = JobFactsOf(settings.runs)
        self._changing = threading.Lock()

    def check(self, submission: schemas.JobSubmission) -> schemas.JobCheck:
        """See `Service.check`."""
        try:
            self._intake.accepted(submission)
        except JobError as error:
            fields = error.fields or [("", str(error))]
            return schemas.JobCheck(
                ok=False, errors=tuple(schemas.FieldProblem(field=key, message=text) for key, text in fields)
            )
        return schemas.JobCheck(ok=True)

    def submit(self, submission: schemas.JobSubmission, submitter: str) -> schemas.RunSummary:
        """See `Service.submit`.

        Raises:
            JobError: the job cannot be taken.
            TooManyError: too many runs wait already.
            StoreError: the runs folder cannot be written, or its disk has no room.
        """
        accepted = self._intake.accepted(submission)
        check_room(self._runs.root)
        with self._changing:
            waiting = sum(submission.waits for submission in self._state.submissions())
            if waiting >= self._limits.queued:
                raise TooManyError(f"{waiting} runs wait already, as many as may; submit again when some have ended")
            # In this order: whatever is killed in between leaves a run that says it was never started.
            folder = self._runs.create(accepted.job.name, accepted.job.to_yaml())
            try:
                self._facts.keep(folder, accepted.job)
                write_atomically(folder.path / SUBMITTED, accepted.text.encode())
                open_store(folder, create=True, driver=True).close()
                self._state.submit(folder.id, submission.kind, submitter)
            except BaseException:  # its client is told, and may ask again and again
                shutil.rmtree(folder.path, ignore_errors=True)
                raise
        return self.summary(folder.id)

    def page(
        self, *, status: str | None, kind: str | None, name: str | None, offset: int, limit: int
    ) -> schemas.RunsPage:
        """See `Service.runs`; a run that cannot be read is listed as failed, with what is wrong with it."""
        queue = self._queue()
        submitted = {submission.run: submission for submission in self._state.submissions()}
        folders = [f for f in reversed(self._runs.list()) if name is None or name.lower() in f.id.lower()]
        if status is None and kind is None:  # then those of other pages need not be looked at
            page, total = folders[offset : offset + limit], len(folders)
            found = [self._listed(folder, submitted.get(folder.id), queue) for folder in page]
            return schemas.RunsPage(total=total, offset=offset, runs=tuple(found))
        found = [
            summary
            for folder in folders
            for summary in [self._listed(folder, submitted.get(folder.id), queue)]
            if status in (None, summary.status) and kind in (None, summary.kind)
        ]
        return schemas.RunsPage(total=len(found), offset=offset, runs=tuple(found[offset : offset + limit]))

    def summary(self, run: str) -> schemas.RunSummary:
        """See `Service.summary`."""
        standing = self._standings.of(run)
        submission = self._state.submission(run)
        queue = self._queue() if submission is not None and submission.waits else {}
        return self._told(run, standing, submission, queue)

    def cancel(self, run: str) -> schemas.RunSummary:
        """See `Service.cancel`.

        Raises:
            RunStateError: it has ended otherwise, or is driven by a command that the service did not start.
            StoreError: it was not submitted here, and cannot be read.
        """
        with self._changing:
            folder, submission = self._runs.get(run), self._state.submission(run)
            if submission is not None and (
                submission.waits or self._open(run, damaged=True) or self._active(submission)
            ):
                self._state.cancel(run)
                return self._listed(folder, self._state.submission(run), self._queue())
            standing = self._standings.of(run)
            if submission is None and standing.open:
                raise RunStateError(
                    f"run {run!r} was started by a command on the server's machine; end it there"
                    if standing.held
                    else f"run {run!r} has no driver that could be cancelled; resume it, or delete it"
                )
            if standing.status is not RunStatus.CANCELLED:
                raise RunStateError(f"run {run!r} is {standing.status} already; there is nothing to cancel")
        return self.summary(run)

    def resume(self, run: str, request: schemas.ResumeRequest, submitter: str) -> schemas.RunSummary:
        """See `Service.resume`.

        Raises:
            RunHeldError: a driver has it.
            RunStateError: it waits or runs already, or is finished and nothing more is asked for.
            NasError: it cannot be given what is asked for.
        """
        with self._changing:
            folder = self._runs.get(run)
            standing, submission = self._standings.of(run), self._state.submission(run)
            if submission is not None and submission.waits:
                raise RunStateError(f"run {run!r} waits already")
            # A driver that has recorded its run's end and let go of it is no hindrance while its process ends.
            if standing.held or (standing.open and submission is not None and self._active(submission)):
                raise RunHeldError(f"run {run!r} has a driver; cancel it first, and resume it when that has ended")
            if submission is not None and standing.open and submission.wanted is Wanted.DRIVEN:
                raise RunStateError(f"run {run!r} is being driven on already")
            more = Extension(request.evaluations, request.minutes)
            self._check_more(folder, standing, more)
            options = {"evaluations": request.evaluations, "minutes": request.minutes}
            if submission is None:
                self._state.submit(run, standing.kind, submitter, options)
            else:
                self._state.resume(run, options)
        return self.summary(run)

    def delete(self, run: str) -> None:
        """See `Service.delete`.

        Raises:
            RunHeldError: a driver has it, or may have at any moment.
            RunStateError: a run that waits or runs needs it, or its rows are in a database server.
        """
        with self._changing:
            folder, submission = self._runs.get(run), self._state.submission(run)
            if folder.store_file.is_file():
                raise RunStateError(
                    f"run {run!r} has its rows in a database server; remove its schema there, then its folder"
                )
            if is_held(folder) or (submission is not None and (submission.waits or self._active(submission))):
                raise RunHeldError(
                    f"run {run!r} waits or is being driven; cancel it first, and delete it when it has ended"
                )
            if submission is not None and submission.wanted is Wanted.DRIVEN and self._open(run):
                raise RunHeldError(f"run {run!r} is about to be driven on; cancel it first")
            if any(task.kind == TaskKind.EXPORT and task.of == run for task in self._state.open_tasks()):
                raise RunHeldError(f"run {run!r} is being exported; delete it when that is done")
            if users := self._users(run):
                raise RunStateError(f"run {run!r} is needed by {', '.join(users)}; delete it when they have ended")
            self._trash.mkdir(parents=True, exist_ok=True)
            # First forgotten, lest it be started; then moved at once, lest half of it be shown.
            self._state.forget(run)
            gone = self._trash / f"{run}.{secrets.token_hex(8)}"
            try:
                folder.path.rename(gone)
            except OSError as error:
                raise StoreError(f"{folder.path} cannot be removed: {error.strerror}") from None
            self._standings.forget(run)
        shutil.rmtree(gone, ignore_errors=True)  # what is left of it, the next server removes

    def logs(self, run: str) -> str:
        """See `Service.logs`; the last million characters."""
        self._runs.get(run)
        submission = self._state.submission(run)
        texts: list[str] = []
        for job in reversed([] if submission is None else submission.jobs):  # a run may have had hundreds
            texts.insert(0, self._jobs.logs(job))
            if sum(map(len, texts)) >= _LOG_CHARACTERS:
                break
        return "".join(texts)[-_LOG_CHARACTERS:]

    def facts(self, run: str) -> JobFacts:
        """What the run's job file says."""
        return self._facts.of(run)

    def _check_more(self, folder: RunFolder, standing: RunSnapshot, more: Extension) -> None:
        if more and not self._kinds.of(folder.id).begun:
            raise RunStateError(
                f"run {folder.id!r} has not begun, so its budget is its job's; resume it without a new one"
            )
        if more:
            with Run(folder, self._runs).store() as store:
                more.of(store, folder.id)
        elif standing.status is RunStatus.FINISHED:
            hint = " without more evaluations or minutes" if standing.kind == "search" else ""
            raise RunStateError(f"run {folder.id!r} is finished; there is nothing to resume{hint}")

    def _active(self, submission: Submission) -> bool:
        """Whether its last driver's process has not ended; no where that cannot be told: its lease tells, too."""
        job = submission.job
        if job is None:
            return False
        with suppress(ServiceError):
            return self._jobs.states([job]).get(job, JobState.ENDED) is not JobState.ENDED
        return False

    def _open(self, run: str, *, damaged: bool = False) -> bool:
        """Whether a run has not ended.

        Args:
            damaged: what is said of one that cannot be read.
        """
        with suppress(StoreError):
            return self._standings.of(run).open
        return damaged

    def _users(self, run: str) -> list[str]:
        """Runs that wait or run, and start from this one."""
        found = []
        for submission in self._state.submissions():
            if submission.run != run and submission.wanted is Wanted.DRIVEN:
                with suppress(NasError):
                    if (submission.waits or self._open(submission.run)) and run in self._facts.of(submission.run).needs:
                        found.append(submission.run)
        return found

    def _queue(self) -> dict[str, int]:
        """The places of those that wait, from 1."""
        waiting = [submission.run for submission in self._state.submissions() if submission.waits]
        return {run: place for place, run in enumerate(waiting, start=1)}

    def _listed(self, folder: RunFolder, submission: Submission | None, queue: Mapping[str, int]) -> schemas.RunSummary:
        try:
            return self._told(folder.id, self._standings.of(folder.id), submission, queue)
        except NasError as error:
            live = is_held(folder)  # its driver is making it at this moment
            damaged = RunSnapshot(
                RunStatus.QUEUED if live else RunStatus.FAILED,
                live,
                0,
                reason="" if live else f"cannot be read: {error}",
            )
            return self._told(folder.id, damaged, submission, queue)

    def _told(
        self, run: str, standing: RunSnapshot, submission: Submission | None, queue: Mapping[str, int]
    ) -> schemas.RunSummary:
        waits = submission is not None and submission.waits
        status = RunStatus.QUEUED if waits else standing.status
        kind = standing.kind if submission is None else submission.kind
        name, wanted, epochs = standing.name, standing.evaluations_wanted, standing.epochs
        if not name:  # no driver has described it yet; its job file may be damaged, as anything may be
            with suppress(NasError):
                facts = self._facts.of(run)
                name, wanted, epochs = facts.name, facts.evaluations, facts.epochs
        return schemas.RunSummary(
            run=run,
            name=name or run,
            kind=cast(schemas.RunKind, kind),
            status=cast(schemas.RunStatusName, str(status)),
            reason=_reason(standing, submission, queue.get(run), self._problem()),
            live=standing.held,
            submitted=None if submission is None else _time(submission.submitted),
            submitter="" if submission is None else submission.submitter,
            queue_position=queue.get(run),
            started=_time(standing.started),
            ended=None if waits else _time(standing.ended),
            evaluations=standing.evaluations,
            evaluations_wanted=0 if kind == "training" else wanted,
            epoch=standing.epoch,
            epochs=epochs,
        )


def _reason(standing: RunSnapshot, submission: Submission | None, place: int | None, problem: str) -> str:
    """Why a run ended, or what keeps it waiting."""
    if place is not None:
        told = "waits for a place" if place == 1 else f"waits behind {place - 1} others"
        return f"{told}; no job can be started now: {problem}" if problem else told
    if not standing.open:
        return standing.reason
    if submission is None:
        if standing.held:
            return standing.reason
        return "has no driver: it was interrupted" if standing.status is RunStatus.RUNNING else "was never started"
    if submission.wanted is Wanted.CANCELLED:
        return "is being cancelled"
    if not standing.held:
        return "its driver is starting"
    return standing.reason


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
