"""The memory of this process and of those that it started: measured, and returned to the system."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

LARGE_BYTES = 2**25
"""Size of a network from which what work on it has freed is returned to the system."""
_SAMPLED_S = 0.5
"""Seconds between two samples, at least."""
_MAX_SHARE = 0.01
"""Share of a CPU that samples take at most, where there are many processes."""
_GROWTH = 1.01
"""Growth of what processes hold, each counted whole, from which their memory is taken: the system then walks their pages."""


@contextmanager
def frozen_collector() -> Iterator[None]:
    """Excludes existing objects from garbage collection, a pass over which (modules, data, weights) takes 0.1 s and more."""
    if gc.get_freeze_count():  # the caller has frozen them, and keeps them so
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_free_memory() -> None:
    """Returns what this process has freed to the system, which the C library keeps otherwise."""
    gc.collect()  # modules refer to themselves
    with suppress(AttributeError, OSError):  # of another C library
        ctypes.CDLL(None).malloc_trim(0)


def tree_mib(root: int) -> float:
    """The memory of a process and of all that it started, directly or not, in MiB; what several share counts once.

    Processes that cannot be read, or that have ended, count nothing; nor do those that have been forked and run in their
    parent's memory until they execute their program. Processes of a Ray cluster that somebody else has started are not
    of the tree.

    Args:
        root: Id of the process.
    """
    tree = started_below(root)
    pages = {pid: _memory_pages(pid) for pid in tree}
    counted = [pid for pid, parent in tree.items() if pid == root or pages[pid] != pages.get(parent)]
    return sum(map(_pss_kib, counted)) / 1024


def seconds_since_start(root: int) -> float:
    """The seconds since a process was started, 0 where the system does not report it."""
    try:
        ticks = int(_fields(root)[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))


def _fields(pid: int) -> list[str]:
    """The fields of a process from its state on; its name before may contain spaces."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def started_below(root: int) -> dict[int, int]:
    """A process and those that it started, directly or not, each with its parent, which is 0 for the first."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                children.setdefault(int(_fields(int(entry.name))[1]), []).append(int(entry.name))
    tree, pending = {root: 0}, [root]
    while pending:
        parent = pending.pop()
        new = [child for child in children.get(parent, []) if child not in tree]
        tree.update(dict.fromkeys(new, parent))
        pending += new
    return tree


def _memory_pages(pid: int) -> list[int]:
    """The pages of a process's memory, those that it holds second, with all that it shares; no walk of its pages."""
    with suppress(OSError, ValueError):
        return [int(count) for count in Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()]
    return []


def _held_pages(pid: int) -> int:
    pages = _memory_pages(pid)
    return pages[1] if len(pages) > 1 else 0


def _pss_kib(pid: int) -> int:
    """The memory of a process in KiB, with its share of what others have, too."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


class PeakMemory:
    """Samples the memory of this process and of those that it starts, from a thread, while it is entered.

    Attributes:
        peak_mib: The largest sample so far, in MiB; 0 where the system reports no memory.
    """

    def __init__(self) -> None:
        self.peak_mib, self._held = 0.0, 0
        self._ended, self._sampling = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="peak memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self.sample()

    def sample(self) -> float:
        """The memory now, in MiB, which counts for the peak."""
        with self._sampling:
            memory = tree_mib(os.getpid())
            self.peak_mib = max(self.peak_mib, memory)
        return memory

    def restart(self) -> float:
        """Begins a new peak with the memory now; returns the previous peak, in MiB."""
        self.sample()
        with self._sampling:
            previous, self.peak_mib, self._held = self.peak_mib, 0.0, 0
        self.sample()
        return previous

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            before = time.thread_time()
            n_pages = sum(map(_held_pages, started_below(os.getpid())))
            if n_pages > _GROWTH * self._held:
                self.sample()
                self._held = max(self._held, n_pages)
            pause = max(_SAMPLED_S, (time.thread_time() - before) / _MAX_SHARE)
