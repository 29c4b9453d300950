"""Opens only regular files."""

from __future__ import annotations

import errno
from pathlib import Path


def check_regular(path: Path) -> None:
    """Raises `OSError` for a pipe, a socket or a device: reading one may wait for its writer, or never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device; expected a file", str(path))
