"""A state machine of a server whose parts are killed and restarted in any order: each run has one driver, and ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_state import RunState
from nas.errors import ServiceError
from nas.service.jobs import dispatcher as dispatcher_module
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.settings import ServiceSettings
from nas.service.state import RequestedState, ServiceState, Submission
from tests.nas.service.pretended_jobs import BUDGET, Driver, PretendedJobs

AT_ONCE, RESUMES, MORE = 2, 2, 50
EXAMPLES = int(os.environ.get("NAS_MACHINES", "15"))
"""Lives of a server; hundreds with ``NAS_MACHINES=300``."""
ENDS = {RunStatus.FINISHED, RunStatus.FAILED, RunStatus.CANCELLED}


class ServerKilledError(BaseException):
    """Nothing catches a SIGKILL."""


class Server(RuleBasedStateMachine):
    """A server, its runs and their drivers; the server's process may die before and after each of its effects."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.runs = RunsFolder(self.root / "runs")
        self.jobs = PretendedJobs(self.runs, trouble=self.trouble)
        self.left: int | None = None  # effects that the server survives
        self.meanwhile = ""  # what a driver does before the next effect
        self.outage = ""
        self.now = 0.0
        self.extensions: dict[str, int] = {}
        self.died: dict[str, int] = {}  # drivers since a run was asked for
        self.patched = pytest.MonkeyPatch()
        for name in ("requeue_run", "end_run"):
            self.patched.setattr(dispatcher_module, name, self.effect(getattr(dispatcher_module, name)))
        self.patched.setattr(ServiceState, "change_if", self.effect(ServiceState.change_if))
        self.runs.check_writable()
        self.state = ServiceState.open(self.runs.root / "service.db")
        self.boot()

    def teardown(self) -> None:
        try:
            self.check_that_every_run_ends()
        finally:
            self.patched.undo()
            self.state.close()
            for driver in self.jobs.alive():
                driver.die()
            shutil.rmtree(self.root)

    # What can go wrong

    def effect(self, call):  # type: ignore[no-untyped-def]
        def around(*args, **kwargs):  # type: ignore[no-untyped-def]
            self.survive()
            result = call(*args, **kwargs)
            self.survive()
            return result

        return around

    def survive(self) -> None:
        if does := self.meanwhile:
            self.meanwhile = ""
            self.act(0, does)
        if self.left is not None:
            if self.left == 0:
                raise ServerKilledError
            self.left -= 1

    def trouble(self, when: str) -> None:
        self.survive()
        if self.outage == when:
            raise ServiceError(f"no answer {when} it was done")

    def boot(self) -> None:
        made = ServiceSettings(self.runs, jobs_at_once=AT_ONCE, resumes=RESUMES)
        self.dispatcher = Dispatcher(made, self.state, self.jobs, address=lambda: None, clock=lambda: self.now)

    # What users do

    @precondition(lambda self: len(self.died) < 3)
    @rule()
    def submit(self) -> None:
        self.add_run()

    def add_run(self) -> None:
        folder = self.runs.create("tiny", "job")
        open_store(folder, create=True, driver=True).close()
        self.state.submit(folder.id, "search", "")
        self.died[folder.id] = 0

    @initialize()
    def submit_some(self) -> None:
        self.add_run()
        self.add_run()

    def one_of(self, number: int) -> Submission | None:
        found = self.state.submissions()
        return found[number % len(found)] if found else None

    @rule(number=st.integers(0, 3))
    def cancel(self, number: int) -> None:
        if (submission := self.one_of(number)) is not None:
            self.state.cancel(submission.run)

    @rule(number=st.integers(0, 3), more=st.booleans())
    def resume(self, number: int, more: bool) -> None:
        """As a server allows it: of what has ended, or has been cancelled before it began."""
        submission = self.one_of(number)
        if submission is None or submission.waits or self.statuses(submission.run)[-1:] == []:
            return
        if self.statuses(submission.run)[-1] not in ENDS or any(d.run == submission.run for d in self.jobs.alive()):
            return
        with_more = more and self.reason_and_state(submission.run)[1].budget is not None
        self.state.resume(submission.run, {"evaluations": f"+{MORE}" if with_more else None})
        self.extensions[submission.run] = self.extensions.get(submission.run, 0) + with_more
        self.died[submission.run] = 0

    # What happens

    @rule(meanwhile=st.sampled_from(["", "", "step", "finish", "die"]))
    def tick(self, meanwhile: str) -> None:
        """A round in which only drivers go on meanwhile."""
        self.meanwhile, self.now = meanwhile, self.now + 60
        self.dispatcher.tick()
        self.meanwhile = ""
        for submission in self.state.submissions():
            if submission.wanted is RequestedState.CANCELLED:
                assert not any(d.known_to_live for d in self.jobs.alive() if d.run == submission.run)

    @rule(survives=st.integers(0, 10))
    def tick_and_be_killed(self, survives: int) -> None:
        self.left, self.now = survives, self.now + 60
        try:
            self.dispatcher.tick()
        except ServerKilledError:
            self.boot()
            for run in self.died:
                self.died[run] += 1  # a job that was to be started may not have been
        finally:
            self.left = None

    @rule(outage=st.sampled_from(["before", "after"]))
    def tick_out_of_order(self, outage: str) -> None:
        """A round in which the runner does not answer, having done what it was asked to, or not."""
        self.outage, self.now = outage, self.now + 60
        self.dispatcher.tick()
        self.outage = ""

    @rule()
    def restart(self) -> None:
        self.boot()

    @rule(number=st.integers(0, 3), does=st.sampled_from(["step", "step", "step", "finish", "fail", "die"]))
    def something_happens_to_a_driver(self, number: int, does: str) -> None:
        self.act(number, does)

    def act(self, number: int, does: str) -> None:
        if not (alive := self.jobs.alive()):
            return
        driver = alive[number % len(alive)]
        if does in ("finish", "fail") and driver.store is None:
            does = "step"
        match does:
            case "step":
                driver.step()
                self.died[driver.run] += not driver.alive  # it found the run held, or ended
            case "finish":
                driver.end(RunStatus.FINISHED)
            case "fail":
                driver.end(RunStatus.FAILED, "no data")
            case "die":
                self.died[driver.run] += 1
                driver.die()

    @rule(number=st.integers(0, 3))
    def lose_sight_of_a_driver(self, number: int) -> None:
        """Its supervisor is killed: the runner takes it for ended, and it lives on for a moment."""
        if alive := self.jobs.alive():
            driver = alive[number % len(alive)]
            self.died[driver.run] += driver.known_to_live
            driver.known_to_live = False

    @rule()
    def lose_all_jobs(self) -> None:
        """Ray's head is killed, and with it all jobs; a new one knows none of them."""
        for driver in self.jobs.alive():
            driver.die()
        for run in self.died:
            self.died[run] += 1
        self.jobs.drivers.clear()

    # What must hold

    def statuses(self, run: str) -> list[RunStatus]:
        store = open_store(self.runs.get(run))
        try:
            return [status for status, _ in store.statuses()]
        finally:
            store.close()

    def reason_and_state(self, run: str) -> tuple[str, RunState]:
        store = open_store(self.runs.get(run))
        try:
            return store.reason(), store.state()
        finally:
            store.close()

    @invariant()
    def no_run_has_two_drivers(self) -> None:
        known = [driver.run for driver in self.jobs.drivers.values() if driver.known_to_live]
        assert len(known) == len(set(known))
        holding = [driver.run for driver in self.jobs.alive() if driver.holds]
        assert len(holding) == len(set(holding))
        assert not self.jobs.faults

    @invariant()
    def every_job_was_recorded_first(self) -> None:
        attempts = {s.run: s.attempt for s in self.state.submissions()}
        for job, driver in self.jobs.drivers.items():
            assert int(job.rpartition(".")[2]) <= attempts[driver.run]

    @invariant()
    def no_more_runs_are_driven_than_may(self) -> None:
        assert sum(driver.known_to_live for driver in self.jobs.drivers.values()) <= AT_ONCE

    def check_that_every_run_ends(self) -> None:
        """Once nothing is killed any more, each run ends as it is wanted to, having gone one way."""
        asked_for = {s.run for s in self.state.submissions() if s.waits}
        for _ in range(60):
            for driver in self.jobs.alive():
                if not driver.known_to_live:
                    driver.die()
                elif driver.store is None:
                    driver.step()
                else:
                    driver.end(RunStatus.FINISHED)
            self.now += 60
            if not self.dispatcher.tick() and not self.jobs.alive():
                break
        for submission in self.state.submissions():
            statuses = self.statuses(submission.run)
            assert statuses[-1] in ENDS, (submission, statuses)
            for before, after in pairwise(statuses):
                assert before not in ENDS or after is RunStatus.QUEUED, statuses
            assert submission.run not in asked_for or statuses[-1] is RunStatus.FINISHED
            reason, state = self.reason_and_state(submission.run)
            if reason.startswith("its driver died"):
                assert self.died[submission.run] > RESUMES
            if state.budget is not None:
                if statuses[-1] is RunStatus.FINISHED and submission.wanted is RequestedState.DRIVEN:
                    assert state.extension == submission.options.get("extension", state.extension)
                spent = state.budget.evaluations - BUDGET
                assert spent % MORE == 0
                assert spent <= MORE * self.extensions.get(submission.run, 0)


TestServer = Server.TestCase
TestServer.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


def test_the_drivers_of_these_tests_do_as_the_real_ones(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)
    open_store(runs.create("tiny", "job"), create=True, driver=True).close()
    one, other = (Driver(runs, ["nas", "drive", "tiny-1"]) for _ in range(2))
    one.step()
    one.step()
    other.step()
    assert (one.holds, other.alive) == (True, False)
    one.die()
    assert open_store(runs.get("tiny-1")).status() is RunStatus.RUNNING
    dispatcher_module.end_run(runs.get("tiny-1"), RunStatus.CANCELLED, "cancelled")
    late = Driver(runs, ["nas", "drive", "tiny-1"])
    late.step()
    assert not late.alive
