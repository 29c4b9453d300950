"""The dispatcher: takes the next step of every submitted run and task, and records each before it is taken."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from nas.engine.run_listing import RunSnapshot
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunFolder
from nas.engine.store.opening import open_store
from nas.errors import NasError, RunHeldError, StoreError
from nas.service.background import BackgroundRounds
from nas.service.jobs.active_times import ActiveTimes
from nas.service.jobs.driver_jobs import DriverJobs
from nas.service.jobs.job_runner import JobRunner, JobState
from nas.service.jobs.next_steps import Step, deaths, is_active, steps
from nas.service.jobs.run_queue import RunQueue
from nas.service.jobs.task_queue import TaskQueue, joining
from nas.service.settings import ServiceSettings
from nas.service.state import RequestedState, ServiceState, Submission
from nas.service.uploads.storage_checks import check_disk_space
from nas.service.views.run_index import RunIndex

_BUSY_S, _IDLE_S = 0.5, 5.0
"""Between two rounds while something waits or runs, and while nothing does."""
_LOOK_AGAIN_S = 30.0
"""Before a run that could not be read, or one that had ended, is read again."""

_OPEN = (RunStatus.QUEUED, RunStatus.RUNNING)

DriverCommand = Callable[[ServiceSettings, Submission, str | None], list[str]]
"""The command that drives a run of a server, with the address of the Ray cluster to join."""

logger = logging.getLogger(__name__)


class Dispatcher(BackgroundRounds):
    """Starts, resumes, stops and fails the runs of one server, and runs its tasks. Safe to use from several threads.

    Its state is in the database of the server before any job is started or stopped, so that the server may be killed
    between any two steps.

    Args:
        address: of the Ray cluster that drivers join, or None for drivers without Ray.
        command: what drives a run; None for `driver_command`.
        ended: called when a run has ended; it may be called several times for one end.
        clock: seconds, of any origin.
        wall_clock: Seconds since the epoch.

    Attributes:
        driver_deaths: Number of drivers that it has found dead.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        runner: JobRunner,
        *,
        address: Callable[[], str | None],
        index: RunIndex | None = None,
        command: DriverCommand | None = None,
        ended: Callable[[Submission, RunSnapshot], None] = lambda submission, snapshot: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("dispatcher", retry_s=_BUSY_S)
        self._settings, self._state, self._clock, self._wall_clock = settings, state, clock, wall_clock
        self._ended = ended
        self._index, make = index or RunIndex(settings.runs), command or driver_command
        self._active = ActiveTimes(state, clock)
        self.queue = RunQueue(settings, state, self._index, active=self._active.elapsed_s)
        self._drivers = DriverJobs(
            runner,
            settings.runs,
            lambda submission: make(settings, submission, address()),
            warn=self._warn,
            clock=clock,
        )
        self._tasks = TaskQueue(state, runner, stop=self._drivers.stop, address=address)
        self._busy, self._disk_problem, self.driver_deaths = False, "", 0
        self._settled: dict[str, Submission] = {}  # runs that need no step while their submissions stay as they are
        self._looked = clock()  # when those were last read
        self._unreadable: dict[str, float] = {}  # runs that are damaged or gone, and until when they are skipped
        self._logged: dict[str, str] = {}  # the last warning about a run, so that it is not logged every round
        self._ticking = threading.Lock()

    @property
    def problem(self) -> str:
        """Why no job can be started; "" where jobs can be started."""
        return self._disk_problem or self._drivers.problem

    def tick(self) -> list[tuple[str, str]]:
        """Runs one round; the steps taken, by run or task."""
        with self._ticking:
            return self._round()

    def work(self) -> float:
        """Runs one round; the seconds until the next: fewer while something waits or runs."""
        self.tick()
        return _BUSY_S if self._busy else _IDLE_S

    def _round(self) -> list[tuple[str, str]]:
        self._look_at_disk()
        submissions = self._state.submissions()
        submitted_runs = {s.run for s in submissions}
        self._settled = {run: s for run, s in self._settled.items() if run in submitted_runs}
        self._check_settled()
        unsettled = [s for s in submissions if self._settled.get(s.run) != s]
        tasks = self._tasks.look()
        wanted = {*self._tasks.jobs, *(s.job for s in unsettled if s.job is not None)}
        # Read before any run is, see `RunSnapshot`.
        jobs = self._drivers.states(wanted) if tasks or wanted or any(s.waits for s in unsettled) else {}
        did: list[tuple[str, str]] = []
        if jobs is None:  # runs that have a job, or need one, must wait; the others can still be cancelled
            unsettled = [s for s in unsettled if s.job is None and s.wanted is RequestedState.CANCELLED]
            jobs = {}
        else:
            did += self._tasks.tick(jobs)
            jobs = self._drivers.confirmed(unsettled, jobs)
        snapshots = {s.run: snapshot for s in unsettled if (snapshot := self._snapshot(s.run)) is not None}
        self._active.look(unsettled, snapshots, jobs)
        ordered, resumes, start = self.queue.order(unsettled), self._settings.resumes, not self._disk_problem
        share, now = self.queue.share, self._wall_clock()
        for submission, step in steps(ordered, snapshots, jobs, share=share, resumes=resumes, may_start=start, now=now):
            if self._apply(submission, snapshots[submission.run], step):
                did.append((submission.run, str(step)))
        self._settle(unsettled, snapshots, jobs)
        for submission in unsettled:
            if submission.run not in snapshots:
                self._end_unread(submission, active=is_active(submission, jobs))
        self._busy = len(self._settled) < len(submitted_runs) or self._tasks.open
        return did

    def _look_at_disk(self) -> None:
        """Looks for free space on the disk of the runs: without it each driver would die, for no fault of its run."""
        try:
            check_disk_space(self._settings.runs.root)
            problem = ""
        except (StoreError, OSError) as error:
            problem = str(error)
        if problem and not self._disk_problem:
            logger.warning("no driver is started: %s", problem)
        self._disk_problem = problem

    def _check_settled(self) -> None:
        """Reads settled runs again now and then: a command may have resumed one, and left it."""
        if self._clock() < self._looked + _LOOK_AGAIN_S:
            return
        self._looked = self._clock()
        for run in list(self._settled):
            snapshot = self._snapshot(run)
            if snapshot is None or snapshot.open or snapshot.has_driver:
                del self._settled[run]

    def _end_unread(self, submission: Submission, *, active: bool) -> None:
        """Stops the driver of a run that cannot be read, and is cancelled or gone; forgets a run that is gone."""
        # Where the whole runs folder is missing, no run is gone.
        is_removed = self._settings.database.exists() and not self._settings.runs.holds(submission.run)
        try:
            if active and (is_removed or submission.wanted is RequestedState.CANCELLED):
                self._drivers.stop(str(submission.job))
            elif is_removed and not active and self._state.forget_if(submission):
                logger.warning("forgotten: it was removed by hand", extra={"run": submission.run})
        except NasError as error:
            self._warn(submission.run, f"cannot be ended: {error}")

    def _snapshot(self, run: str) -> RunSnapshot | None:
        if self._clock() < self._unreadable.get(run, -math.inf):
            return None
        try:
            return self._index.snapshot(run)
        except NasError as error:
            self._warn(run, f"skipped: {error}")
            self._unreadable[run] = self._clock() + _LOOK_AGAIN_S
            return None

    def _apply(self, submission: Submission, snapshot: RunSnapshot, step: Step) -> bool:
        """Takes one step; whether it was taken. A failure affects this run only."""
        try:
            done = self._take(submission, snapshot, step)
        except RunHeldError:
            return False  # a driver took the run in between; the next round sees it
        except NasError as error:
            self._warn(submission.run, f"cannot {step}: {error}")
            return False
        except Exception:
            logger.exception("cannot %s", step, extra={"run": submission.run})
            return False
        if done:
            self.driver_deaths += step in (Step.RESTART, Step.FAIL) and snapshot.away is None
            logger.info("%s", step, extra={"run": submission.run})
            self._logged.pop(submission.run, None)
        return done

    def _warn(self, run: str, text: str) -> None:
        if self._logged.get(run) != text:
            self._logged[run] = text
            logger.warning("%s", text, extra={"run": run})

    def _take(self, submission: Submission, snapshot: RunSnapshot, step: Step) -> bool:
        folder = self._settings.runs.get(submission.run)
        match step:
            case Step.START:
                if not snapshot.open:
                    requeue_run(folder)
                    self._index.changed(folder.id)
                return self._start(submission, snapshot, died=0)
            case Step.RESTART:
                return self._start(submission, snapshot, died=deaths(submission, snapshot))
            case Step.RETRY:
                count_try(folder, self._wall_clock())
                return self._start(submission, snapshot, died=0)
            case Step.STOP:
                return self._drivers.stop(str(submission.job))
            case Step.CANCEL:
                end_run(folder, RunStatus.CANCELLED, "cancelled")
                self._index.changed(folder.id)
            case Step.FAIL:
                if snapshot.away is None:
                    reason = self._drivers.why_died(submission, deaths(submission, snapshot))
                else:
                    reason = snapshot.away.given_up
                end_run(folder, RunStatus.FAILED, reason)
                self._index.changed(folder.id)
        return True

    def _start(self, submission: Submission, snapshot: RunSnapshot, *, died: int) -> bool:
        values: dict[str, Any] = {"attempt": submission.attempt + 1, "started": True, "deaths": died}
        values |= {"progress": snapshot.progress, "place": None}
        self._active.begin(submission.run)  # before it leaves those that wait: the queue shows it at every moment
        if not self._state.change_if(submission, **values):
            return False  # it was cancelled or resumed at this moment
        self._drivers.start(replace(submission, **values))
        return True

    def _settle(
        self, submissions: Sequence[Submission], snapshots: Mapping[str, RunSnapshot], jobs: Mapping[str, JobState]
    ) -> None:
        """Marks the runs that have ended, so that no round reads them until they are resumed."""
        for submission in submissions:
            snapshot = snapshots.get(submission.run)
            if snapshot and not (
                snapshot.open or snapshot.has_driver or is_active(submission, jobs) or submission.waits
            ):
                self._ended(submission, snapshot)
                self._settled[submission.run] = submission


