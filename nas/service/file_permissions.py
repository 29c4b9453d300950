"""The server's own files: permissions for its user alone, and locks between its processes."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.service.settings import ServiceSettings

UMASK = 0o077
"""Of a server and its jobs: what they make is for their user alone."""

logger = logging.getLogger(__name__)


def make_private(folder: Path) -> None:
    """Makes a folder for this user alone where it is missing, and closes one of this user's to others.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_open(folder):
        _close(folder)


def write_secret(path: Path, text: str) -> None:
    """Writes a new file that this user alone can read, in place of one that exists."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Excludes other processes and threads from a block, by a lock on a file, which is made where it is missing.

    Raises:
        OSError: the file or its folder cannot be made.
    """
    make_private(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def open_files(settings: ServiceSettings) -> Iterator[Path]:
    """The server's own files and folders, and the databases of submitted runs, that other users may read or write."""
    if not settings.folder.is_dir():  # no server's runs
        return
    database = settings.database
    paths = [database.with_name(f"{database.name}{suffix}") for suffix in ("", "-wal", "-shm")]
    paths += [folder.database for folder in settings.runs.list() if folder.submitted_file.is_file()]
    yield from filter(_is_open, [settings.folder, *paths])
    for parent, folders, files in os.walk(settings.folder):
        yield from filter(_is_open, (Path(parent, name) for name in (*folders, *files)))


def close_files(settings: ServiceSettings) -> None:
    """Closes all `open_files` of this user to others: those that earlier versions made."""
    for path in open_files(settings):
        try:
            _close(path)
        except OSError as error:
            logger.warning("%s stays open to others: %s", path, error.strerror)


def _is_open(path: Path) -> bool:
    try:
        path_stat = path.lstat()
    except OSError:  # gone, or not for this user
        return False
    return bool(path_stat.st_mode & UMASK) and not stat.S_ISLNK(path_stat.st_mode)


def _close(path: Path) -> None:
    path_stat = path.stat()
    if path_stat.st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(path_stat.st_mode) & ~UMASK)
