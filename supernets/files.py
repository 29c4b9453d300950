"""Writes files whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes under a temporary name, flushes, and renames: a reader sees the old file or the new one, never a part.

    The file has the permissions that the process gives to new files.

    Raises:
        OSError: it cannot be written; what was written of it is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
