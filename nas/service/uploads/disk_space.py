"""Checks the free space on the disk of the runs folder, so that new requests leave enough to runs in progress."""

from __future__ import annotations

import shutil
from pathlib import Path

from nas.errors import StoreError

_LEAST_FREE = 256 * 1024 * 1024
"""Bytes: the rows of some hours of searches, and a few checkpoints."""


def check_disk_space(folder: Path) -> None:
    """Returns if the disk of an existing folder has enough free space for new requests.

    Raises:
        StoreError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE:
        raise StoreError(
            f"only {free // 2**20} MiB are free on the runs folder's disk, which runs in progress need; free space on it, then "
            "try again",
            code="disk.full",
        )
