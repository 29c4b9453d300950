"""The memory of large models: one copy of each, in huge pages, without which its latency differs between sessions."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .machine import file_text

LARGE_BYTES = 32 * 1024 * 1024
"""Size of a model from which its weights are put into huge pages, and it is read from a file."""
_HUGE, _MADV_COLLAPSE = 2 * 1024 * 1024, 25


@contextmanager
def as_file(model: bytes) -> Iterator[str]:
    """The path of a file in memory with the bytes of a model."""
    with os.fdopen(os.memfd_create("model"), "wb") as file:
        file.write(model)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def gather_memory() -> None:
    """Puts this process's memory into huge pages where the system can (Linux 6.1 or newer).

    Pages of 4 KiB are scattered over the machine's memory, and differently in each session: a model of 340 MB took 28 to 59 ms
    in five sessions of one process, and 23.6 to 24.3 ms in huge pages.
    """
    advise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _, _, inode = line.split()[:5]
        start, end = (int(address, 16) for address in span.split("-"))
        start, end = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if permissions == "rw-p" and inode == "0" and start < end:
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


def in_small_pages(rollup: str = "/proc/self/smaps_rollup") -> int | None:
    """Bytes of this process's own memory that are not in huge pages; None where Linux is too old (before 4.14) to tell."""
    if not os.path.exists(rollup):
        return None
    sizes = dict(line.split(":", 1) for line in file_text(rollup).splitlines() if line.endswith(" kB"))
    anonymous, huge = (int(sizes[name].split()[0]) for name in ("Anonymous", "AnonHugePages"))
    return (anonymous - huge) * 1024


def share_scattered(small_before: int | None, size: int) -> float:
    """The share of a model of this size, loaded since, that is not in huge pages; 1 where it cannot be told."""
    small = in_small_pages()
    return 1.0 if small is None or small_before is None else min(max(0.0, (small - small_before) / size), 1.0)
