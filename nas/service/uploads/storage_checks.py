"""Stores an upload, after checks of its name and size, of the quota, and of the free space on the disk."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

from nas.errors import JobError, RunStateError, StoreError, TooLargeError
from nas.service.settings import Limits

UPLOADING = ".uploading-"
"""Prefix of files that are being received."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CHUNK = 1024 * 1024
_MIN_FREE = 256 * 1024 * 1024
"""Bytes: the rows of some hours of searches, and a few checkpoints."""


def checked_name(subject: str, name: str) -> str:
    """The name, if it is valid as a file name.

    Args:
        subject: The thing with the name, for errors, e.g. ``data set``.

    Raises:
        JobError: it is not valid.
    """
    if _NAME.fullmatch(name) is None:
        text = f"expected 1 to 64 letters, digits, - and _, the first a letter or digit; got {name[:80]!r}"
        raise JobError(f"the {subject}'s name: {text}", code="name.invalid", fields=[("name", text)])
    return name


def check_quota(subject: str, used: int, limit: int, remedy: str) -> None:
    """Raises `RunStateError` if as many are stored already as the server's settings allow.

    Args:
        subject: The things that are stored, for the message, e.g. ``hardware profiles``.
        used: Number of them that are stored now.
        limit: Number of them that the server's settings allow.
        remedy: the request that deletes one.
    """
    if used >= limit:
        text = f"the server stores {used} {subject}, the limit is {limit}; delete some first, e.g. with: {remedy}"
        raise RunStateError(text, code="storage.quota")


def check_disk_space(folder: Path) -> None:
    """Raises `StoreError` if the disk of an existing folder has too little free space for new requests."""
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE:
        text = f"only {free // 2**20} MiB are free on the runs folder's disk, which runs in progress need; free space on it"
        raise StoreError(text, code="disk.full")


def size_of(content: BinaryIO) -> int:
    """The size of an upload in bytes; its next byte to read is the first."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    return size


def check_upload_size(size: int, limits: Limits, subject: str) -> None:
    """Raises `TooLargeError` if an upload (the ``model``, say) exceeds the limit."""
    if size > limits.upload_bytes:
        raise TooLargeError(f"the {subject} is larger than {limits.upload_bytes} bytes")


def write_upload(content: BinaryIO, path: Path) -> None:
    """Writes an upload to a new file."""
    content.seek(0)
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
