"""`nas.runs.driver.drive` takes a run from wherever it is to its end, and keeps why where it cannot."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from nas.engine.resumption import Resumption
from nas.engine.run_listing import run_rows
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_facts import RunFacts
from nas.engine.store.run_state import RunState
from nas.engine.store.sql import SqlStore
from nas.errors import ClusterError, NasError, Remedy, RunHeldError, StoreAwayError, remedy_of
from nas.jobs.run import execution
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import load_job
from nas.runs import driver
from nas.runs.driver import drive, resume
from nas.runs.driver import run as search
from tests.errors import raises
from tests.nas.commands import SMALL_JOB

_TINY = (
    SMALL_JOB.replace("epochs: 4", "epochs: 1")
    .replace("[accuracy, latency_ms]", "[accuracy, macs]")
    .replace("{algorithm: guided, evaluations: 30, batch: 7}", "{algorithm: random, evaluations: 4, batch: 2}")
)
T = TypeVar("T")
QUEUED, RUNNING, FINISHED = RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.FINISHED


class StoppedError(BaseException):
    """Ends a driver without a trace, as a kill does."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunsFolder:
    """A runs folder with one trained supernet, ``small-1``."""
    runs = RunsFolder(tmp_path_factory.mktemp("runs"))
    queue(runs, _TINY)
    assert drive("small-1", RunOptions(runs, inline=True), kind="training").id == "small-1"
    return runs


def queue(runs: RunsFolder, text: str) -> RunFolder:
    """A queued run of a job, as the service makes it."""
    path = runs.root / "job.yaml"
    path.write_text(text)
    folder = runs.create("small", load_job(path).to_yaml())
    open_store(folder, create=True, driver=True).close()
    return folder


def queue_search(runs: RunsFolder) -> RunFolder:
    start, end = _TINY.index("supernet:"), _TINY.index("training:")
    return queue(runs, f"{_TINY[:start]}supernet: {{from: small-1}}\n{_TINY[end:]}")


def statuses_of(folder: RunFolder) -> list[RunStatus]:
    return [status for status, _ in with_store(folder, SqlStore.statuses)]


def n_asked(folder: RunFolder) -> int:
    """Networks asked for."""
    return sum(map(len, with_store(folder, SqlStore.asks)))


def description(folder: RunFolder) -> tuple[RunFacts | None, RunState]:
    """A run's facts, and its state but for what differs from driver to driver."""
    state = with_store(folder, SqlStore.state)
    return with_store(folder, SqlStore.facts), replace(state, searched_seconds=0.0, environments={})


def test_a_training_is_begun_ended_and_then_left_alone(base: RunsFolder) -> None:
    folder = base.get("small-1")
    facts, state = before = description(folder)
    assert facts is not None
    assert (statuses_of(folder), facts.kind, state.epoch) == ([RUNNING, FINISHED], "training", 1)
    drive("small-1", RunOptions(base, inline=True), kind="training")
    assert (statuses_of(folder), description(folder)) == ([RUNNING, FINISHED], before)


