"""The output of a run's drivers: a file for each in the run's folder, where it outlives Ray."""

from __future__ import annotations

import os
from pathlib import Path

from nas.engine.store.folder import RunFolder
from nas.errors import ServiceError


def new_log(folder: RunFolder, job: str) -> Path:
    """The file for the output of a driver's job, in a folder that exists.

    Raises:
        ServiceError: the run's folder is gone or cannot be written.
    """
    try:
        folder.logs.mkdir(exist_ok=True)
    except OSError as error:
        raise ServiceError(f"{folder.logs} cannot be made: {error.strerror}", code="file.not-writable") from None
    return log_of(folder, job)


def log_of(folder: RunFolder, job: str) -> Path:
    """The file with the output of a driver's job, which may not exist."""
    return folder.logs / f"{job}.log"


def last_output(folder: RunFolder, n_bytes: int) -> str:
    """The last output of all drivers of a run, the oldest first, of at most this many bytes."""
    texts: list[str] = []
    # By their last lines: the numbers of drivers begin again where the server has forgotten the run.
    for path in sorted(folder.logs.glob("*.log"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        texts.insert(0, tail(path, n_bytes))
        n_bytes -= path.stat().st_size
        if n_bytes <= 0:
            break
    return "".join(texts)


def tail(path: Path, n_bytes: int) -> str:
    """The last bytes of a file as text; "" where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - n_bytes))
            return file.read(n_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ""
