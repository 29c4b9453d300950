"""The lock by which one server at a time has a runs folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nas.errors import ServiceError
from nas.service.settings import ServiceSettings


@contextmanager
def exclusive(settings: ServiceSettings) -> Iterator[None]:
    """Excludes other servers from the runs folder; the operating system releases the lock with the process.

    Raises:
        ServiceError: a server has the folder, or it cannot be written.
    """
    path = settings.folder / "server.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceError(f"{path} cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "an unnamed process"
            text = f"another server ({holder}) has the runs folder {settings.runs.root}; stop it, or choose another with --runs"
            raise ServiceError(text, code="server.already-running") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