def test_a_search_that_is_killed_at_any_update_is_the_same_in_the_end(
    base: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = queue_search(base), queue_search(base)
    options = RunOptions(base, inline=True)
    drive(whole.id, options)
    assert (statuses_of(whole), n_asked(whole)) == ([RUNNING, FINISHED], 4)
    kept = SqlStore._set_values
    for n in (0, 1, 2, 4):  # before it is described, once it is, before its search, and in it
        count = [0]

        def stop_at(store: SqlStore, values: Any, n: int = n, count: list[int] = count) -> None:
            if count[0] == n:
                raise StoppedError
            count[0] += 1
            kept(store, values)

        monkeypatch.setattr(SqlStore, "_set_values", stop_at)
        with pytest.raises(StoppedError):
            drive(killed.id, options)
        monkeypatch.undo()
        assert (with_store(killed, SqlStore.facts) is None) is (n == 0)
    assert statuses_of(killed)[-1] in (QUEUED, RUNNING)
    drive(killed.id, options)
    assert (statuses_of(killed)[-1], n_asked(killed)) == (FINISHED, 4)
    assert description(killed) == description(whole)


def test_more_to_spend_is_taken_once_however_often_the_driver_dies(
    base: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = queue_search(base)
    options = RunOptions(base, inline=True)
    drive(folder.id, options)
    for number, more in enumerate(("+3", "+2")):
        with_store(folder, lambda store: store.set_status(QUEUED))
        extension = Resumption(more, id=f"id-{number}")
        monkeypatch.setattr(execution.RunExecution, "execute", stop)
        for _ in range(2):
            with pytest.raises(StoppedError):
                drive(folder.id, options, more=extension)
        monkeypatch.undo()
        drive(folder.id, options, more=extension)
        drive(folder.id, options, more=extension)  # it has ended
    budget = with_store(folder, SqlStore.state).budget
    assert budget is not None
    assert (statuses_of(folder)[-1], budget.evaluations, n_asked(folder)) == (FINISHED, 9, 9)


def test_what_keeps_a_run_from_beginning_is_its_failure(base: RunsFolder) -> None:
    folder = queue(base, _TINY)
    folder.job_file.write_text(folder.job_file.read_text().replace("name: digits", "name: digitz"))
    with pytest.raises(NasError, match="digitz"):
        drive(folder.id, RunOptions(base, inline=True))
    assert statuses_of(folder) == [RunStatus.FAILED]
    assert "digitz" in with_store(folder, SqlStore.reason)
    assert with_store(folder, SqlStore.facts) is None
    search = queue_search(base)
    with raises("job.nothing-to-train", "supernet.from"):
        drive(search.id, RunOptions(base, inline=True), kind="training")
    assert "supernet.from" in with_store(search, SqlStore.reason)


def test_a_run_that_fails_says_how_it_is_continued(base: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise NasError("no disk")

    config = load_job(queue_search(base).job_file)
    monkeypatch.setattr(execution.RunExecution, "execute", fail)
    with raises("nas.error", "no disk") as caught:
        search(config, RunOptions(base, inline=True))
    (row,) = [row for row in run_rows(base) if row.reason == "no disk"]
    assert (row.status, row.next) == ("failed", Remedy("resume", row.run))
    assert remedy_of(caught.value) == row.next
    with raises("nas.error", "no disk", remedy=row.next):
        resume(row.run, RunOptions(base, inline=True))
    folder = queue(base, _TINY)  # no driver has begun it
    (row,) = [row for row in run_rows(base) if row.run == folder.id]
    assert row.next == Remedy("search", str(folder.job_file))


def test_a_failed_run_that_is_queued_again_tries_again_what_failed(base: RunsFolder) -> None:
    folder = queue_search(base)
    with_store(folder, lambda store: store.set_status(RunStatus.FAILED, reason="no disk"))
    with_store(folder, lambda store: store.set_status(QUEUED))
    seen: list[bool] = []

    def look(*args: Any) -> None:
        seen.append(open_store(folder).state().retry_failures)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execution.RunExecution, "execute", look)
        drive(folder.id, RunOptions(base, inline=True))
    assert seen == [True]


def interrupted(*args: Any, **options: Any) -> None:
    """What SIGTERM comes to."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("of", "part", "left"), [(driver, "load_job", []), (execution.SearchExecution, "execute", [RUNNING])]
)
def test_sigterm_ends_no_run(
    base: RunsFolder, monkeypatch: pytest.MonkeyPatch, of: object, part: str, left: list[RunStatus]
) -> None:
    folder, options = queue_search(base), RunOptions(base, inline=True)
    monkeypatch.setattr(of, part, interrupted)
    with pytest.raises(KeyboardInterrupt):
        drive(folder.id, options)
    monkeypatch.undo()
    assert statuses_of(folder) == left  # as a kill leaves it: to be driven on, unless a cancel is wanted
    drive(folder.id, options)
    assert statuses_of(folder) == [*left, RUNNING, FINISHED]


def test_a_cluster_that_is_gone_ends_no_run(base: RunsFolder) -> None:
    folder = queue_search(base)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for _ in range(2):
        with pytest.raises(ClusterError, match="no Ray cluster answers"):
            drive(folder.id, RunOptions(base, address=f"127.0.0.1:{port}"))
        assert statuses_of(folder) == []
    drive(folder.id, RunOptions(base, inline=True))
    assert statuses_of(folder) == [RUNNING, FINISHED]


def test_a_database_server_that_is_gone_ends_no_run(base: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = queue_search(base)

    def lost(*args: Any) -> None:
        raise StoreAwayError("the connection was lost")

    monkeypatch.setattr(execution.SearchExecution, "execute", lost)
    with pytest.raises(StoreAwayError):
        drive(folder.id, RunOptions(base, inline=True))
    assert statuses_of(folder) == [RUNNING]


def test_ctrl_c_cancels_what_a_person_drives(base: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution.SearchExecution, "execute", interrupted)
    job = load_job(queue_search(base).job_file)
    with pytest.raises(KeyboardInterrupt):
        driver.run(job, RunOptions(base, inline=True))
    folder = base.list()[-1]
    assert statuses_of(folder) == [RUNNING, RunStatus.CANCELLED]
    assert with_store(folder, SqlStore.reason) == "interrupted"


def test_a_driver_that_comes_late_revives_nothing(base: RunsFolder) -> None:
    folder = queue_search(base)
    with_store(folder, lambda store: store.set_status(RunStatus.CANCELLED))
    drive(folder.id, RunOptions(base, inline=True))
    assert statuses_of(folder) == [RunStatus.CANCELLED]


def test_a_held_run_is_left_to_its_driver(base: RunsFolder) -> None:
    folder = queue_search(base)
    store = open_store(folder, driver=True)
    try:
        with pytest.raises(RunHeldError, match="another live driver"):
            drive(folder.id, RunOptions(base, inline=True))
    finally:
        store.close()
    assert statuses_of(folder) == []


def stop(*args: Any) -> None:
    raise StoppedError


def with_store(folder: RunFolder, do: Callable[[SqlStore], T]) -> T:
    store = open_store(folder, driver=True)
    try:
        return do(store)
    finally:
        store.close()
