"""Does for submitted runs and tasks what is to be done next, again and again, each step recorded before it is taken."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.engine.run_table import RunSnapshot
from nas.errors import NasError, RunHeldError, ServiceError
from nas.service import service_statuses as marks
from nas.service.jobs.runner import JobRunner, JobState
from nas.service.jobs.steps import Step, deaths, steps
from nas.service.jobs.tasks import Tasks
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, Submission, Wanted
from nas.service.views.run_status import Standings
from nas.store.base import RunStatus

_BUSY_S, _IDLE_S = 0.5, 5.0
"""Between two rounds while something waits or runs, and while nothing does."""
_STOP_AGAIN_S = 10.0
"""Before a job that was asked to end is asked again."""
_LOOK_AGAIN_S = 30.0
"""Before a run that could not be read, or one that had ended, is looked at again."""
_LOG_LINES, _LOG_CHARACTERS = 3, 600

DriverCommand = Callable[[ServiceSettings, Submission, str | None], list[str]]
"""The command that drives a run of a server, with the address of the Ray cluster to join."""

logger = logging.getLogger(__name__)


class Dispatcher:
    """Starts, resumes, stops and gives up the runs of one server, and runs its tasks. Safe to use from several threads.

    It keeps nothing of its own that a later one would need: what it has done is in the state before the job is, so that
    the server may end between any two steps.

    Args:
        address: of the Ray cluster that drivers join, or None for drivers without Ray.
        command: what drives a run; None for `driver_command`.
        clock: seconds, of any beginning.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        state: ServiceState,
        runner: JobRunner,
        *,
        address: Callable[[], str | None],
        standings: Standings | None = None,
        command: DriverCommand | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._state, self._runner = settings, state, runner
        self._address, self._clock = address, clock
        self._command = command or driver_command
        self._standings = standings or Standings(settings.runs)
        self._tasks = Tasks(state, runner)
        self._problem = ""
        self._known: set[str] = set()
        self._settled: dict[str, Submission] = {}  # runs of which nothing is to be done while they are as they were
        self._looked = clock()  # when those were last looked at
        self._unreadable: dict[str, float] = {}  # runs that are damaged or gone, and until when they are passed over
        self._unsure: set[str] = set()  # jobs that may not have been started, though they were to be
        self._stopped: dict[str, float] = {}  # when jobs were asked to end
        self._told: dict[str, str] = {}  # what was last logged of a run, so that it is not every round
        self._ticking = threading.Lock()
        self._woken, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_ticking, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begins to do rounds, in the background."""
        self._thread.start()

    def wake(self) -> None:
        """Has the next round begin at once: something was submitted, cancelled or resumed."""
        self._woken.set()

    def close(self) -> None:
        """Ends doing rounds, once the present one is done; idempotent."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def problem(self) -> str:
        """What keeps jobs from being started; "" where nothing does."""
        return self._problem

    def tick(self) -> list[tuple[str, str]]:
        """One round: what was done, by run or task."""
        with self._ticking:
            return self._round()

    def _keep_ticking(self) -> None:
        failed = ""
        while not self._closing.is_set():
            self._woken.clear()
            try:
                self.tick()
                failed = ""
            except (
                Exception
            ) as error:  # the server's own databases: nothing else can tell, and the next round may go well
                if repr(error) != failed:  # else every round would, into a disk that may be full already
                    failed = repr(error)
                    logger.exception("a round of the dispatcher failed, and is tried again until one does not")
            busy = len(self._settled) < len(self._known) or self._tasks.open
            self._woken.wait(_BUSY_S if busy else _IDLE_S)

    def _round(self) -> list[tuple[str, str]]:
        submissions = self._state.submissions()
        self._known = {s.run for s in submissions}
        self._settled = {run: s for run, s in self._settled.items() if run in self._known}
        self._look_at_settled()
        unsettled = [s for s in submissions if self._settled.get(s.run) != s]
        tasks = self._tasks.look()
        wanted = {*self._tasks.jobs, *(s.job for s in unsettled if s.job is not None)}
        jobs = self._jobs(wanted) if tasks or wanted or any(s.waits for s in unsettled) else {}
        did: list[tuple[str, str]] = []
        if jobs is None:  # what has a job, or is to have one, must wait; the others can still be cancelled
            unsettled = [s for s in unsettled if s.job is None and s.wanted is Wanted.CANCELLED]
            jobs = {}
        else:
            did += self._tasks.tick(jobs)
            jobs = self._with_unsure(unsettled, jobs)
        standings = {s.run: standing for s in unsettled if (standing := self._standing(s.run)) is not None}
        at_once, resumes = self._settings.jobs_at_once, self._settings.resumes
        for submission, step in steps(unsettled, standings, jobs, at_once=at_once, resumes=resumes):
            if self._apply(submission, standings[submission.run], step):
                did.append((submission.run, str(step)))
        self._settle(unsettled, standings, jobs)
        for submission in unsettled:
            if submission.run not in standings:
                self._do_unread(submission, jobs)
        return did

    def _look_at_settled(self) -> None:
        """Now and then: a person may have driven one of those runs on, and left it."""
        if self._clock() < self._looked + _LOOK_AGAIN_S:
            return
        self._looked = self._clock()
        for run in list(self._settled):
            standing = self._standing(run)
            if standing is None or standing.open or standing.held:
                del self._settled[run]

    def _is_gone(self, run: str) -> bool:
        """Whether somebody has removed a run by hand; no where it is the whole runs folder that is not there."""
        return self._settings.database.exists() and not self._settings.runs.holds(run)

    def _do_unread(self, submission: Submission, jobs: Mapping[str, JobState]) -> None:
        """Does what can be done for a run that cannot be read: its driver is not wanted where it is cancelled or gone."""
        active = jobs.get(str(submission.job), JobState.ENDED) is not JobState.ENDED
        gone = self._is_gone(submission.run)
        try:
            if active and (gone or submission.wanted is Wanted.CANCELLED):
                self._stop(str(submission.job))
            elif gone and not active and self._state.forget_if(submission):
                logger.warning("forgotten: it was removed by hand", extra={"run": submission.run})
        except NasError as error:
            self._tell(submission.run, f"cannot be ended: {error}")

    def _jobs(self, wanted: Collection[str]) -> Mapping[str, JobState] | None:
        """These jobs; None where they cannot be told now. Asked before any run is looked at: see `RunSnapshot`."""
        try:
            jobs = self._runner.states(wanted)
        except ServiceError as error:
            if str(error) != self._problem:
                logger.warning("jobs cannot be run now: %s", error)
            self._problem = str(error)
            return None
        self._problem = ""
        return jobs

    def _with_unsure(self, submissions: Sequence[Submission], jobs: Mapping[str, JobState]) -> Mapping[str, JobState]:
        """The jobs, with those that are still to be started for sure: their drivers have not died."""
        wanted = {s.job: s for s in submissions if s.wanted is Wanted.DRIVEN}
        self._unsure = {job for job in self._unsure if job in wanted and job not in jobs}
        found = {**jobs, **dict.fromkeys(self._unsure, JobState.PENDING)}
        for job in sorted(self._unsure):
            self._launch(wanted[job])
        return found

    def _standing(self, run: str) -> RunSnapshot | None:
        if self._clock() < self._unreadable.get(run, -math.inf):
            return None
        try:
            return self._standings.of(run)
        except NasError as error:
            self._tell(run, f"passed over: {error}")
            self._unreadable[run] = self._clock() + _LOOK_AGAIN_S
            return None

    def _apply(self, submission: Submission, standing: RunSnapshot, step: Step) -> bool:
        """Takes one step; whether it was taken. Its failure is this run's alone."""
        try:
            done = self._take(submission, standing, step)
        except RunHeldError:
            return False  # a driver has come between; the next round sees it
        except NasError as error:
            self._tell(submission.run, f"cannot {step}: {error}")
            return False
        except Exception:
            logger.exception("cannot %s", step, extra={"run": submission.run})
            return False
        if done:
            logger.info("%s", step, extra={"run": submission.run})
            self._told.pop(submission.run, None)
        return done

    def _tell(self, run: str, text: str) -> None:
        if self._told.get(run) != text:
            self._told[run] = text
            logger.warning("%s", text, extra={"run": run})

    def _take(self, submission: Submission, standing: RunSnapshot, step: Step) -> bool:
        folder = self._settings.runs.get(submission.run)
        match step:
            case Step.START:
                if not standing.open:
                    marks.queue_again(folder)
                return self._start(submission, standing, died=0)
            case Step.RESTART:
                return self._start(submission, standing, died=deaths(submission, standing))
            case Step.STOP:
                return self._stop(str(submission.job))
            case Step.CANCEL:
                marks.end(folder, RunStatus.CANCELLED, "cancelled")
            case Step.FAIL:
                marks.end(folder, RunStatus.FAILED, self._why_given_up(submission, standing))
        return True

    def _start(self, submission: Submission, standing: RunSnapshot, *, died: int) -> bool:
        values: dict[str, Any] = {
            "attempt": submission.attempt + 1,
            "started": True,
            "deaths": died,
            "progress": standing.progress,
        }
        if not self._state.change_if(submission, **values):
            return False  # cancelled or resumed in this moment
        self._launch(replace(submission, **values))
        return True

    def _launch(self, submission: Submission) -> None:
        """Starts a recorded job, or keeps in mind that it is still to be started."""
        job = str(submission.job)
        self._unsure.add(job)
        try:
            self._runner.start(job, self._command(self._settings, submission, self._address()))
        except ServiceError as error:
            self._problem = str(error)
            self._tell(submission.run, f"not started yet: {error}")
            return
        self._unsure.discard(job)

    def _stop(self, job: str) -> bool:
        now = self._clock()
        if job in self._stopped and now < self._stopped[job] + _STOP_AGAIN_S:
            return False
        self._runner.stop(job)
        self._stopped[job] = now
        return True

    def _why_given_up(self, submission: Submission, standing: RunSnapshot) -> str:
        times = deaths(submission, standing)
        reason = "its driver died" + (f" {times} times in a row without getting any further" if times > 1 else "")
        try:
            lines = [line.strip() for line in self._runner.logs(str(submission.job)).splitlines() if line.strip()]
        except ServiceError:
            lines = []
        last = " | ".join(lines[-_LOG_LINES:])[-_LOG_CHARACTERS:]
        return f"{reason}; it last wrote: {last}" if last else f"{reason}, without a word"

    def _settle(
        self, submissions: Sequence[Submission], standings: Mapping[str, RunSnapshot], jobs: Mapping[str, JobState]
    ) -> None:
        """Notes which runs have ended, so that no round looks at them until something is wanted of them again."""
        for submission in submissions:
            standing = standings.get(submission.run)
            active = submission.job is not None and jobs.get(submission.job, JobState.ENDED) is not JobState.ENDED
            if standing is not None and not (standing.open or standing.held or active or submission.waits):
                self._settled[submission.run] = submission
                self._stopped.pop(str(submission.job), None)


def driver_command(settings: ServiceSettings, submission: Submission, address: str | None) -> list[str]:
    """The command that drives a run on, whatever it has of it already."""
    options = submission.options
    command = [sys.executable, "-P", "-m", "nas.cli", "drive", submission.run]
    command += ["--runs", str(settings.runs.root.resolve()), "--kind", submission.kind]
    command += ["--inline"] if address is None else ["--address", address]
    for name in ("evaluations", "minutes", "extension"):
        if name in options:
            command += [f"--{name}", str(options[name])]
    return command
