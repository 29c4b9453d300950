"""Atomic writing of files, and the check that a path is a regular file."""

from __future__ import annotations

import errno
import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods of archives that are read; others need libraries that may be missing."""
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)
"""Errors that reading a damaged archive raises."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes under a temporary name, flushes, and renames: a reader sees the old file or the new one, never a part.

    The file has the permissions that the process gives to new files.

    Raises:
        OSError: The file cannot be written; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):  # a read-only file system refuses even that
            temporary.unlink()
        raise


def check_regular(path: Path) -> None:
    """Raises `OSError` for a pipe, a socket or a device: reading one may wait for its writer, or never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device; expected a file", str(path))
