"""Checks that an example and what a network makes of it fit into memory, before the system ends the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import torch

from supernets.errors import CaptureError
from supernets.networks.capture.execution import last_reads
from supernets.networks.capture.program import Call, Program, ValueSpec, replacement
from supernets.networks.operations import may_return_view, operation

_MEMINFO = Path("/proc/meminfo")
_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Limit and use of a container's memory, of both versions of control groups."""
_GIB = 2**30


def available_bytes() -> int | None:
    """Memory that this process may still use: of the machine, and of its container; None where neither is known."""
    limits = []
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        limits.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError, IndexError):
        pass  # no Linux
    for limit, used in _GROUPS:
        try:
            limits.append(max(int(limit.read_text()) - int(used.read_text()), 0))
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue
    return min(limits, default=None)


def check_example(shape: Sequence[int], *, name: str, bytes_each: int = 4) -> None:
    """Raises `CaptureError` if an example does not fit into memory."""
    _check_available(bytes_each * prod(shape), f"{name}: the {' x '.join(map(str, shape))} numbers of an example")


def check_values(program: Program, *, batch: int, double: bool = False) -> None:
    """Raises `CaptureError` if the results that a run needs at once do not fit into memory.

    Args:
        double: True for the run in double precision of a proof.
    """
    n_bytes, largest = _peak(program)
    if largest is not None:
        where = f"{largest.name}{f' in {largest.module}' * bool(largest.module)}"
        subject = f"the results that are needed at once for {batch} examples, of which {where} has the largest,"
        _check_available((1 + double) * n_bytes * batch // program.batch, subject, "; or leave out the proof" * double)


def peak_bytes(program: Program) -> int:
    """The most bytes of results that a run of the captured batch needs at once."""
    return _peak(program)[0]


def _peak(program: Program) -> tuple[int, Call | None]:
    """The most bytes of results that later calls read, and the call with the largest result; None without calls."""
    viewed: dict[str, str] = {}
    for call in program.calls:
        if may_return_view(operation(call)) and (source := next(call.reads(), "")):
            viewed.update((name, source) for name in call.outputs if name)
    calls = tuple(call.reading(viewed) for call in program.calls)
    outputs = {replacement(name, viewed) for name in program.outputs}
    live_bytes = most_bytes = 0
    n_bytes_of, largest, largest_bytes = dict[str, int](), None, -1
    for call, ending in zip(calls, last_reads(replace(program, calls=calls), outputs), strict=True):
        results = {name: _bytes(program.values[name]) for name in call.outputs if name and name not in viewed}
        n_bytes_of.update(results)
        n_bytes = sum(results.values())
        live_bytes += n_bytes
        most_bytes = max(most_bytes, live_bytes)
        if results and n_bytes > largest_bytes:
            largest, largest_bytes = call, n_bytes
        live_bytes -= sum(n_bytes_of.get(name, 0) for name in ending)
    return most_bytes, largest


def _check_available(needed: int, subject: str, remedy: str = "") -> None:
    available = available_bytes()
    if available is not None and needed > available:
        raise CaptureError(
            f"{subject} take {needed / _GIB:.1f} GiB of memory, and {available / _GIB:.1f} GiB are available; give an input "
            f"of a smaller size{remedy}",
            code="capture.too-large",
        )


def _bytes(spec: ValueSpec) -> int:
    return int(getattr(torch, spec.dtype).itemsize) * prod(spec.shape)
