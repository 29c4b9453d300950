"""The queue of a server: six people take turns, limits, priorities, places, and expected starts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.errors import NotAllowedError, TooManyError
from nas.service.api.schemas import JobSubmission, QueueChange
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.people import Caller, Role, acting_as
from nas.service.service import Service
from nas.service.settings import Limits, ServiceSettings
from nas.service.state import Priority, ServiceState, TaskKind, TaskStatus
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.pretended_jobs import PretendedJobs
from tests.nas.service.team import Team

ADA = Caller("ada", Role.ADMINISTRATOR)
FLOODER = "flo"
OTHERS = ("bea", "cas", "dan", "eve", "fay")


@dataclass
class Queue:
    """A service and its dispatcher, with pretended drivers and a clock that a test advances."""

    root: Path
    settings: ServiceSettings
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.settings.runs.check_writable()
        self.state = ServiceState.open(self.settings.database)
        self.jobs = PretendedJobs(self.settings.runs)
        self.open()

    def open(self) -> None:
        """Begins as a new server does."""
        self.dispatcher = Dispatcher(
            self.settings, self.state, self.jobs, address=lambda: None, clock=lambda: self.now_s
        )
        self.service = Service(self.settings, self.state, self.jobs, run_queue=self.dispatcher.queue)

    def submit(self, person: str, *, name: str = "small", role: Role = Role.MEMBER, priority: str = "normal") -> str:
        job = SMALL_JOB.replace("name: small", f"name: {name}")
        submission = JobSubmission(job=job, priority=priority)  # type: ignore[arg-type]
        with acting_as(Caller(person, role)):
            return self.service.submissions.submit(submission, person).run

    def submitter(self, run: str) -> str:
        submission = self.state.submission(run)
        assert submission is not None
        return submission.submitter

    def started(self, seconds: float) -> list[str]:
        """Drives whatever starts now for this time, to its end; the runs."""
        self.dispatcher.tick()
        drivers = self.jobs.alive()
        for driver in drivers:
            driver.step()
        for _ in range(10):
            self.now_s += seconds / 10
            self.dispatcher.tick()
        for driver in drivers:
            driver.end(RunStatus.FINISHED)
        return [driver.run for driver in drivers]

    def positions(self) -> list[str]:
        return [run.run for run in self.service.runs.queue().waiting]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    runs = RunsFolder(tmp_path / "runs")
    made = Queue(runs.root, ServiceSettings(runs, limits=Limits(queued_of_person=8)))
    yield made
    made.state.close()
    for driver in made.jobs.alive():
        driver.die()


def test_one_person_cannot_fill_the_queue_for_five_others(queue: Queue) -> None:
    flood = [queue.submit(FLOODER) for _ in range(8)]
    with raises("queue.person-limit", "8 runs of flo wait already"):
        queue.submit(FLOODER)
    runs = {person: queue.submit(person, name=person) for person in OTHERS}
    expected = [flood[0], *runs.values(), *flood[1:]]
    assert queue.positions() == expected
    starts = [run for _ in expected for run in queue.started(60.0)]
    assert starts == expected
    assert queue.positions() == []


def test_who_used_more_of_late_waits_also_after_a_restart(queue: Queue) -> None:
    queue.submit(FLOODER)
    assert queue.started(600.0) == ["small-1"]
    queue.dispatcher.tick()
    assert set(queue.state.used_s(0)) == {FLOODER}
    queue.open()
    second, other = queue.submit(FLOODER), queue.submit("bea", name="bea")
    assert queue.positions() == [other, second]
    assert queue.started(60.0) == [other]


def test_used_time_is_measured_and_decays_by_half_a_day(queue: Queue) -> None:
    queue.submit("bea", name="bea")
    queue.started(600.0)
    queue.dispatcher.tick()
    with sqlite3.connect(queue.settings.database) as connection:
        ((seconds, time),) = connection.execute("SELECT seconds, time FROM usage").fetchall()
    assert seconds == pytest.approx(600.0, abs=61.0)  # a round of 60 s may be before the driver was seen
    assert queue.state.used_s(time)["bea"] == pytest.approx(seconds)
    assert queue.state.used_s(time + 24 * 3600)["bea"] == pytest.approx(seconds / 2)


def test_a_person_runs_no_more_than_the_limit_at_once(queue: Queue) -> None:
    queue.settings = replace(queue.settings, jobs_at_once=3, running_per_person=2)
    queue.open()
    flood = [queue.submit(FLOODER) for _ in range(4)]
    assert queue.started(60.0) == flood[:2]
    other = queue.submit("bea", name="bea")
    assert queue.started(60.0) == [other, *flood[2:4]]


def test_members_lower_priorities_and_administrators_raise_them(queue: Queue) -> None:
    low = queue.submit("bea", priority="low")
    normal = queue.submit("cas")
    with pytest.raises(NotAllowedError, match=r"lacks the role administrator, .* to raise a priority"):
        queue.submit("cas", priority="high")
    high = queue.submit("ada", role=Role.ADMINISTRATOR, priority="high")
    assert queue.positions() == [high, normal, low]
    with acting_as(Caller("bea", Role.MEMBER)), raises("access.role", "from low to normal"):
        queue.service.submissions.reorder(low, QueueChange(priority="normal"))
    with acting_as(ADA):
        assert queue.service.submissions.reorder(low, QueueChange(priority="high")).priority == "high"
    assert queue.positions() == [low, high, normal]
    with acting_as(Caller("bea", Role.MEMBER)):
        queue.service.submissions.reorder(low, QueueChange(priority="low"))
    assert queue.positions() == [high, normal, low]
    assert queue.service.runs.summary(low).queue_position == 3


def test_an_administrator_changes_the_order_and_it_holds(queue: Queue) -> None:
    runs = [queue.submit(person, name=person) for person in OTHERS]
    with acting_as(ADA):
        queue.service.submissions.reorder(runs[3], QueueChange(position=2))
    expected = [runs[0], runs[3], runs[1], runs[2], runs[4]]
    assert queue.positions() == expected
    urgent = queue.submit("ada", name="urgent", role=Role.ADMINISTRATOR, priority="high")
    assert queue.positions() == [*expected[:2], urgent, *expected[2:]]  # behind those that were placed
    assert [run.placed for run in queue.service.runs.queue().waiting] == [True, True, *[False] * 4]
    with acting_as(ADA):
        queue.service.submissions.reorder(runs[3], QueueChange(position=0))
        queue.service.submissions.reorder(runs[2], QueueChange(position=99))
    assert queue.positions()[-1] == runs[2]
    assert queue.started(60.0) == [runs[0]]
    started = queue.state.submission(runs[0])
    assert started is not None
    assert started.place is None  # of the past, where it is resumed
    with acting_as(ADA), raises("run.not-queued"):
        queue.service.submissions.reorder(runs[0], QueueChange(position=1))
    with acting_as(Caller(OTHERS[1], Role.MEMBER)), raises("access.role", "place a run in the queue"):
        queue.service.submissions.reorder(runs[1], QueueChange(position=1))
    with acting_as(Caller(OTHERS[0], Role.MEMBER)), raises("access.owner", OTHERS[1]):
        queue.service.submissions.reorder(runs[1], QueueChange(position=1))


def test_expected_starts_say_what_they_are_based_on(queue: Queue) -> None:
    first = queue.submit("bea")
    second = queue.submit("cas")
    shown = queue.service.runs.queue()
    assert [run.basis for run in shown.waiting] == ["no run has ended yet"] * 2
    assert [run.expected_start is None for run in shown.waiting] == [False, True]
    assert queue.started(60.0) == [first]
    assert queue.started(60.0) == [second]
    third, fourth = queue.submit("bea"), queue.submit("cas", name="other")
    queue.open()  # durations are read again every ten seconds
    waiting = {run.run: run for run in queue.service.runs.queue().waiting}
    assert waiting[third].basis == "2 runs of small"
    assert waiting[fourth].basis == "2 runs (search)"
    seconds = waiting[third].expected_s
    assert seconds is not None
    start, then = waiting[third].expected_start, waiting[fourth].expected_start
    assert start is not None
    assert then is not None
    assert abs((then - start).total_seconds()) == pytest.approx(seconds, abs=0.01)


def test_on_a_private_server_expectations_are_based_on_the_runs_and_plans_of_the_person(tmp_path: Path) -> None:
    queue = Queue(tmp_path, ServiceSettings(RunsFolder(tmp_path / "runs"), private=True))
    assert queue.submit("bea") in queue.started(60.0)
    with acting_as(Caller("bea", Role.MEMBER)):
        plan = queue.service.plans.request(JobSubmission(job=SMALL_JOB.replace("name: small", "name: planned")))
    queue.state.change_task(plan.plan, TaskStatus.FINISHED, result={"time": {"total": {"seconds": 840.0}}})
    queue.open()  # durations are read again every ten seconds
    runs = [queue.submit(person, name=name) for person in ("cas", "bea") for name in ("small", "planned")]
    waiting = {run.run: run for run in queue.service.runs.queue().waiting}
    nothing = "no run of this person has ended yet"
    assert [waiting[run].basis for run in runs] == [nothing, nothing, "1 run of small", "its plan"]
    assert [waiting[run].expected_s is None for run in runs] == [True, True, False, False]
    queue.state.close()


def test_a_plan_of_the_same_job_is_what_its_start_is_based_on(queue: Queue) -> None:
    job = JobSubmission(job=SMALL_JOB)
    plan = queue.service.plans.request(job)
    span = {"total": {"seconds": 840.0}, "training": {"seconds": 240.0}}
    queue.state.change_task(plan.plan, TaskStatus.FINISHED, result={"time": span})
    queue.submit("bea")
    with acting_as(Caller("bea", Role.MEMBER)):
        queue.service.submissions.submit(job.model_copy(update={"kind": "training"}), "bea")
    queue.submit("cas", name="other")
    durations = {run.run: (run.expected_s, run.basis) for run in queue.service.runs.queue().waiting}
    assert durations == {
        "small-1": (840.0, "its plan"),
        "small-2": (240.0, "its plan"),
        "other-1": (None, "no run has ended yet"),
    }


def test_running_runs_are_shown_with_their_expected_ends(queue: Queue) -> None:
    queue.submit("bea")
    queue.dispatcher.tick()
    queue.jobs.alive()[0].step()
    queue.dispatcher.tick()
    (active,) = queue.service.runs.queue().active
    assert (active.run, active.submitter, active.expected_end) == ("small-1", "bea", None)


def test_a_run_is_in_the_queue_at_every_moment_from_its_submission_on(queue: Queue) -> None:
    run = queue.submit("bea")
    seen: list[tuple[list[str], list[str]]] = []

    def look(when: str) -> None:
        shown = queue.service.runs.queue()
        seen.append(([r.run for r in shown.active], [r.run for r in shown.waiting]))

    queue.jobs.trouble = look  # while the runner starts the driver, and when it has
    queue.dispatcher.tick()
    look("before the next round")
    assert seen[0] == ([], [run])
    assert seen[1:] == [([run], [])] * len(seen[1:])


def test_tasks_of_one_person_are_limited_and_take_turns(queue: Queue) -> None:
    limit = queue.settings.limits.tasks_of_person
    for number in range(limit):
        queue.state.add_task(f"export-{number:02}", TaskKind.EXPORT, "small-1", {}, FLOODER)
    with (
        acting_as(Caller(FLOODER, Role.MEMBER)),
        pytest.raises(TooManyError, match=r"20 exports, .* of flo wait or run"),
    ):
        queue.service.tasks.new_id(TaskKind.EXPORT)
    with acting_as(Caller("bea", Role.MEMBER)):
        assert queue.service.tasks.new_id(TaskKind.EXPORT)
    queue.state.add_task("export-bea", TaskKind.EXPORT, "small-1", {}, "bea")
    assert [task.task for task in queue.state.open_tasks()][:3] == ["export-00", "export-bea", "export-01"]


def test_the_local_user_has_no_limit_of_a_person(queue: Queue) -> None:
    for _ in range(10):
        queue.submit("", role=Role.ADMINISTRATOR)
    assert len(queue.positions()) == 10


def test_the_queue_is_read_and_changed_by_client_and_page(team: Team) -> None:
    team.service.submissions.submit(JobSubmission(job=SMALL_JOB), "mia")
    bob, ada = team.nas_client("bob"), team.nas_client("ada")
    assert [(run.run, run.position) for run in bob.queue().waiting] == [("small-1", 1), ("small-2", 2)]
    assert bob.set_priority("small-1", "low").priority == "low"
    assert [run.run for run in ada.queue().waiting] == ["small-2", "small-1"]
    assert ada.move("small-1", 1).queue_position == 1
    assert team.send("mia", "PUT", "/runs/small-2/queue", json={"position": 1}) == 403
    assert team.send("ada", "PUT", "/runs/small-2/queue", json={"position": -1}) == 422
    pages = {p: team.client.get("/queue", headers=team.headers[p]).text for p in ("rita", "bob", "mia", "ada")}
    assert {person for person, page in pages.items() if "data-change" in page} == {"ada"}
    assert {person for person, page in pages.items() if '<select data-run="small-2"' in page} == {"mia", "ada"}
    assert "<option>high" not in pages["mia"]
    job = "name: low\ndata: {name: digits}\nsupernet: {preset: digits}\nsearch: {evaluations: 4}\n"
    answer = team.client.post(
        "/api/v1/runs?priority=low", content=job, headers={**team.headers["mia"], "content-type": "application/yaml"}
    )
    assert answer.json()["priority"] == "low"
    assert bob.submit(job, priority="low").priority == "low"


def test_priorities_are_ranked() -> None:
    assert sorted(Priority, key=lambda priority: priority.rank) == [Priority.LOW, Priority.NORMAL, Priority.HIGH]
