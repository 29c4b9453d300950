"""A connection to a measuring process: lines of JSON, and bytes behind them, each awaited for a limited time."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hardware_profiles.errors import WorkerDiedError, WorkerError

WORKER_FILE = Path(__file__).parents[1] / "measuring" / "worker.py"
FIXED_LAYOUT = ("setarch", "-R")
"""Before a command: it runs without address space randomisation."""
_CLOSE_SECONDS = 2.0
_SEND_SECONDS = 120.0
"""After which a process that takes nothing more is given up; a slow line to a board takes some of it all the time."""


class Connection(Protocol):
    """Where commands go and answers come from; a transport to another machine is one more of these."""

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        """Hands over a command, and bytes that follow it (a model, its inputs): no file system is shared.

        Args:
            payloads: their lengths are sent as the command's ``payloads``.

        Raises:
            WorkerDiedError: there is nobody to take it.
        """
        ...

    def receive(self, *, seconds: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            WorkerDiedError: none came within the time, or the process ended.
        """
        ...

    def close(self) -> None:
        """Ends the process; idempotent."""
        ...


def local_command() -> list[str]:
    """The worker by its file: -P keeps its folder, whose modules it must not find, out of the import path.

    It starts without address randomisation where this system allows that (see `worker_settings`).
    """
    worker = [sys.executable, "-P", str(WORKER_FILE)]
    return [*FIXED_LAYOUT, *worker] if _can_fix_layout() else worker


def worker_settings(threads: int) -> dict[str, str]:
    """Environment variables for a worker: thread pools of `threads`, none of them spinning; and one order of Python's hashes.

    The last goes with `FIXED_LAYOUT`: where code and tables lie in memory moves a call by half a microsecond from one
    process to the next, which is 0.9 % of the smallest networks' latency, and with one layout nearly nothing.
    """
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(pools, str(threads)), "OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0"}


def worker_environment(threads: int) -> dict[str, str]:
    """This process's environment, with `worker_settings`."""
    return {**os.environ, **worker_settings(threads)}


@functools.cache
def _can_fix_layout() -> bool:
    """Many containers' system call filters do not let a process choose; the worker tells in its environment which it got."""
    try:
        return subprocess.run([*FIXED_LAYOUT, "true"], capture_output=True, check=False).returncode == 0
    except OSError:  # not Linux, or a small one
        return False


class LocalConnection:
    """A child process.

    Raises:
        WorkerError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A file and not a pipe: nobody reads it while the process runs, and a full pipe would stop it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"the measuring process cannot be started ({command[0]}): {error.strerror}") from None
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018 - for the type checker
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)  # so that a process that has stopped reading cannot hold us
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        told = {**command, "payloads": [len(payload) for payload in payloads]} if payloads else command
        try:
            for part in (json.dumps(told).encode() + b"\n", *payloads):
                self._write(memoryview(part))
        except (BrokenPipeError, ValueError):  # ValueError: closed on our side
            raise self._dead() from None

    def _write(self, left: memoryview) -> None:
        while left:
            if not select.select([], [self._stdin], [], _SEND_SECONDS)[1]:
                self._process.kill()
                raise WorkerDiedError(f"the measuring process took nothing in {_SEND_SECONDS:.0f} s and was ended")
            left = left[os.write(self._stdin.fileno(), left) :]

    def receive(self, *, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._stdout], [], [], left)[0]:
                self._process.kill()
                raise WorkerDiedError(f"the measuring process gave no answer in {seconds:.0f} s and was ended")
            chunk = os.read(self._stdout.fileno(), 1 << 16)
            if not chunk:
                raise self._dead()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Asks by ending the input, and kills what is still there shortly after."""
        self._stdin.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._errors.close()

    def _dead(self) -> WorkerDiedError:
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            self._process.kill()
            code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        last = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        return WorkerDiedError(f"the measuring process died ({how}{': ' + last[0][:300] if last else ''})")
