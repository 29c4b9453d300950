"""The process of a task: runs its command, and writes its output and exit code to a result file."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from nas.engine.store.folder import write_atomically
from nas.errors import ServiceError

_ERROR = "error: "
"""Prefix of the error messages of `nas`."""
_STDERR_LINES = 20
_GRACE_S = 5.0
"""Between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The outcome of a command.

    Attributes:
        exit_code: negative for a signal; None where it exceeded its time limit.
        stderr: its last lines.
    """

    exit_code: int | None
    stdout: str
    stderr: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The result in a file; None where there is none yet.

        Raises:
            ServiceError: the file is damaged.
        """
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            text = f"{path}: damaged ({error!r}); expected a result of `nas task`"
            raise ServiceError(text, code="task.result-damaged") from None

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self)).encode())

    @property
    def data(self) -> dict[str, Any]:
        """The JSON object that the command printed.

        Raises:
            ServiceError: it failed, or printed no JSON object.
        """
        if self.exit_code != 0:
            raise ServiceError(self.reason)
        try:
            printed = json.loads(self.stdout)
        except ValueError:
            printed = None
        if not isinstance(printed, dict):
            raise ServiceError(f"the command printed {self.stdout[:200]!r}; expected a JSON object")
        return printed

    @property
    def reason(self) -> str:
        """Why it failed: its error message, or the last line that it wrote."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        message = next((line for line in reversed(lines) if line.startswith(_ERROR)), lines[-1] if lines else "")
        message = message.removeprefix(_ERROR)
        if self.exit_code is not None and self.exit_code > 0:
            return message or f"ended with exit code {self.exit_code} and no error message"
        cause = "it took too long" if self.exit_code is None else f"{signal.Signals(-self.exit_code).name} ended it"
        return f"{cause}; it last wrote: {message}" if message else cause


def run_task(path: Path, argv: Sequence[str], *, time_limit_s: float) -> TaskResult:
    """The result of a command, run without a shell and written to a file; a result that exists is returned as it is.

    While the command runs, its stderr can be read in a file of the same name with the suffix ``.log``.

    Args:
        path: of the result file.
    """
    if (stored_result := TaskResult.read(path)) is not None:
        return stored_result
    printed, log = path.with_suffix(".out"), path.with_suffix(".log")
    with printed.open("wb") as out, log.open("wb") as errors:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        code: int | None
        try:
            code = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # this process may get a signal, too
            _end(process)
    tail = log.read_text(errors="replace").splitlines()[-_STDERR_LINES:]
    result = TaskResult(code, printed.read_text(errors="replace"), "\n".join(tail))
    result.write(path)
    printed.unlink()
    return result


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminates a command that still runs, and kills it after a while."""
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
