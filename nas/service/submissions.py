"""Changes to runs that clients ask for: submit, label, cancel, resume, delete."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress

from nas.engine.resumption import Resumption
from nas.engine.run_listing import RunSnapshot
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import write_atomically
from nas.engine.store.labels import Labels, write_labels
from nas.engine.store.opening import database_of, is_held, new_place, open_store
from nas.errors import JobError, RunHeldError, RunStateError, SelectionError, ServiceError, StoreError, TooManyError
from nas.jobs.schema import SearchJob
from nas.runs.finetuning.job import finetuning_job
from nas.runs.run import Run
from nas.service.api import schemas
from nas.service.jobs.driver_jobs import output_after
from nas.service.jobs.job_runner import JobRunner, JobState
from nas.service.jobs.run_queue import RunQueue
from nas.service.ownership import Ownership, Right, Thing, ThingKind
from nas.service.people import Role, current_caller
from nas.service.settings import ServiceSettings, Webhook
from nas.service.state import RUN_TASKS, Priority, RequestedState, ServiceState
from nas.service.uploads.deletion import move_away
from nas.service.uploads.job_validation import JobValidator
from nas.service.uploads.storage_checks import check_disk_space
from nas.service.views.jobs import fields_of
from nas.service.views.open_runs import OpenRuns
from nas.service.views.run_index import RunIndex
from nas.service.views.run_summaries import RunSummaries
from nas.service.webhooks import checked_webhook

_LOG_BYTES = 1024 * 1024


class Submissions:
    """The runs of a server's folder; what clients want of them is recorded, and the dispatcher acts on it."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        state: ServiceState,
        runner: JobRunner,
        validator: JobValidator,
        index: RunIndex,
        summaries: RunSummaries,
        users: OpenRuns,
        owners: Ownership,
        run_queue: RunQueue,
        planned_s: Callable[[SearchJob, schemas.RunKind], float | None],
        wake: Callable[[], None],
    ) -> None:
        self._runs, self._limits, self._trash = settings.runs, settings.limits, settings.trash
        self._store = settings.store
        self._state, self._runner, self._validator = state, runner, validator
        self._index, self._summaries, self._users, self._wake = index, summaries, users, wake
        self._private_webhooks = settings.private_webhooks
        self._owners, self._run_queue, self._planned_s = owners, run_queue, planned_s
        self._changing = threading.Lock()

    def check(self, submission: schemas.JobSubmission) -> schemas.JobCheck:
        """The problems of a job by field, and its usual settings where it can be read; nothing is written."""
        fields = None
        try:
            text, job = self._validator.parsed(submission)
            fields = fields_of(job)
            self._validator.resolved(text, job, submission.kind)
        except JobError as error:
            problems = error.fields or [("", str(error))]
            errors = tuple(schemas.FieldProblem(field=key, message=text) for key, text in problems)
            return schemas.JobCheck(ok=False, errors=errors, fields=fields)
        return schemas.JobCheck(ok=True, fields=fields)

    def submit(self, submission: schemas.JobSubmission, submitter: str = "") -> schemas.RunSummary:
        """A queued run of a job: its folder, its job file, its store and its submission, created in this order.

        Raises:
            JobError: the job or the webhook is rejected.
            NotAllowedError: its priority is for administrators.
            TooManyError: too many runs wait already, of all people or of this one.
            StoreError: the runs folder cannot be written, its disk is nearly full, or the database server does not answer.
        """
        priority = Priority(submission.priority)
        self._check_priority(Priority.NORMAL, priority)
        validated = self._validator.validated(submission)
        webhook = self._checked_webhook(submission.webhook)
        check_disk_space(self._runs.root)
        expected_s = self._planned_s(validated.job, submission.kind)
        with self._changing:
            self._check_room(submitter)
            # If the server is killed in between, the run is listed as never started.
            place = None if self._store is None else new_place(self._store, validated.job.name)
            folder = self._runs.create(validated.job.name, validated.job.to_yaml(), store=place)
            try:
                write_atomically(folder.submitted_file, validated.text.encode())
                open_store(folder, create=True, driver=True).close()
                self._state.submit(
                    folder.id,
                    submission.kind,
                    submitter,
                    webhook=webhook,
                    priority=priority,
                    expected_s=expected_s,
                )
            except BaseException:  # its client gets the error, and may try again many times
                with suppress(StoreError):  # the first error is the one to report
                    database_of(folder).remove()
                shutil.rmtree(folder.path, ignore_errors=True)
                raise
        self._wake()
        return self._summaries.summary(folder.id)

    def _checked_webhook(self, request: schemas.WebhookRequest | None) -> Webhook | None:
        if request is None:
            return None
        return checked_webhook(request.url, request.secret, allow_private=self._private_webhooks)

    def finetune(self, run: str, request: schemas.FinetuningRequest, submitter: str = "") -> schemas.RunSummary:
        """A queued run that fine-tunes one network of a search; its job is checked as that of any other submission.

        Raises:
            SelectionError: there is no such network, or the run is a training.
            JobError: the job of the run names something that submitted jobs may not.
        """
        if request.select is not None and request.index is not None:
            raise SelectionError("expected select or index, or neither for the front's knee; got both")
        if self._index.snapshot(run).kind == "training":
            text = (
                f"run {run!r} is a training, whose networks are measured by a search; fine-tune a network of a search"
            )
            raise SelectionError(text, code="run.not-a-search")
        job = finetuning_job(Run.open(self._runs, run), **request.model_dump(), job=self._index.written_job(run))
        return self.submit(schemas.JobSubmission(job=job.to_yaml()), submitter)

    def label(self, run: str, labels: schemas.RunLabels) -> schemas.RunSummary:
        """Replaces the tags and the note of a run in any state.

        Raises:
            NasError: a tag is not a word.
            NotAllowedError: it is another person's.
            StoreError: the runs folder cannot be written.
        """
        with self._changing:
            self._check_change(run, "label")
            write_labels(self._runs.get(run), Labels(labels.tags, labels.note))
        return self._summaries.readable(run)

    def cancel(self, run: str) -> schemas.RunSummary:
        """Records that a run shall end; it can be resumed. Durable before it returns, and after any restart.

        Raises:
            RunStateError: it has ended otherwise, or is driven by a command that the service did not start.
            StoreError: it was not submitted here, and cannot be read.
        """
        with self._changing:
            self._runs.get(run)
            submission = self._state.submission(run)
            if submission is not None and (
                submission.waits or self._users.is_open(run, unreadable=True) or self._active(run)
            ):
                self._state.cancel(run)
                self._wake()
                return self._summaries.readable(run)
            snapshot = self._index.snapshot(run)
            if submission is None and snapshot.open:
                if snapshot.has_driver:
                    text = f"run {run!r} was started by a command on the server's machine; end it there"
                    raise RunStateError(text, code="run.not-submitted")
                text = f"run {run!r} has no driver that could be cancelled; resume it, or delete it"
                raise RunStateError(text, code="run.abandoned")
            if snapshot.status is not RunStatus.CANCELLED:
                raise RunStateError(f"run {run!r} is {snapshot.status}; there is nothing to cancel", code="run.ended")
        return self._summaries.summary(run)

    def resume(self, run: str, request: schemas.ResumeRequest, submitter: str = "") -> schemas.RunSummary:
        """Queues a run again that has ended, or that was started by a command and interrupted.

        Raises:
            RunHeldError: a driver has it.
            RunStateError: it waits or runs already, is finished and the request leaves nothing to do, or has no failure to
                retry.
            NasError: its budget cannot be extended as requested.
            JobError: its job names something that is hidden from its owner by now.
            NotAllowedError: it is another person's.
            TooManyError: as `submit`.
        """
        with self._changing:
            self._check_change(run, "resume")
            snapshot, submission = self._index.snapshot(run), self._state.submission(run)
            if submission is not None and submission.waits:
                raise RunStateError(f"run {run!r} is queued already", code="run.queued")
            # A driver that has recorded its run's end and released it is no hindrance while its process ends.
            if snapshot.has_driver or (snapshot.open and self._active(run)):
                raise RunHeldError(f"run {run!r} has a driver; cancel it first, and resume it when that has ended")
            tries_now = snapshot.away is not None  # instead of at the time of its next try
            if (
                submission is not None
                and snapshot.open
                and submission.wanted is RequestedState.DRIVEN
                and not tries_now
            ):
                raise RunStateError(f"run {run!r} is being resumed already", code="run.queued")
            more = Resumption(request.evaluations, request.minutes, retry_failed=request.retry_failed)
            self._check_changes(run, snapshot, more)
            self._users.check_seen(run)
            self._check_room(submitter if submission is None else submission.submitter)
            options = request.model_dump(exclude_defaults=True)
            if submission is None:
                self._state.submit(run, snapshot.kind, submitter, options)
            else:
                self._state.resume(run, options)
        self._wake()
        return self._summaries.summary(run)

    def reorder(self, run: str, change: schemas.QueueChange) -> schemas.RunSummary:
        """Changes the priority of a run that waits, or its position in the queue.

        Raises:
            NotAllowedError: it is another person's, or this is for administrators.
            RunStateError: it does not wait.
        """
        with self._changing:
            self._check_change(run, "prioritise")
            self._runs.get(run)
            submission = self._state.submission(run)
            if submission is None or not submission.waits:
                raise RunStateError(f"run {run!r} does not wait; there is no order to change", code="run.not-queued")
            if change.priority is not None:
                self._check_priority(submission.priority, Priority(change.priority))
            if change.position is not None:
                self._owners.check(current_caller(), Right(Role.ADMINISTRATOR, action="place a run in the queue"))
            if change.priority is not None:
                self._state.change(run, priority=change.priority)
            if change.position is not None:
                self._run_queue.move(run, change.position)
        self._wake()
        return self._summaries.readable(run)

    def delete(self, run: str) -> None:
        """Removes a run that has no driver, with all of its files.

        Raises:
            RunHeldError: a driver has it, or may have at any moment.
            RunStateError: a run that waits or runs needs it.
            StoreAwayError: its rows are in a database server that does not answer now.
        """
        with self._changing:
            folder, submission = self._runs.get(run), self._state.submission(run)
            if is_held(folder) or self._active(run) or (submission is not None and submission.waits):
                raise RunHeldError(f"run {run!r} is queued or running; cancel it, and delete it when it has ended")
            if submission is not None and submission.wanted is RequestedState.DRIVEN and self._users.is_open(run):
                raise RunHeldError(f"run {run!r} is about to be resumed; cancel it first")
            if tasks := [task for task in self._state.open_tasks() if task.kind in RUN_TASKS and task.of == run]:
                text = f"the {tasks[0].kind} {tasks[0].task} of run {run!r} is {tasks[0].status}; delete the run afterwards"
                raise RunHeldError(text, code="run.exporting")
            if users := self._users.needing_run(run):
                raise RunStateError(
                    f"run {run!r} is needed by {', '.join(users)}; delete it when they have ended", code="run.needed"
                )
            self._users.check_unused(folder.path.absolute(), f"run {run!r}")  # its lookup tables
            database_of(folder).remove()
            self._state.forget(run)  # before its folder is gone, so that no driver is started
            trashed = move_away(folder.path, self._trash)
            self._index.forget(run)
        shutil.rmtree(trashed, ignore_errors=True)  # the next server removes what this one could not

    def logs(self, run: str) -> str:
        """The output of the run's drivers, the oldest first: the last million bytes."""
        return self.logs_after(run, 0)[0]

    def logs_after(self, run: str, after: int) -> tuple[str, int]:
        """The output after a number of bytes, at most a million, and the number to continue after."""
        return output_after(self._runs.get(run), after, _LOG_BYTES)

    def _check_change(self, run: str, verb: str) -> None:
        """Raises `NotAllowedError` or `UnknownNameError` where the sender of the request may not change a run, which may
        be another one of the same id than when the request began: its body comes later."""
        right = Right(Role.MEMBER, Thing(ThingKind.RUN, run), changes=True, action=f"{verb} run")
        self._owners.check(current_caller(), right)

    def _check_priority(self, before: Priority, after: Priority) -> None:
        """Raises `NotAllowedError` where the sender of the request may not raise a priority."""
        if after.rank > before.rank:
            right = Right(Role.ADMINISTRATOR, action=f"raise a priority from {before} to {after}")
            self._owners.check(current_caller(), right)

    def _check_room(self, person: str) -> None:
        """Raises `TooManyError` if too many runs wait already, of all people or of this one."""
        waiting = [submission for submission in self._state.submissions() if submission.waits]
        if len(waiting) >= self._limits.queued:
            raise TooManyError(f"{len(waiting)} runs wait already, the limit; submit again when some have ended")
        of_person = sum(submission.submitter == person for submission in waiting)
        if person and of_person >= self._limits.queued_of_person:
            text = (
                f"{of_person} runs of {person} wait already, the limit of a person; submit again when some have started"
            )
            raise TooManyError(text, code="queue.person-limit")

    def _check_changes(self, run: str, snapshot: RunSnapshot, more: Resumption) -> None:
        if more and not snapshot.begun:
            text = f"run {run!r} has not begun, so that there is nothing to change; resume it as it is"
            raise RunStateError(text, code="run.not-begun")
        if more:
            with Run.open(self._runs, run).store() as store:
                more.check(store, run)
        elif snapshot.status is RunStatus.FINISHED:
            hint = " without more evaluations or minutes" if snapshot.kind == "search" else ""
            raise RunStateError(f"run {run!r} is finished; there is nothing to resume{hint}", code="run.ended")

    def _active(self, run: str) -> bool:
        """True if the last driver's process has not ended; False if the runner does not answer: see the run's lease then."""
        submission = self._state.submission(run)
        job = None if submission is None else submission.job
        if job is None:
            return False
        with suppress(ServiceError):
            return self._runner.states([job]).get(job, JobState.ENDED) is not JobState.ENDED
        return False
