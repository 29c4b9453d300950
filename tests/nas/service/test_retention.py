"""Old runs and logs are deleted where the settings say so, but those that are tagged or in use."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.labels import Labels, write_labels
from nas.engine.store.opening import open_store
from nas.service.api.schemas import JobSubmission, PlotsRequest
from nas.service.jobs.driver_jobs import new_log
from nas.service.pages.rendering import environment
from nas.service.people import SERVER
from nas.service.retention import Retention
from nas.service.service import Service
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, TaskKind
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import Jobs, searched

DAY = 86_400.0


@dataclass
class Kept:
    """A service with retention, at a time that tests set."""

    service: Service
    retention: Retention
    now: list[float]

    @property
    def ids(self) -> list[str]:
        return [folder.id for folder in self.service.settings.runs.list()]

    def submit(self, name: str, **keys: Any) -> str:
        """A submitted run that has ended now."""
        job = {**yaml.safe_load(SMALL_JOB), "name": name, **keys}
        run = self.service.submissions.submit(JobSubmission(job=job)).run
        self.end(run)
        return run

    def end(self, run: str) -> None:
        self.service.state.change(run, started=True)
        store = open_store(self.service.settings.runs.get(run), driver=True)
        store.set_status(RunStatus.FINISHED)
        store.close()


@pytest.fixture
def kept(runs: RunsFolder) -> Any:
    runs.check_writable()
    settings = ServiceSettings(runs, keep_runs_days=30, keep_logs_days=7)
    state = ServiceState.open(settings.database)
    service = Service(settings, state, Jobs())
    now = [2e9]
    retention = Retention(settings, state, service.retention._index, service.submissions, clock=lambda: now[0])
    yield Kept(service, retention, now)
    state.close()


def test_nothing_is_deleted_by_default(service: Service, runs: RunsFolder) -> None:
    run = service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    later = Retention(service.settings, service.state, service.retention._index, service.submissions, clock=lambda: 9e9)
    later.start()
    later.sweep()
    later.close()
    assert runs.holds(run)
    assert later.next_runs(1e6) == []


def test_ended_runs_are_deleted_when_they_are_old(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = kept.submit("old")
    ended = kept.service.runs.summary(run).ended
    assert ended is not None
    kept.now[0] = ended.timestamp() + 29 * DAY
    kept.retention.sweep()
    assert kept.ids == [run]
    [old] = kept.retention.next_runs(7)
    assert (old.run, old.due) == (run, pytest.approx(ended.timestamp() + 30 * DAY, abs=1))
    kept.now[0] += DAY + 1
    kept.retention.sweep()
    assert kept.ids == []
    assert kept.service.state.submissions() == []
    assert any(record.run == run and "30 days" in record.getMessage() for record in caplog.records)  # type: ignore[attr-defined]


def test_runs_that_are_tagged_or_in_use_stay(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    runs = kept.service.settings.runs
    tagged, origin, exported, gone = (kept.submit(name) for name in ("tagged", "origin", "exported", "gone"))
    write_labels(runs.get(tagged), Labels(("paper", "keep")))
    later = kept.submit("later", supernet={"from": origin})
    waiting = kept.service.submissions.submit(JobSubmission(job=SMALL_JOB)).run
    of_a_command = searched(runs).id
    damaged = kept.submit("damaged")
    runs.get(damaged).database.write_bytes(b"no database")
    asked = PlotsRequest(kind="plots").model_dump()
    folder = runs.get(exported).path / "artifacts"
    task = kept.service.tasks.add("plots-1", TaskKind.PLOTS, exported, folder, [], asked)
    kept.retention.sweep()
    kept.retention.sweep()
    # The run that starts from `origin` is old, too, and so goes first; the next sweep finds `origin` unused.
    assert sorted(kept.ids) == sorted([tagged, exported, waiting, of_a_command, damaged])
    assert gone not in kept.ids
    assert later not in kept.ids
    assert caplog.text.count(task.task) == 1  # said once


def test_a_run_that_a_younger_one_starts_from_stays(kept: Kept) -> None:
    origin = kept.submit("origin")
    user = kept.service.submissions.submit(
        JobSubmission(job={**yaml.safe_load(SMALL_JOB), "name": "user", "supernet": {"from": origin}})
    ).run
    kept.service.submissions.cancel(user)  # it is not open any more, and its exports need the weights
    kept.retention.sweep()
    assert origin in kept.ids


def test_old_logs_are_deleted_and_their_runs_stay(kept: Kept) -> None:
    old, tagged = kept.submit("old"), kept.submit("tagged")
    runs = kept.service.settings.runs
    write_labels(runs.get(tagged), Labels(("keep",)))
    for run in (old, tagged):
        new_log(runs.get(run), "first").write_text("much text\n")
    ended = kept.service.runs.summary(old).ended
    assert ended is not None
    kept.now[0] = ended.timestamp() + 6 * DAY
    kept.retention.sweep()
    assert kept.service.submissions.logs(old) == "much text\n"
    kept.now[0] += 2 * DAY
    kept.retention.sweep()
    assert (kept.service.submissions.logs(old), kept.service.submissions.logs(tagged)) == ("", "much text\n")
    assert sorted(kept.ids) == [old, tagged]


def test_the_storage_page_says_what_is_deleted_and_when(kept: Kept, runs: RunsFolder) -> None:
    run = kept.submit("old")
    empty: dict[str, Any] = dict.fromkeys(("data_sets", "models", "profiles", "tasks"), ())
    values = {**empty, "more_tasks": False, "limits": kept.service.settings.limits, "signs_in": False}
    page = environment().get_template("storage.html").render(
        **values, person=SERVER, allowed=lambda kind, name: False,
        retention=kept.retention, old_runs=kept.retention.next_runs(7),
    )  # fmt: skip
    assert "30 days after its end" in page
    assert "7 days after its end" in page
    assert f'href="/runs/{run}"' in page
