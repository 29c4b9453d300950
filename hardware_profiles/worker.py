"""The measuring process: pinned and alone on its host, it times ONNX models as it is told to, line by line.

It needs Python on Linux, numpy and onnxruntime alone: this one file can be copied to a board and run there. It decides
nothing about protocols; who drives it does. A line of JSON in is a command, and each is answered by a line of JSON out:

    {"do": "start", "threads", "provider"}       -> {"event": "ready", "environment"}
    {"do": "acquire", "lock", "seconds"}         -> [{"event": "waiting", "holder"}] {"event": "acquired" | "refused"}
    {"do": "load", "id", "model", "inputs", "names"} -> {"event": "loaded", "warm_ms"} | {"event": "failed", "message"}
    {"do": "round", "order": [[id, n_runs], …]}  -> {"event": "round", "entries": {id: {"wall_ms", …} | {"message"}}}
    {"do": "release"}                            -> {"event": "released"}

It ends at the end of its input.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import platform
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnxruntime

_STABLE_RUNS, _STABLE_GAIN = 4, 0.02
"""Warm-up ends when this many runs in a row beat the fastest so far by no more than this share."""
_WARM_UP_SECONDS, _WARM_UP_RUNS = 0.25, 200
_PARENT_SECONDS = 0.5


def _watch_parent(parent: int) -> None:
    """Ends this process when its parent is gone, whatever it is doing: an orphan would disturb the next measurement."""
    # With no events asked for, poll reports a hang-up alone. Forks of the parent may keep the pipe open, hence its id too.
    poller = select.poll()
    poller.register(0, 0)
    while os.getppid() == parent and not poller.poll(_PARENT_SECONDS * 1000):
        pass
    os._exit(0)


def _choose_cpus(n: int) -> list[int]:
    """`n` of the CPUs that this process may use: of different cores where possible, the last first (0 serves interrupts)."""
    first: dict[str, int] = {}
    siblings = []
    for cpu in sorted(os.sched_getaffinity(0), reverse=True):
        core = _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        if core in first:
            siblings.append(cpu)
        first.setdefault(core, cpu)
    return [*first.values(), *siblings][:n]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:  # not every kernel and board has every file
        return ""


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Worker:
    """The commands, and what is loaded."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._cpus: list[int] = []
        self._provider = ""
        self._lock: int | None = None
        self._loaded: dict[str, tuple[Any, dict[str, Any]]] = {}

    def say(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()

    def start(self, threads: int, provider: str) -> None:
        """Pins this thread to the first of its CPUs; ONNX Runtime pins its own threads to the others."""
        allowed = len(os.sched_getaffinity(0))
        self._cpus, self._provider = _choose_cpus(threads), provider
        os.sched_setaffinity(0, self._cpus[:1])
        self.say(
            "ready",
            environment={
                "cpu": _cpu_model(),
                "cores": os.cpu_count(),
                "allowed_cpus": allowed,
                "pinned_cpus": self._cpus,
                "governor": _read(f"/sys/devices/system/cpu/cpu{self._cpus[0]}/cpufreq/scaling_governor") or None,
                "platform": platform.platform(),
                "python": platform.python_version(),
                "onnxruntime": onnxruntime.__version__,
                "numpy": np.__version__,
                "provider": provider,
                "threads": threads,
            },
        )

    def acquire(self, lock: str, seconds: float) -> None:
        """Takes the host's lock. The system gives it back when this process ends, however it does."""
        # The name holds the user's id, and no link is followed: the folder is everybody's.
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode("ascii", "replace")
            self.say("waiting", holder=holder)
            if not _wait_for(file, seconds):
                os.close(file)
                self.say("refused", holder=holder)
                return
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._lock = file
        self.say("acquired")

    def load(self, id: str, model: str, inputs: str, names: list[str]) -> None:
        """Makes a session and warms it up until it is stable."""
        try:
            with np.load(inputs, allow_pickle=False) as arrays:
                feeds = {name: arrays[f"arr_{i}"] for i, name in enumerate(names)}
            session = self._session(model)
            warm_ms = _warm_up(session, feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            self.say("failed", message=_told(error))
            return
        self._loaded[id] = session, feeds
        self.say("loaded", warm_ms=warm_ms)

    def round(self, order: list[tuple[str, int]]) -> None:
        """Runs the entries one after the other, each so many times in a row."""
        entries = {}
        gc.disable()  # a collection inside a run would be timed with it
        for id, n_runs in order:
            session, feeds = self._loaded[id]
            try:
                wall, cpu, switches = _time_runs(session, feeds, n_runs)
                entries[id] = {"wall_ms": wall, "cpu_ms": cpu, "switches": switches}
            except Exception as error:  # as above
                entries[id] = {"message": _told(error)}
        gc.enable()
        self.say("round", entries=entries)

    def release(self) -> None:
        """Drops what is loaded and gives the host's lock back."""
        self._loaded.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.say("released")

    def _session(self, model: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(self._cpus)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        if len(self._cpus) > 1:  # the runtime numbers processors from 1, and its first thread is the calling one
            others = ";".join(str(cpu + 1) for cpu in self._cpus[1:])
            options.add_session_config_entry("session.intra_op_thread_affinities", others)
        session = onnxruntime.InferenceSession(model, options, providers=[self._provider])
        session.disable_fallback()
        used = session.get_providers()
        if used[0] != self._provider:
            raise RuntimeError(f"the provider {self._provider} was asked for, and the runtime fell back to {used}")
        return session


def _wait_for(file: int, seconds: float) -> bool:
    """Whether the lock came within the time. Asking again and again would lose it to a driver with batch after batch."""

    def expire(number: int, frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    except TimeoutError:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _warm_up(session: Any, feeds: dict[str, Any]) -> float:
    """The fastest of the runs, in milliseconds."""
    best, calm, started = float("inf"), 0, time.perf_counter()
    for _ in range(_WARM_UP_RUNS):
        wall_ms = _time_runs(session, feeds, 1)[0][0]
        calm = calm + 1 if wall_ms > best * (1 - _STABLE_GAIN) else 0
        best = min(best, wall_ms)
        if calm >= _STABLE_RUNS or time.perf_counter() - started > _WARM_UP_SECONDS:
            break
    return best


def _time_runs(session: Any, feeds: dict[str, Any], n: int) -> tuple[list[float], list[float], list[int]]:
    """Wall and thread CPU milliseconds and involuntary context switches of the process, for each run."""
    wall, cpu, switches = [], [], []
    run, perf_counter, thread_time = session.run, time.perf_counter, time.thread_time
    for _ in range(n):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        cpu_start, start = thread_time(), perf_counter()
        run(None, feeds)
        end, cpu_end = perf_counter(), thread_time()
        wall.append((end - start) * 1e3)
        cpu.append((cpu_end - cpu_start) * 1e3)
        switches.append(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before)
    return wall, cpu, switches


def _told(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."


def main() -> None:
    """Answers commands until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what it means
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not fall between the answers
    worker = Worker(out)
    commands: dict[str, Callable[..., None]] = {
        command.__name__: command
        for command in (worker.start, worker.acquire, worker.load, worker.round, worker.release)
    }
    for line in sys.stdin:
        command = json.loads(line)
        commands[command.pop("do")](**command)


if __name__ == "__main__":
    main()
