"""A folder of energy counters as Linux shows them, advanced by a process of its own: a simulated counter.

The machines on which tests run, mostly virtual ones, have no counters of energy. So ``python energy_counters.py FOLDER`` writes
the files of one: it adds the power of an idle package over time, and more for the CPU time of every process whose environment
names the folder, which it reads from their clocks. All that reads the counters is the real code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IDLE_W, BUSY_W = 4.0, 12.0
"""Power of the package when idle, and what a process adds that uses a CPU fully."""
_CPU_CLOCK = 2
"""The kernel's kind of a process's CPU clock (CPUCLOCK_SCHED)."""


@contextmanager
def counters(folder: Path, *, range_uj: int = 262_143_328_850, limit_uw: int = 0) -> Iterator[Path]:
    """The folder while its counter of package 0 advances; its file is ``intel-rapl:0/energy_uj``.

    Args:
        range_uj: value at which the counter begins again.
        limit_uw: the package's power limit; 0 writes none.
    """
    zone = folder / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
    if limit_uw:
        (zone / "constraint_0_power_limit_uw").write_text(f"{limit_uw}\n")
    (zone / "energy_uj").write_text(f"{range_uj // 2}\n")
    environment = {key: value for key, value in os.environ.items() if key != "NAS_POWERCAP"}
    process = subprocess.Popen([sys.executable, __file__, folder], env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"counts\n"
        yield folder
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _processes(folder: Path) -> list[int]:
    """The processes that read this folder."""
    named, found = f"NAS_POWERCAP={folder}".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if named in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:  # another user's, or it has ended
            continue
    return found


def _cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | _CPU_CLOCK)
    except OSError:  # it has ended
        return 0.0


def _advance(folder: Path) -> None:
    zone = folder / "intel-rapl:0"
    file, range_uj = zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
    total_uj, known, looked, last = float(file.read_text()), dict[int, float](), 0.0, time.perf_counter()
    with suppress(PermissionError):  # no other work keeps a true counter from counting
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    print("counts", flush=True)
    out = os.open(file, os.O_WRONLY)  # a file that is removed stays open here, and is gone for others
    while True:
        now = time.perf_counter()
        if now - looked > 0.05:
            looked, before = now, known
            known = {pid: before.get(pid, _cpu_s(pid)) for pid in _processes(folder)}
        busy_s = 0.0
        for pid in known:
            cpu_s = _cpu_s(pid)
            busy_s += max(0.0, cpu_s - known[pid])
            known[pid] = max(known[pid], cpu_s)
        total_uj += 1e6 * (IDLE_W * (now - last) + BUSY_W * busy_s)
        last = now
        # Of a fixed width, in one write: a reader sees no half-written number.
        os.pwrite(out, f"{int(total_uj) % range_uj:020d}\n".encode(), 0)
        time.sleep(0.002)


if __name__ == "__main__":
    _advance(Path(sys.argv[1]))
