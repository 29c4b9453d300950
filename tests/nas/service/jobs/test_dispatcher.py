"""The dispatcher's steps for runs and tasks in each situation, and their order."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_state import Away
from nas.errors import ServiceError
from nas.search.problem.budget import Budget
from nas.service.jobs import dispatcher as dispatcher_module
from nas.service.jobs import next_steps
from nas.service.jobs.dispatcher import Dispatcher, driver_command
from nas.service.jobs.task_process import TaskResult
from nas.service.jobs.task_queue import job_of, task_command
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, TaskKind, TaskStatus
from tests.nas.service.pretended_jobs import BUDGET, Driver, PretendedJobs, out_of_order


class Service:
    """A dispatcher over a folder of its own, with pretended jobs."""

    def __init__(self, root: Path, *, at_once: int = 1, resumes: int = 2) -> None:
        self.runs = RunsFolder(root)
        self.runs.check_writable()
        self.state = ServiceState.open(root / "service.db")
        self.jobs = PretendedJobs(self.runs)
        self.settings = ServiceSettings(self.runs, jobs_at_once=at_once, resumes=resumes)
        self.now = 0.0
        self.restart()

    def restart(self) -> None:
        self.dispatcher = Dispatcher(
            self.settings,
            self.state,
            self.jobs,
            address=self.address,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
        )

    def address(self) -> str | None:
        return None

    def submit(self) -> str:
        folder = self.runs.create("tiny", "job")
        open_store(folder, create=True, driver=True).close()
        return self.state.submit(folder.id, "search", "").run

    def tick(self) -> list[tuple[str, str]]:
        self.now += 60
        return self.dispatcher.tick()

    def job(self, run: str, attempt: int) -> str:
        submission = self.state.submission(run)
        assert submission is not None
        return submission.job_of(attempt)

    def driver(self, run: str, attempt: int) -> Driver:
        return self.jobs.drivers[self.job(run, attempt)]

    def away(self, run: str) -> Away | None:
        with closing(open_store(self.runs.get(run))) as store:
            return store.state().away

    def standing(self, run: str) -> tuple[RunStatus, str]:
        store = open_store(self.runs.get(run))
        try:
            return store.status(), store.reason()
        finally:
            store.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "runs")
    yield made
    made.state.close()
    for driver in made.jobs.alive():
        driver.die()


def test_runs_are_driven_in_turn_as_many_at_once_as_may(service: Service) -> None:
    first, second = service.submit(), service.submit()
    assert service.tick() == [(first, "start")]
    assert service.tick() == []
    driver = service.driver(first, 1)
    driver.step()
    driver.end(RunStatus.FINISHED)
    assert service.tick() == [(second, "start")]
    assert service.tick() == []


def test_a_run_whose_drivers_always_die_fails_with_their_last_lines(service: Service) -> None:
    run = service.submit()
    assert service.tick() == [(run, "start")]
    for attempt in (1, 2):
        service.driver(run, attempt).die()
        assert service.tick() == [(run, "restart")]
    service.jobs.logs[service.job(run, 2)].write_text("of the second\n")
    service.jobs.logs[service.job(run, 3)].write_text("one\n\nKilled\n")
    service.driver(run, 3).die()
    assert service.tick() == [(run, "fail")]
    reason = "its driver died 3 times in a row without any progress; it last wrote: one | Killed"
    assert service.standing(run) == (RunStatus.FAILED, reason)
    assert service.tick() == []


def test_a_run_with_progress_each_time_never_fails(service: Service) -> None:
    run = service.submit()
    service.tick()
    for attempt in range(1, 8):
        driver = service.driver(run, attempt)
        driver.step()
        driver.step()
        driver.die()
        assert service.tick() == [(run, "restart")]


def test_a_run_whose_board_is_away_is_tried_again_until_it_is_back(service: Service) -> None:
    run = service.submit()
    service.tick()
    driver = service.driver(run, 1)
    for _ in range(3):
        driver.step()
    driver.end_away(service.now)
    assert service.dispatcher.tick() == []
    assert str(service.away(run)).startswith("waits for pi6 since ")
    other = service.submit()
    assert service.dispatcher.tick() == [(other, "start")]  # it holds up no other run
    service.driver(other, 1).step()
    service.driver(other, 1).end(RunStatus.FINISHED)
    minutes, tries = [], 0
    for _ in range(40):
        for step in service.tick():
            if step == (run, "retry"):
                tries += 1
                minutes.append(service.now / 60)
                service.driver(run, 1 + tries).die()
    assert [round(b - a) for a, b in pairwise(minutes)] == [2, 4, 8, 10, 10]
    service.restart()  # the server; the tries and their times are the run's
    away = service.away(run)
    assert away is not None
    assert away.tries == tries
    submission = service.state.submission(run)
    assert submission is not None
    assert submission.deaths == 0


def test_tries_of_a_board_are_bounded_and_begin_anew_when_a_person_resumes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_steps, "MAX_TRIES", 3)
    run = service.submit()
    service.tick()
    service.driver(run, 1).step()
    service.driver(run, 1).end_away(service.now)
    steps: list[tuple[str, str]] = []
    while (run, "fail") not in steps:
        for step in service.tick():
            steps.append(step)
            if step[1] == "retry":
                service.driver(run, 1 + len(steps)).die()
    assert [step for _, step in steps] == ["retry", "retry", "retry", "fail"]
    status, reason = service.standing(run)
    assert status is RunStatus.FAILED
    assert reason.startswith("pi6 is away since ")
    assert reason.endswith(", also after 3 tries; resume the run when it is back")
    service.state.resume(run, {})
    assert service.tick() == [(run, "start")]
    assert service.away(run) is None


def test_a_run_that_waits_for_its_board_can_be_cancelled(service: Service) -> None:
    run = service.submit()
    service.tick()
    service.driver(run, 1).step()
    service.driver(run, 1).end_away(service.now)
    service.state.cancel(run)
    assert service.tick() == [(run, "cancel")]
    assert service.standing(run) == (RunStatus.CANCELLED, "cancelled")
    for _ in range(20):
        assert service.tick() == []


def test_an_unanswered_start_is_repeated_and_counts_as_no_death(service: Service) -> None:
    run = service.submit()
    service.dispatcher.tick()
    service.driver(run, 1).die()
    states = service.jobs.states
    service.jobs.trouble = out_of_order
    service.jobs.states = lambda jobs: {}  # type: ignore[method-assign]
    for _ in range(10):
        service.tick()
    submission = service.state.submission(run)
    assert submission is not None
    assert (submission.attempt, submission.deaths) == (2, 1)
    assert service.dispatcher.problem == "no answer"
    service.jobs.states = states  # type: ignore[method-assign]
    service.jobs.trouble = lambda when: None
    service.tick()
    assert service.driver(run, 2).alive
    assert service.dispatcher.problem == ""
    assert service.tick() == []


def test_what_waits_can_be_cancelled_while_no_job_can_be_run(service: Service) -> None:
    run, other = service.submit(), service.submit()
    service.jobs.trouble = out_of_order
    service.state.cancel(run)
    assert service.tick() == [(run, "cancel")]
    assert service.standing(run) == (RunStatus.CANCELLED, "cancelled")
    assert service.standing(other)[0] is RunStatus.QUEUED
    assert service.dispatcher.problem == "no answer"


def test_a_cancelled_driver_is_asked_to_end_and_asked_again(service: Service) -> None:
    run = service.submit()
    service.tick()
    driver = service.driver(run, 1)
    driver.step()
    service.state.cancel(run)
    asked = []
    service.jobs.stop = asked.append  # type: ignore[method-assign]  # and it does not
    service.tick()
    service.now -= 59
    service.tick()
    assert asked == [service.job(run, 1)]
    service.tick()
    assert asked == [service.job(run, 1)] * 2
    driver.die()
    assert service.tick() == [(run, "cancel")]


def test_a_signal_from_outside_cancels_nothing(service: Service) -> None:
    """A machine that shuts down asks drivers to end just as a cancel does; what a client wants of the run is the difference."""
    run = service.submit()
    service.tick()
    service.driver(run, 1).step()
    service.driver(run, 1).die()
    assert service.tick() == [(run, "restart")]
    service.driver(run, 2).step()
    service.state.cancel(run)
    assert service.tick() == [(run, "stop")]
    assert service.standing(run)[0] is RunStatus.RUNNING
    service.restart()
    assert service.tick() == [(run, "cancel")]
    assert service.standing(run) == (RunStatus.CANCELLED, "cancelled")


def test_a_driver_that_the_runner_lost_is_waited_for(service: Service) -> None:
    run = service.submit()
    service.tick()
    driver = service.driver(run, 1)
    driver.step()
    driver.known_to_live = False
    assert service.tick() == []
    driver.die()
    assert service.tick() == [(run, "restart")]


def test_a_driver_is_recorded_before_it_is_started(service: Service) -> None:
    run = service.submit()
    seen = []

    def look(when: str) -> None:
        submission = service.state.submission(run)
        assert submission is not None
        seen.append((when, submission.attempt, submission.started))

    service.jobs.trouble = look
    service.tick()
    assert seen == [("before", 0, False), ("before", 1, True), ("after", 1, True)]


def test_a_run_that_a_person_drives_is_left_alone(service: Service) -> None:
    run = service.submit()
    by_hand = open_store(service.runs.get(run), driver=True)
    by_hand.set_status(RunStatus.RUNNING)
    assert service.tick() == []
    service.state.cancel(run)
    assert service.tick() == []
    by_hand.close()
    assert service.tick() == [(run, "cancel")]


def test_what_ended_is_queued_again_before_it_is_driven_on(service: Service) -> None:
    run = service.submit()
    service.tick()
    driver = service.driver(run, 1)
    driver.step()
    driver.end(RunStatus.FINISHED)
    service.tick()
    service.state.resume(run, {"evaluations": "+50", "minutes": None})
    assert service.tick() == [(run, "start")]
    assert service.standing(run)[0] is RunStatus.QUEUED
    for attempt in (2, 3):
        driver = service.driver(run, attempt)
        assert driver.argv[-4::2] == ["--evaluations", "--extension"]
        driver.step()
        driver.step()
        assert driver.store is not None
        assert driver.store.state().budget == Budget(BUDGET + 50)
        driver.die()
        service.tick()


def test_runs_that_have_ended_are_not_read_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    run = service.submit()
    service.tick()
    driver = service.driver(run, 1)
    driver.step()
    driver.end(RunStatus.FAILED, "no data")
    service.tick()
    service.jobs.trouble = out_of_order
    assert service.tick() == []
    assert service.dispatcher.problem == ""  # it was not even asked


def test_one_run_that_cannot_be_read_stops_no_other(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, locked, good = service.submit(), service.submit(), service.submit()
    service.runs.get(broken).database.write_bytes(b"no database" * 500)
    service.state.cancel(locked)

    def fails(*args: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(dispatcher_module, "end_run", fails)
    with caplog.at_level(logging.WARNING):
        assert service.tick() == [(good, "start")]
        assert service.tick() == []
    found = [record.run for record in caplog.records]  # type: ignore[attr-defined]
    assert found.count(broken) == 1
    assert locked in found


def test_a_run_that_a_person_drove_on_and_left_is_driven_to_its_end(service: Service) -> None:
    run = service.submit()
    service.tick()
    driver = service.driver(run, 1)
    driver.step()
    driver.end(RunStatus.FINISHED)
    service.tick()
    by_hand = open_store(service.runs.get(run), driver=True)
    by_hand.set_status(RunStatus.RUNNING)
    assert service.tick() == []
    by_hand.close()
    assert service.tick() == [(run, "restart")]


def test_a_run_that_was_removed_by_hand_is_stopped_and_forgotten(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    driven, waiting = service.submit(), service.submit()
    service.tick()
    service.driver(driven, 1).step()
    for run in (driven, waiting):
        shutil.rmtree(service.runs.root / run)
    service.tick()
    assert not service.driver(driven, 1).alive
    service.tick()
    assert service.state.submissions() == []
    assert caplog.text.count("removed by hand") == 2
    other = service.submit()
    assert service.tick() == [(other, "start")]


def test_a_cancelled_driver_is_ended_though_its_run_cannot_be_read(service: Service) -> None:
    run = service.submit()
    service.tick()
    service.driver(run, 1).step()
    service.runs.get(run).database.write_bytes(b"no database" * 500)
    service.tick()
    assert service.driver(run, 1).alive
    service.state.cancel(run)
    service.tick()
    assert not service.driver(run, 1).alive


def test_nothing_is_forgotten_where_the_runs_folder_is_missing_or_a_run_is_back(service: Service) -> None:
    run = service.submit()
    aside = service.runs.root.with_name("aside")
    service.runs.root.rename(aside)
    service.tick()
    aside.rename(service.runs.root)
    assert service.tick() == [(run, "start")]
    (before,) = service.state.submissions()
    service.state.cancel(run)
    assert not service.state.forget_if(before)
    (now,) = service.state.submissions()
    service.state.add_task("of-a-profile", TaskKind.MEASUREMENT, run, {})
    service.state.add_task("of-a-run", TaskKind.EXPORT, run, {})
    assert service.state.forget_if(now)
    assert [task.task for task in service.state.tasks()] == ["of-a-profile"]


def test_a_run_of_a_removed_ones_name_has_jobs_of_its_own(service: Service) -> None:
    run = service.submit()
    service.tick()
    service.driver(run, 1).die()
    service.state.forget(run)
    assert service.tick() == []
    time.sleep(0.002)  # the server's clock has gone on
    service.state.submit(run, "search", "")
    assert service.tick() == [(run, "start")]
    assert service.driver(run, 1).alive


def test_a_status_that_a_driver_gave_stands(service: Service) -> None:
    run = service.submit()
    folder = service.runs.get(run)
    dispatcher_module.requeue_run(folder)
    store = open_store(folder, driver=True)
    assert store.statuses() == []
    store.set_status(RunStatus.FINISHED, reason="done")
    store.close()
    dispatcher_module.end_run(folder, RunStatus.CANCELLED, "cancelled")
    assert service.standing(run) == (RunStatus.FINISHED, "done")
    dispatcher_module.requeue_run(folder)
    assert service.standing(run) == (RunStatus.QUEUED, "")


def test_a_background_thread_does_rounds_and_can_be_woken(service: Service) -> None:
    started = threading.Event()
    service.jobs.trouble = lambda when: started.set() if when == "after" else None
    service.dispatcher.start()
    run = service.submit()
    service.dispatcher.wake()
    assert started.wait(60)
    service.dispatcher.close()
    service.dispatcher.close()
    assert list(service.jobs.drivers) == [service.job(run, 1)]


def test_the_command_drives_the_run_with_what_it_was_given(service: Service) -> None:
    run = service.submit()
    service.state.resume(run, {"minutes": "+2.5"})
    submission = service.state.submission(run)
    assert submission is not None
    command = driver_command(service.settings, submission, "127.0.0.1:6379")
    extension = submission.options["extension"]
    assert command == [
        sys.executable, "-P", "-m", "nas.cli", "drive", run, "--runs", str(service.runs.root.resolve()), "--kind", "search",
        "--address", "127.0.0.1:6379", "--minutes", "+2.5", "--extension", extension,
    ]  # fmt: skip


class TestTasks:
    def ask(self, service: Service, name: str) -> Path:
        result = service.runs.root / f"{name}.json"
        service.state.add_task(name, "export", "tiny-1", {"argv": ["nas", "export"], "result": str(result)})
        return result

    def stands(self, service: Service, name: str) -> tuple[TaskStatus, str, object]:
        (task,) = (task for task in service.state.tasks() if task.task == name)
        return task.status, task.reason, task.result

    def end(self, service: Service, name: str) -> None:
        service.jobs.drivers[f"{name}.task"].known_to_live = False

    def test_one_is_done_after_the_other(self, service: Service) -> None:
        first, second = self.ask(service, "a"), self.ask(service, "b")
        assert service.tick() == [("a", "running")]
        assert service.tick() == []
        TaskResult(0, json.dumps({"key": "1"}), "").write(first)
        self.end(service, "a")
        assert service.tick() == [("a", "finished"), ("b", "running")]
        assert self.stands(service, "a") == (TaskStatus.FINISHED, "", {"key": "1"})
        TaskResult(1, "", "warning\nerror: no such network\n").write(second)
        self.end(service, "b")
        assert service.tick() == [("b", "failed")]
        assert self.stands(service, "b") == (TaskStatus.FAILED, "no such network", None)

    def test_what_it_alone_uses_is_removed_when_it_is_done(self, service: Service, tmp_path: Path) -> None:
        model, result = tmp_path / "model.onnx", tmp_path / "result.json"
        model.write_bytes(b"model")
        request = {"argv": ["nas", "profile"], "result": str(result), "uses": [str(model)]}
        service.state.add_task("a", TaskKind.MEASUREMENT, "board", request)
        service.tick()
        assert service.tick() == []
        assert model.exists()
        TaskResult(0, json.dumps({"median_ms": 1.0}), "").write(result)
        self.end(service, "a")
        assert service.tick() == [("a", "finished")]
        assert not model.exists()

    def test_one_that_is_killed_says_so(self, service: Service) -> None:
        self.ask(service, "a")
        service.tick()
        service.jobs.logs["a.task"].write_text("loading\n")
        self.end(service, "a")
        assert service.tick() == [("a", "failed")]
        assert self.stands(service, "a")[1] == "its process was killed; it last wrote: loading"

    def test_one_whose_start_is_not_answered_waits(self, service: Service) -> None:
        self.ask(service, "a")

        def trouble(when: str) -> None:
            if when == "after":
                raise ServiceError("no answer")

        service.jobs.trouble = trouble
        assert service.tick() == []
        service.jobs.trouble = lambda when: None
        service.restart()
        assert service.tick() == [("a", "running")]
        assert len(service.jobs.drivers) == 1

    def test_the_command_keeps_the_result(self, service: Service) -> None:
        path = self.ask(service, "a")
        (task,) = service.state.open_tasks()
        assert job_of(task) == "a.task"
        assert task_command(task)[4:] == [
            "task", "--result", str(path), "--time-limit", "1800", "--", "nas", "export",
        ]  # fmt: skip
