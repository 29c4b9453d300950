"""What a driver waits for is in the status of its run while it waits, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.engine.progress import ProgressObserver
from nas.engine.run_listing import run_rows, snapshot_of
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.visible_waits import VisibleWaits
from nas.runs.run import Run
from tests.nas.service.made_runs import searched

WAIT = "waiting for another measurement on this machine (process 7) to end"
PROGRESS = SearchProgress("searching", 1, 30, 0.0, 0, 0, None)


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
    assert observer.texts == ["waited 2.2 min"]
    waits.begin(WAIT)
    waits.progress(PROGRESS)  # its worker died, and another one measured
    assert (snapshot_of(store, has_driver=True).reason, observer.counted, observer.waits[-1]) == ("", 1, "")
    assert observer.texts == ["waited 2.2 min"]  # a short wait is not worth a line
    waits.begin(WAIT)
    VisibleWaits(store, observer)  # of the next driver
    assert snapshot_of(store, has_driver=True).reason == ""
    store.close()
