"""The time and the memory that a run takes, by phase, beside what a plan of its job expected."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nas.engine.process_memory import PeakMemory, seconds_since_start
from nas.engine.store.base import RunStore
from nas.engine.store.folder import RunsFolder, write_atomically

PLAN, USAGE = "plan", "usage"
"""Kinds of a run's events: what a plan expected, once; and what each driver of the run took."""
_FOLDER = ".plans"
_MAX_PLANS = 100
"""Plans that a folder of runs keeps; a new one replaces the oldest."""


class RunUsage:
    """Measures the phases of a run and the memory of its processes while it is entered, and records them then.

    Args:
        store: The run's store.
        is_command: True if this process was started for the run, so that its start counts for the run's time.
    """

    def __init__(self, store: RunStore, *, is_command: bool) -> None:
        self._store, self._memory = store, PeakMemory()
        self._seconds = {"start": seconds_since_start(os.getpid())} if is_command else {}

    def __enter__(self) -> Self:
        self._memory.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._memory.__exit__(kind, error, at)
        if error is None:
            self._store.record_event(USAGE, {"time": self._seconds, "peak_mib": self._memory.peak_mib})

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time within the context for a phase."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - before


def usage_json(store: RunStore) -> dict[str, Any]:
    """Seconds by phase and the peak memory of a run, over all of its drivers that ended well, and what a plan expected.

    ``time`` and ``peak_mib`` are empty and None of runs of earlier versions; ``planned`` is None of jobs without a plan.
    """
    seconds: dict[str, float] = {}
    peak_mib: float | None = None
    planned: Mapping[str, Any] | None = None
    for event in store.events():
        if event.kind == PLAN:
            planned = event.detail
        elif event.kind == USAGE:
            for phase, phase_s in event.detail["time"].items():
                seconds[phase] = seconds.get(phase, 0.0) + phase_s
            peak_mib = max(peak_mib or 0.0, event.detail["peak_mib"])
    return {"time": seconds, "peak_mib": peak_mib, "planned": planned}


def keep_plan(runs: RunsFolder, job: str, expected: Mapping[str, Any], *, inline: bool) -> None:
    """Keeps what a plan expects of a job, for the runs of this job on this machine.

    Args:
        runs: Folder of the runs.
        job: Text of the job, with all of its settings.
        expected: ``time`` and ``memory`` of the plan, JSON-able.
        inline: True if the search runs in one process.
    """
    path = _path(runs, job, inline=inline)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(expected).encode())
    for old in sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-_MAX_PLANS]:
        old.unlink(missing_ok=True)


def kept_plan(runs: RunsFolder, job: str, *, inline: bool) -> Mapping[str, Any] | None:
    """The expectations of the last plan of a job on this machine, as `keep_plan` took them; None without one."""
    try:
        expected = json.loads(_path(runs, job, inline=inline).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a damaged plan is as good as none
        return None
    return expected if isinstance(expected, dict) else None


def _path(runs: RunsFolder, job: str, *, inline: bool) -> Path:
    text = json.dumps([job, inline, platform.node()])
    return runs.root / _FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
