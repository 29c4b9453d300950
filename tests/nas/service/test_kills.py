"""Servers, drivers and Ray's workers are killed at random: nothing counted is lost, and every run ends or says why."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.engine.store.opening import is_held, open_store
from nas.service.jobs.ray_head import end_head
from nas.service.jobs.ray_head_process import RayHeadProcess
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState
from tests.nas.service.killable import ALGORITHM, COUNTED, SEED
from tests.nas.test_kills import check_nothing_counted_is_lost, check_uninterrupted
from tests.processes import command_of, descendants

pytestmark = pytest.mark.ray

KILLS = int(os.environ.get("NAS_SERVICE_KILLS", "2"))
"""Of servers, of drivers and of workers; 20 with ``NAS_SERVICE_KILLS=20 make test-slow``."""
_NAMES = {"driver": (b"killable\0drive",), "worker": (b"ray::PoolActor", b"ray::JobSupervisor")}
"""What command lines hold."""
_PATIENCE_S = 120 + 60 * KILLS
_REPOSITORY = Path(__file__).parents[3]


class Killable:
    """A runs folder whose server and processes are restarted after each kill."""

    def __init__(self, root: Path) -> None:
        self.runs = RunsFolder(root)
        self.runs.check_writable()
        self.settings = ServiceSettings(self.runs)
        self.state = ServiceState.open(self.settings.database)
        self.log = (root.parent / "server.log").open("ab")
        self.server = self.serve()

    def serve(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.nas.service.killable", "serve", str(self.runs.root)]
        environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY), "OMP_WAIT_POLICY": "passive"}
        return subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def submit(self) -> RunFolder:
        folder = self.runs.create("table", "a search on a table")
        open_store(folder, create=True, driver=True).close()
        self.state.submit(folder.id, "search", "")
        return folder

    def status(self, folder: RunFolder) -> tuple[RunStatus, str]:
        store = open_store(folder)
        try:
            return store.status(), store.reason()
        finally:
            store.close()

    def working(self) -> list[RunFolder]:
        """Runs that have not ended."""
        return [f for f in self.runs.list() if self.status(f)[0] in (RunStatus.QUEUED, RunStatus.RUNNING)]

    def processes(self, victim: str, *names: bytes) -> list[int]:
        """Those of a kind of victim that live now, or of names of it."""
        if victim == "server":
            return [self.server.pid]
        head = RayHeadProcess.find(self.settings.folder)
        names = names or _NAMES[victim]
        commands = {} if head is None else {pid: command_of(pid) for pid in descendants(head.pid)}
        return [
            pid
            for pid, command in commands.items()
            if any(name in command for name in names) and b"kill -s 0" not in command
        ]

    def close(self) -> None:
        self.server.kill()
        self.server.wait()
        end_head(self.settings.folder)
        self.state.close()
        self.log.close()


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[Killable]:
    made = Killable(tmp_path / "runs")
    yield made
    made.close()


@pytest.mark.slow
def test_kills_of_servers_drivers_and_workers(killable: Killable) -> None:
    rng = np.random.default_rng(7)
    victims = [str(v) for _ in range(KILLS) for v in rng.permutation(["server", "driver", "worker"])]
    deadline = time.monotonic() + _PATIENCE_S
    while victims or killable.working():
        assert time.monotonic() < deadline, victims
        if victims and len(killable.working()) < 2:
            killable.submit()
        time.sleep(float(rng.uniform(0.05, 1.0)))
        found = killable.processes(victims[-1]) if victims else []
        # Mostly in the middle of the work: to die while they start, again and again, is another test's.
        if found and (rng.random() < 0.1 or killable.processes("worker", b"ray::PoolActor.do")):
            with contextlib.suppress(ProcessLookupError):  # it may end in this very moment
                os.kill(int(rng.choice(found)), signal.SIGKILL)
                victims.pop()
        if killable.server.poll() is not None:
            killable.server = killable.serve()
        for folder in killable.runs.list():
            check_nothing_counted_is_lost(folder.database, folder.path / COUNTED)
    ends = {folder: killable.status(folder) for folder in killable.runs.list()}
    assert RunStatus.FINISHED in [status for status, _ in ends.values()]
    for folder, (status, reason) in ends.items():
        if status is RunStatus.FINISHED:
            check_uninterrupted(folder.database, ALGORITHM, SEED)
        else:
            assert status is RunStatus.FAILED
            assert "its driver died" in reason
        while is_held(folder):
            assert time.monotonic() < deadline
