"""What was counted survives SIGKILL, and the lease is free again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.engine.store.sql import SqlStore
from nas.errors import RunHeldError
from tests.contracts.store import measured, request

ROOT = Path(__file__).parents[4]
REPETITIONS = 20
HOLD = """
import sys
from nas.engine.store.sql import SqlStore
store = SqlStore.open(sys.argv[1], create=True, driver=True)
print("held", flush=True)
sys.stdin.readline()
"""
FORK_AND_HOLD = """
import os, signal, sys
from nas.engine.store.sql import SqlStore
store = SqlStore.open(sys.argv[1], create=True, driver=True)
if os.fork() == 0:
    print(os.getpid(), flush=True)
signal.pause()  # the child lives on as an orphan, as a data loader's worker may
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_every_counted_measurement_survives_a_kill_at_any_moment(path: Path) -> None:
    with start("-m", "tests.nas.engine.store.interrupted_writers", str(path), str(REPETITIONS), "7") as writers:
        before = 0
        for _ in range(REPETITIONS):
            counted = int(line(writers))
            assert counted > before
            store = SqlStore.open(path, create=False, driver=True)  # the lease is free at once
            found = store.measurements()
            assert len(found) in (counted, counted + 1)  # the next one may be committed, and not yet counted
            assert [m.request for m in found] == [request(number) for number in range(len(found))]
            assert found[-1] == measured(len(found) - 1)
            assert store.samples(found[-1].request) == bytes(3000)
            assert len(store.asks()) in (len(found), len(found) + 1)  # written before it is acted upon
            state = store.state()
            assert state.epoch in (counted, counted + 1)
            assert state.searched_seconds == state.epoch  # written together
            store.close()
            before = len(found)
            assert writers.stdin is not None
            writers.stdin.write("\n")
            writers.stdin.flush()
    assert writers.returncode == 0


def test_a_live_process_holds_the_run_until_it_is_killed(path: Path) -> None:
    with start("-c", HOLD, str(path)) as holder:
        assert line(holder) == "held\n"
        with pytest.raises(RunHeldError, match=f"process {holder.pid} on "):
            SqlStore.open(path, create=False, driver=True)
        reader = SqlStore.open(path, create=False, driver=False)
        assert reader.measurements() == []
        reader.close()
        holder.kill()
    SqlStore.open(path, create=False, driver=True).close()


def test_a_forked_child_does_not_keep_the_lease(path: Path) -> None:
    with start("-c", FORK_AND_HOLD, str(path)) as holder:
        child = int(line(holder))
        try:
            holder.kill()
            holder.wait()
            os.kill(child, 0)  # it lives
            SqlStore.open(path, create=False, driver=True).close()
        finally:
            os.kill(child, signal.SIGKILL)
