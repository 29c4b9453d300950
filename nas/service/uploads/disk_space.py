"""Whether the disk of the runs folder has room for more: what runs already must not be the one that finds it full."""

from __future__ import annotations

import shutil
from pathlib import Path

from nas.errors import StoreError

_LEAST_FREE = 256 * 1024 * 1024
"""Bytes: some hours of searches' rows, and a few checkpoints."""


def check_disk_space(folder: Path) -> None:
    """Returns if what clients ask for may take more of the disk that an existing folder is on.

    Raises:
        StoreError: too little of it is free.
    """
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE:
        raise StoreError(
            f"only {free // 2**20} MiB are free on the runs folder's disk, which runs in progress need; free space on it, then "
            "try again",
            code="disk.full",
        )
