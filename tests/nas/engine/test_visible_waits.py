"""What a driver waits for is in the status of its run while it waits, and no longer."""

from __future__ import annotations

from pathlib import Path

from nas.engine.progress import ProgressObserver
from nas.engine.run_table import run_rows, snapshot_of
from nas.engine.search_progress import SearchProgress
from nas.engine.visible_waits import VisibleWaits
from nas.store.base import RunStatus
from nas.store.folder import RunsFolder
from nas.store.opening import open_store
from tests.nas.service.made_runs import searched

WAIT = "profile cpu-1-thread: waiting 15 s"
PROGRESS = SearchProgress("searching", 1, 30, 0.0, 0, 0, None)


class Notes(ProgressObserver):
    def __init__(self) -> None:
        self.texts, self.counted = list[str](), 0

    def note(self, text: str) -> None:
        self.texts.append(text)

    def progress(self, progress: SearchProgress) -> None:
        self.counted += 1


def test_a_wait_is_shown_until_there_is_progress(tmp_path: Path) -> None:
    runs, observer = RunsFolder(tmp_path), Notes()
    folder = searched(runs, final=False)
    store = open_store(folder, driver=True)
    assert store.status() is RunStatus.RUNNING
    waits = VisibleWaits(store, observer)
    waits.begin(WAIT)
    assert (snapshot_of(store, held=True).reason, observer.texts) == (WAIT, [WAIT])
    assert [row.reason for row in run_rows(runs)] == [WAIT]
    assert snapshot_of(store, held=False).reason == ""  # its driver was killed while it waited
    waits.progress(PROGRESS)
    assert (snapshot_of(store, held=True).reason, observer.counted) == ("", 1)
    waits.begin(WAIT)
    VisibleWaits(store, observer)  # of the next driver
    assert snapshot_of(store, held=True).reason == ""
    store.close()
