"""A server in a process of its own, without a cluster, so that it runs no jobs; its runs and its CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.engine.store.run_facts import RunFacts
from tests.nas.commands import SMALL_JOB


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def add_finished_runs(runs: RunsFolder, n: int) -> None:
    """Adds runs that have ended, without measurements, as a server has many."""
    for _ in range(n):
        store = open_store(runs.create("other", SMALL_JOB), create=True, driver=True)
        store.describe(RunFacts(name="other", compatibility={}, epochs=3), epoch=3)
        store.set_status(RunStatus.RUNNING)
        store.set_status(RunStatus.FINISHED)
        store.close()


@contextmanager
def serving(
    runs: RunsFolder, *, errors: BinaryIO | None = None, files: int = 0
) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """A server, its address, and the seconds until it listened.

    Args:
        errors: the file that gets its log, in place of this process's stderr.
        files: its limit of open files, soft and hard; 0 for that of this process.
    """
    nowhere = ["--address", "127.0.0.1:1", "--jobs-url", "http://127.0.0.1:1"]
    serve = [sys.executable, "-m", "nas.cli", "serve", "--runs", str(runs.root), "--port", "0"]
    begun = time.perf_counter()
    limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] if files else []
    command = [*limited, *serve, "--log-level", "error", *nowhere]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            yield server, url, time.perf_counter() - begun
        finally:
            server.kill()