def requeue_run(folder: RunFolder) -> None:
    """Records that a run that has ended is queued again; leaves any other as it is.

    Raises:
        RunHeldError: a live driver has the run.
        StoreError: its database cannot be read or written.
    """
    with closing(open_store(folder, driver=True)) as store:
        if store.status() not in _OPEN:
            store.update_state(away=None)
            store.set_status(RunStatus.QUEUED)


def count_try(folder: RunFolder, now: float) -> None:
    """Records that a driver is started to try a machine that is away, before it is. Raises as `requeue_run`."""
    with closing(open_store(folder, driver=True)) as store:
        if (away := store.state().away) is not None:
            store.update_state(away=away.next(now))


def end_run(folder: RunFolder, status: RunStatus, reason: str) -> None:
    """Records the end of a run that waits, or whose driver is gone; leaves one that has ended. Raises as `requeue_run`."""
    with closing(open_store(folder, driver=True)) as store:
        if store.status() in _OPEN:
            store.update_state(away=None)
            store.set_status(status, reason=reason)


def driver_command(settings: ServiceSettings, submission: Submission, address: str | None) -> list[str]:
    """The command that starts a run, or resumes it from its store."""
    options = submission.options
    command = [sys.executable, "-P", "-m", "nas.cli", "drive", submission.run]
    command += ["--runs", str(settings.runs.root.resolve()), "--kind", submission.kind]
    command += joining(address)
    for name in ("evaluations", "minutes", "extension"):
        if name in options:
            command += [f"--{name}", str(options[name])]
    command += ["--retry-failed"] if options.get("retry_failed") else []
    return command
