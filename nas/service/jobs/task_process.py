"""Runs a task's command, and keeps what it printed and how it ended in a file, whole or not at all."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from nas.errors import ServiceError
from nas.store.folder import write_atomically

_ERROR = "error: "
"""How the command line begins what it tells its user."""
_STDERR_LINES = 20
_GRACE_S = 5.0
"""Between asking a command to end and ending it."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a command ended.

    Attributes:
        exit_code: negative for a signal; None where it took too long.
        stderr: its last lines.
    """

    exit_code: int | None
    stdout: str
    stderr: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The result kept in a file; None where there is none yet.

        Raises:
            ServiceError: the file holds something else.
        """
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise ServiceError(
                f"{path}: damaged ({error!r}); expected a result of `nas task`", code="task.result-damaged"
            ) from None

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self)).encode())

    @property
    def data(self) -> dict[str, Any]:
        """The JSON object that the command printed.

        Raises:
            ServiceError: it failed, or printed something else.
        """
        if self.exit_code != 0:
            raise ServiceError(self.reason)
        try:
            found = json.loads(self.stdout)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServiceError(f"expected a JSON object from the command; it printed {self.stdout[:200]!r}")
        return found

    @property
    def reason(self) -> str:
        """Why it failed: its error, or the last line that it wrote."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        told = next((line for line in reversed(lines) if line.startswith(_ERROR)), lines[-1] if lines else "")
        told = told.removeprefix(_ERROR)
        if self.exit_code is not None and self.exit_code > 0:
            return told or f"ended with exit code {self.exit_code} and no word"
        how = "it took too long" if self.exit_code is None else f"{signal.Signals(-self.exit_code).name} ended it"
        return f"{how}; it last wrote: {told}" if told else how


def run_task(path: Path, argv: Sequence[str], *, time_limit_s: float) -> TaskResult:
    """Runs a command without a shell and keeps its result; what is kept already stands, and is not done again.

    While it runs, what it writes to stderr can be read in a file beside the result's, named ``.log``.

    Args:
        path: of the result's file.
    """
    if (known := TaskResult.read(path)) is not None:
        return known
    printed, log = path.with_suffix(".out"), path.with_suffix(".log")
    with printed.open("wb") as out, log.open("wb") as errors:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        code: int | None
        try:
            code = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # this process may be told to end, too
            _end(process)
    tail = log.read_text(errors="replace").splitlines()[-_STDERR_LINES:]
    result = TaskResult(code, printed.read_text(errors="replace"), "\n".join(tail))
    result.write(path)
    printed.unlink()
    return result


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command that has not ended by itself: asked first, then made to."""
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
