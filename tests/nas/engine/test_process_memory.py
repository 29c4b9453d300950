"""The memory of process trees, and the peak that is sampled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from nas.engine.process_memory import PeakMemory, seconds_since_start, started_below, tree_mib

HOLDING = "import sys; held = bytearray(b'x') * (200 * 2**20); print('ready', flush=True); sys.stdin.read()"
NESTED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDING!r}])"

OPENING = "file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)]"


def test_memory_of_processes_below_others_counts() -> None:
    before = tree_mib(os.getpid())
    with PeakMemory() as memory:
        with subprocess.Popen(
            [sys.executable, "-c", NESTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert 195 < memory.sample() - before < 260
            process.communicate("")
        assert memory.sample() - before < 100
    assert 195 < memory.peak_mib - before < 260


def test_a_process_that_still_runs_in_its_parents_memory_does_not_count(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    starts = HOLDING.replace(
        "sys.stdin.read()", f"os.posix_spawn(sys.executable, ['python', '-c', ''], {{}}, {OPENING})"
    )
    with subprocess.Popen([sys.executable, "-c", f"import os; {starts}", fifo], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while len(started_below(process.pid)) < 2:  # the new process waits for a writer, before it executes its program
            time.sleep(0.01)
        memory = tree_mib(process.pid)
        fifo.write_text("")
    assert 195 < memory < 260


RESTARTED = """
from nas.engine.process_memory import PeakMemory, release_free_memory
with PeakMemory() as memory:
    held = b"x" * (100 * 2**20)
    memory.sample()
    del held
    release_free_memory()
    print(memory.restart() - memory.peak_mib)
"""


def test_a_new_peak_begins_with_the_memory_now() -> None:
    # In a process of its own: what others have freed in this one would be returned, too.
    command = [sys.executable, "-c", RESTARTED]
    freed = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 80 < freed < 130


def test_a_process_that_is_gone_has_no_memory_and_no_start() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
        pid = process.pid
    assert tree_mib(pid) == 0
    assert seconds_since_start(pid) == 0


def test_a_process_has_started_before_now() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        first = seconds_since_start(process.pid)
        time.sleep(0.05)
        assert 0 <= first < seconds_since_start(process.pid)
        process.communicate(b"")
    assert 0 < seconds_since_start(os.getpid()) < float("inf")
