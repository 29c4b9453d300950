"""Models loaded by the runtime, and their timed runs."""

from __future__ import annotations

import io
import itertools
import os
import pkgutil
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

SENT_RUNTIME = "sent_runtime.py"
"""The file of an archive of this package with the class of the runtime."""


def _load_runtime() -> Any:
    """The runtime that MEASURED_RUNTIME names as ``FILE:CLASS``, or ONNX Runtime.

    See `hardware_profiles.runtimes.base.Runtime`. Its source is that beside this module where the driver has sent it, else the
    file. It is not imported by a name, since its package need not be installed here.
    """
    target = os.environ.get("MEASURED_RUNTIME", "")
    if not target:
        target = f"{Path(__file__).parents[2] / 'runtimes' / 'onnx_runtime.py'}:OnnxRuntime"
    file, _, name = target.rpartition(":")
    module = types.ModuleType("measured_runtime")
    sys.modules[module.__name__] = module  # for its dataclasses
    try:
        source = pkgutil.get_data(__package__, SENT_RUNTIME)
    except OSError:  # this package is no archive
        source = Path(file).read_bytes()
    exec(compile(source or b"", file, "exec"), vars(module))
    return getattr(module, name)()


RUNTIME = _load_runtime()
"""The runtime that loads and runs the models."""
VERSION = RUNTIME.version()
"""The version of the runtime, which is imported before any fork, so that the forks need not load it again."""

Calls = tuple[dict[str, Any], ...]
"""The inputs by name of each call of a run."""

_STABLE_RUNS, _STABLE_SHARE = 3, 0.02
"""Warm-up ends after this number of runs in a row that improve on the fastest by at most this share."""
_WARM_UP_SECONDS, _WARM_UP_RUNS = 0.25, 200


def read_calls(inputs: bytes, names: list[list[str]]) -> Calls:
    numbers = itertools.count()  # the arrays are stored call by call
    with np.load(io.BytesIO(inputs), allow_pickle=False) as arrays:
        return tuple({name: arrays[f"arr_{next(numbers)}"] for name in call} for call in names)


def create_session(
    model: bytes | str, cpus: list[int], provider: str, calls: Calls, *, exclusive: bool = True
) -> tuple[Any, float]:
    """The model loaded by the runtime, and the milliseconds that this took.

    Args:
        model: Its bytes, or the path of its file for a runtime that reads files.
        calls: The calls that the model will be run with.
        exclusive: True if the provider must run every operation.
    """
    start = time.perf_counter()
    session = RUNTIME.load(model, device=provider, cpus=cpus, inputs=calls, whole=exclusive)
    return session, (time.perf_counter() - start) * 1e3


def warm_up(session: Any, calls: Calls) -> float:
    """The fastest of the runs, in milliseconds."""
    best, calm, started = float("inf"), 0, time.perf_counter()
    for _ in range(_WARM_UP_RUNS):
        wall_ms = time_runs(session, calls, 1)[0][0]
        calm = calm + 1 if wall_ms > best * (1 - _STABLE_SHARE) else 0
        best = min(best, wall_ms)
        if calm >= _STABLE_RUNS or time.perf_counter() - started > _WARM_UP_SECONDS:
            break
    return best


def time_runs(session: Any, calls: Calls, n: int) -> tuple[list[float], list[float], list[int]]:
    """Wall and thread CPU milliseconds and involuntary context switches of the process, for each run of all calls.

    Raises:
        Exception: of the runtime; with several inputs, a RuntimeError with the number of the one that failed.
    """
    wall, cpu, switches = [], [], []
    run, perf_counter, thread_time = session.run, time.perf_counter, time.thread_time
    feeds = calls[0]
    try:
        for _ in range(n):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            cpu_start, start = thread_time(), perf_counter()
            for feeds in calls:  # no counter: it would be timed, too
                run(feeds)
            end, cpu_end = perf_counter(), thread_time()
            wall.append((end - start) * 1e3)
            cpu.append((cpu_end - cpu_start) * 1e3)
            switches.append(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before)
    except Exception as error:
        if len(calls) == 1:
            raise
        i = [call is feeds for call in calls].index(True)
        raise RuntimeError(f"input {i + 1} of {len(calls)}: {message_of(error)}") from error
    return wall, cpu, switches


def message_of(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."
