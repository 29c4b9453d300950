"""The commands of the driver, and the models and the lock that they hold."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from .energy_counters import NoEnergyError, energy_counters
from .environment import environment_of
from .fork_server import ForkServer
from .host_lock import lock_path, open_lock, wait_for
from .large_models import LARGE_BYTES, as_file, gather_memory, in_small_pages, share_scattered
from .machine import busy_s, changing_facts, cpu_times, suspended_s
from .model_runs import RUNTIME, Calls, create_session, message_of, read_calls, time_runs, warm_up
from .pinning import REALTIME, asked_cpus, choose_cpus, pin, prefer_worker


class Worker:
    """Executes the commands, and holds the loaded models."""

    def __init__(self, out: TextIO, fork_server: ForkServer | None) -> None:
        self._out, self._fork_server = out, fork_server
        self._cpus: list[int] = []
        self._provider, self._trivial = "", b""
        self._lock: int | None = None
        self._ticks, self._asleep_s = (0, 0), 0.0
        self._rounds_s = self._others_s = 0.0
        self._loaded: dict[str, tuple[Any, Calls]] = {}
        self._counters: list[Any] = []

    def _answer(self, event: str, **values: Any) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")
        self._out.flush()

    def start(self, threads: int, provider: str, trivial: str, energy: bool = False) -> None:
        """Pins this thread to the first of its CPUs; the runtime pins its own threads to the others."""
        if self._fork_server is None:
            self._answer("unsupported", platform=sys.platform)
            return
        try:
            self._cpus, self._provider = asked_cpus(threads) or choose_cpus(threads), provider
            self._trivial = bytes.fromhex(trivial)
            environment = environment_of(self._cpus, provider)
            pin(self._cpus)
            prefer_worker(True)
            prefer_worker(False)
            if energy:
                self._counters, environment["energy"] = energy_counters(self._cpus, provider)
        except NoEnergyError as error:
            self._answer("no-energy", message=str(error))
            return
        except (OSError, ValueError) as error:
            self._answer("refused", message=str(error))
            return
        self._answer("ready", environment=environment)

    def acquire(self, lock: str, seconds: float) -> None:
        """Takes the host's lock, by its name or the path of its file. The system releases it when this process ends."""
        path = lock if os.sep in lock else lock_path(lock)
        try:
            file = open_lock(path)
        except OSError as error:
            self._answer("lock-unusable", lock=path, reason=error.strerror)
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(file, 20, 0)
            holder = pid.decode() if pid.isdigit() else ""  # any user may have written any text
            self._answer("waiting", holder=holder, lock=path)
            if not wait_for(file, seconds):
                os.close(file)
                self._answer("lock-timeout", holder=holder, lock=path)
                return
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._lock, self._ticks, self._asleep_s = file, cpu_times(self._cpus), suspended_s()
        self._rounds_s = self._others_s = 0.0
        prefer_worker(True)
        self._answer("acquired")

    def load(self, id: str, names: list[list[str]], payloads: list[bytes]) -> None:
        """Creates a session and warms it up until it is stable, after another process has measured creation and memory."""
        assert self._fork_server is not None  # "start" rejects a machine without
        try:
            alone = self._fork_server.measure(self._cpus, self._provider, names, [*payloads, self._trivial])
            calls, size = read_calls(payloads.pop(), names), len(payloads[0])
            large = size >= LARGE_BYTES
            small_before = in_small_pages() if large else None
            session, creations_ms = self._create_session(payloads, calls, large)
            if large:
                gather_memory()
            scattered = share_scattered(small_before, size) if large else 0.0
            warm_ms = warm_up(session, calls)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            self._answer("failed", message=message_of(error))
            return
        self._loaded[id] = session, calls
        costs = {"warm_ms": warm_ms, "session_ms": [*alone["session_ms"], *creations_ms], "peak_mib": alone["peak_mib"]}
        self._answer("loaded", **costs, providers=list(session.devices), scattered=scattered)

    def _create_session(self, models: list[bytes], calls: Calls, large: bool) -> tuple[Any, list[float]]:
        """The session of the only model, which is taken from the list, and the milliseconds of its creation where it is timed.

        The session of a large model is made of a file where the runtime can: one of ONNX Runtime that is made of bytes keeps
        all of them, and three models are held at once. Its creation takes another time, which is not compared with the others.
        """
        if not (large and getattr(RUNTIME, "reads_files", False)):
            session, session_ms = create_session(models.pop(), self._cpus, self._provider, calls)
            return session, [session_ms]
        with as_file(models.pop()) as path:
            return create_session(path, self._cpus, self._provider, calls)[0], []

    def round(self, order: list[tuple[str, int]]) -> None:
        """Runs the entries in order, each its number of times in a row."""
        entries = {}
        busy_start_s, cpu_start_s, start_s = busy_s(None), time.process_time(), time.perf_counter()
        gc.disable()  # a collection inside a run would be timed with it
        for id, n_runs in order:
            session, calls = self._loaded[id]
            try:
                wall, cpu, switches = time_runs(session, calls, n_runs)
                entries[id] = {"wall_ms": wall, "cpu_ms": cpu, "switches": switches}
            except Exception as error:  # as above
                entries[id] = {"message": message_of(error)}
        gc.enable()
        self._rounds_s += time.perf_counter() - start_s
        self._others_s += busy_s(None) - busy_start_s - (time.process_time() - cpu_start_s)
        self._answer("round", entries=entries)

    def energy(self, order: list[tuple[str, float]]) -> None:
        """Runs the entries in order, each its number of times in a row, or waits, and reads the energy of each."""
        entries = {}
        gc.disable()
        try:
            for id, n in order:
                entries[id] = self._energy_of(id, n)
        except NoEnergyError as error:
            self._answer("no-energy", message=str(error))
            return
        finally:
            gc.enable()
        self._answer("energy", entries=entries)

    def _energy_of(self, id: str, n: float) -> dict[str, Any]:
        """Microjoules, seconds, CPU seconds of this process, and of others on its CPUs; ``message`` of a model that fails,
        ``unclear`` of counters that were read too rarely."""
        pause_s = min(counter.span_s for counter in self._counters) / 2
        for counter in self._counters:
            counter.restart()
        busy_start, cpu_start, start = busy_s(self._cpus), time.process_time(), time.perf_counter()
        try:
            steps = self._waits(n / 1e3, pause_s) if id == "" else self._runs(id, int(n))
            read_at = start + pause_s
            while True:
                try:
                    if next(steps, None) is None:
                        break
                except Exception as error:  # of the runtime, as above
                    return {"message": message_of(error)}
                if time.perf_counter() >= read_at:
                    for counter in self._counters:
                        counter.read()
                    read_at = time.perf_counter() + pause_s
            uj = sum(counter.read() for counter in self._counters)
        except OverflowError as error:
            return {"unclear": str(error)}
        end_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        others_s = max(0.0, busy_s(self._cpus) - busy_start - cpu_s)
        return {"uj": uj, "s": end_s, "cpu_s": cpu_s, "others_s": others_s}

    def _runs(self, id: str, n: int) -> Iterator[bool]:
        session, calls = self._loaded[id]
        for _ in range(n):
            for feeds in calls:
                session.run(feeds)
            yield True

    @staticmethod
    def _waits(seconds: float, pause_s: float) -> Iterator[bool]:
        end = time.perf_counter() + seconds
        while (remaining_s := end - time.perf_counter()) > 0:
            time.sleep(min(remaining_s, pause_s))
            yield True

    def release(self) -> None:
        """Drops the loaded models, releases the host's lock, and reports what may have changed since it was taken."""
        self._loaded.clear()
        prefer_worker(False)
        stolen, total = (now - was for was, now in zip(self._ticks, cpu_times(self._cpus)))  # noqa: B905 - Python 3.9
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        asleep_s = max(0.0, suspended_s() - self._asleep_s)
        changes = {
            "steal": stolen / total if total > 0 else 0.0,
            "busy": self._busy(),
            "suspended_s": round(asleep_s, 1),
            "realtime": REALTIME,
        }
        self._answer("released", environment={**changes, **changing_facts(self._cpus)})

    def _busy(self) -> float | None:
        """Share of the time of all CPUs that other processes took during the rounds; None if there were none, or /proc/stat."""
        if not self._rounds_s or not busy_s(None):
            return None
        return min(max(0.0, self._others_s / (self._rounds_s * (os.cpu_count() or 1))), 1.0)
