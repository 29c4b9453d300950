"""What a driver records of its progress in its run's store: its pace, and what it waits for while it waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.engine.progress import ProgressObserver
from nas.engine.run_listing import run_rows, snapshot_of
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.memory import MemoryStore
from nas.engine.store.opening import open_store
from nas.engine.stored_progress import RecordedPace, VisibleWaits
from nas.runs.run import Run
from tests.nas.service.made_runs import searched

WAIT = "waiting for another measurement on this machine (process 7) to end"
PROGRESS = SearchProgress("searching", 1, 30, 0.0, 0, 0, None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_end_is_expected_at_the_phases_own_pace() -> None:
    store, clock = MemoryStore(), Clock()
    pace = RecordedPace(store, clock)
    for step in range(1, 11):  # one in three seconds
        pace.step(step, 40, 0.5)
        state = store.state()
        assert (state.step, state.steps) == (step, 40)
        assert state.expected_end == (None if step == 1 else clock.now + 3.0 * (40 - step))
        clock.now += 3.0
    pace.progress(SearchProgress("searching", 5, 25))
    assert store.state().expected_end is None  # the pace of the training says nothing about the search
    clock.now += 60.0
    pace.progress(SearchProgress("searching", 15, 25))
    assert store.state().expected_end == clock.now + 60.0
    assert store.state().step == 10


def test_the_store_is_written_at_most_every_two_seconds() -> None:
    store, clock = MemoryStore(), Clock()
    pace = RecordedPace(store, clock)
    seen = set()
    for step in range(1, 101):
        pace.step(step, 100, 0.5)
        seen.add(store.state().step)
        clock.now += 0.1
    assert len(seen) == 5


class Notes(ProgressObserver):
    def __init__(self) -> None:
        self.texts, self.waits, self.counted = list[str](), list[str](), 0

    def note(self, text: str) -> None:
        self.texts.append(text)

    def waiting(self, text: str) -> None:
        self.waits.append(text)

    def progress(self, progress: SearchProgress) -> None:
        self.counted += 1


def test_a_wait_is_shown_with_its_time_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, observer, now = RunsFolder(tmp_path), Notes(), [1000.0]
    monkeypatch.setattr("nas.engine.run_listing.time.time", lambda: now[0])
    folder = searched(runs, final=False)
    store = open_store(folder, driver=True)
    assert store.status() is RunStatus.RUNNING
    waits = VisibleWaits(store, observer, lambda: now[0])
    waits.end()  # nothing waits
    waits.begin(WAIT)
    now[0] += 132
    assert snapshot_of(store, has_driver=True).reason == f"{WAIT} (2.2 min so far)"
    assert [row.reason for row in run_rows(runs)] == [f"{WAIT} (2.2 min so far)"]
    assert Run.open(runs, folder.id).waiting == f"{WAIT} (2.2 min so far)"
    assert snapshot_of(store, has_driver=False).reason == ""  # its driver was killed while it waited
    waits.end()
    assert (snapshot_of(store, has_driver=True).reason, observer.waits) == ("", [WAIT, ""])
    waits.begin(WAIT)
    waits.progress(PROGRESS)  # its worker died, and another one measured
    assert (snapshot_of(store, has_driver=True).reason, observer.counted, observer.waits[-1]) == ("", 1, "")
    waits.begin(WAIT)
    VisibleWaits(store, observer)  # of the next driver
    assert snapshot_of(store, has_driver=True).reason == ""
    store.close()
