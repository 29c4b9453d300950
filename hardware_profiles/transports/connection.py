"""Connection to a measuring process: lines of JSON followed by payloads of bytes, with timeouts."""

from __future__ import annotations

import functools
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hardware_profiles.errors import WorkerDiedError, WorkerError
from hardware_profiles.runtimes.lookup import source_of

WORKER_FOLDER = Path(__file__).parents[1] / "measuring" / "worker"
FIXED_LAYOUT = ("setarch", "-R")
"""Prefix of a command that runs it without address space randomisation."""
_CLOSE_SECONDS = 2.0
_LAST_BYTES = 2000
_SEND_SECONDS = 120.0
"""After this time without any byte sent, the process is ended; a slow line to a board always sends some."""


class Connection(Protocol):
    """Sends commands to a measuring process and receives its answers; each transport implements it."""

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        """Sends a command and the bytes that follow it (a model, its inputs), since no file system is shared.

        Args:
            payloads: their lengths are sent as the command's ``payloads``.

        Raises:
            WorkerDiedError: the process has ended, or reads nothing.
        """

    def receive(self, *, seconds: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            WorkerDiedError: there was none in time, or the process ended.
        """

    def close(self) -> None:
        """Ends the process; idempotent."""


def local_command() -> list[str]:
    """The command that runs the worker's package, without address randomisation where this system allows it."""
    worker = [sys.executable, "-P", str(WORKER_FOLDER / "__main__.py")]  # -P: not with the modules of its folder
    return [*FIXED_LAYOUT, *worker] if _can_fix_layout() else worker


def worker_archive(runtime: str) -> bytes:
    """An archive of the worker's package, with the file of a runtime's class, for a machine that has neither.

    The same files give the same bytes.
    """
    contents = {path.name: path.read_bytes() for path in sorted(WORKER_FOLDER.glob("*.py"))}
    contents["sent_runtime.py"] = Path(source_of(runtime).rpartition(":")[0]).read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for name, content in contents.items():
            files.writestr(zipfile.ZipInfo(f"worker/{name}"), content)  # without times
    return archive.getvalue()


def worker_settings(threads: int, runtime: str = "onnxruntime") -> dict[str, str]:
    """A worker's environment variables: the class of its runtime with the file that has it here, thread pools of `threads`
    without spinning, and a fixed hash seed.

    The seed complements `FIXED_LAYOUT`: with a random memory layout, the time of a call varies by half a microsecond between
    processes, which is 0.9 % of the smallest networks' latency; with a fixed layout it hardly varies.
    """
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    fixed = {"OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0", "MEASURED_RUNTIME": source_of(runtime)}
    return {**dict.fromkeys(pools, str(threads)), **fixed}


def worker_environment(threads: int, runtime: str = "onnxruntime") -> dict[str, str]:
    """This process's environment variables with `worker_settings`."""
    return {**os.environ, **worker_settings(threads, runtime)}


@functools.cache
def _can_fix_layout() -> bool:
    """Returns True if the system allows a fixed layout; many containers forbid it. The worker's environment has its layout."""
    try:
        return subprocess.run([*FIXED_LAYOUT, "true"], capture_output=True, check=False).returncode == 0
    except OSError:  # not Linux, or a minimal one
        return False


class LocalConnection:
    """A child process; implements `Connection`. The constructor raises `WorkerError` if it cannot be started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A file instead of a pipe: it is read only after the process ends, and a full pipe would stop the process.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        pipe, errors = subprocess.PIPE, self._errors
        try:
            self._process = subprocess.Popen(
                command, env=environment, stdin=pipe, stdout=pipe, stderr=errors, bufsize=0
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"the measuring process cannot be started ({command[0]}): {error.strerror}") from None
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018 - for the type checker
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)  # so that a process that stops reading cannot block this one
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: Mapping[str, Any], payloads: Sequence[bytes] = ()) -> None:
        head = {**command, "payloads": [len(payload) for payload in payloads]} if payloads else command
        try:
            for part in (json.dumps(head).encode() + b"\n", *payloads):
                self._write(memoryview(part))
        except (BrokenPipeError, ValueError):  # ValueError: closed on our side
            raise self._dead() from None

    def _write(self, unsent: memoryview) -> None:
        while unsent:
            if not select.select([], [self._stdin], [], _SEND_SECONDS)[1]:
                self._process.kill()
                raise WorkerDiedError(f"the measuring process read nothing for {_SEND_SECONDS:.0f} s and was ended")
            unsent = unsent[os.write(self._stdin.fileno(), unsent) :]

    def receive(self, *, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not select.select([self._stdout], [], [], remaining_s)[0]:
                self._process.kill()
                raise WorkerDiedError(f"the measuring process did not answer in {seconds:.0f} s and was ended")
            chunk = os.read(self._stdout.fileno(), 1 << 16)
            if not chunk:
                raise self._dead()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._stdin.close()
        self._ended()
        self._stdout.close()
        self._errors.close()

    def last_error_line(self) -> str:
        """The last line that the process wrote to its standard error; empty if there is none."""
        file = self._errors.fileno()
        size = os.fstat(file).st_size
        lines = os.pread(file, _LAST_BYTES, max(0, size - _LAST_BYTES)).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300].strip() if lines else ""

    def _ended(self) -> int:
        """The exit code of the process, which is killed if it does not end soon."""
        try:
            return self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _dead(self) -> WorkerDiedError:
        code = self._ended()
        how, line = signal.Signals(-code).name if code < 0 else f"exit code {code}", self.last_error_line()
        return WorkerDiedError(f"the measuring process died ({how}{': ' + line if line else ''})")
