"""The lock file by which one driver holds a run; the operating system frees it however the driver's process ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nas.errors import RunHeldError, StoreError

_TRIES, _BETWEEN_TRIES_S = 20, 0.02


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that drives a run."""

    pid: int
    host: str

    @classmethod
    def this(cls) -> Self:
        """The calling process."""
        return cls(os.getpid(), socket.gethostname())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class RunLock:
    """An exclusive `flock`, taken by the constructor and kept until `release`.

    Raises:
        RunHeldError: another live process (or another store of this one) has it.
        StoreError: the lock file cannot be written.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}; check its permissions") from None
        try:
            _lock_patiently(self._descriptor)
        except BlockingIOError:
            holder_text = _holder_named_in(self._descriptor)
            self.release()
            raise RunHeldError(
                f"{path.parent}: the run is held by another live driver ({holder_text}); wait until it ends, or stop it first"
            ) from None
        except OSError as error:
            self.release()
            raise StoreError(f"{path}: cannot be locked: {error.strerror}; use a file system with locks") from None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps({"pid": holder.pid, "host": holder.host}).encode(), 0)
        except OSError as error:
            self.release()
            raise StoreError(f"{path}: cannot be written: {error.strerror}; free space there") from None
        _LOCKS.add(self)

    def release(self) -> None:
        """Frees the lock; idempotent. The file stays: removing it would let two drivers lock two files of one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock_patiently(descriptor: int) -> None:
    """Takes the lock, past the moments in which `is_held` looks at it; `BlockingIOError` if another keeps it."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_BETWEEN_TRIES_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(database: Path) -> bool:
    """True if a live driver has the lock of the run with this database; only looks, and needs no right to write."""
    try:
        descriptor = os.open(lock_path(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # never driven, or not readable by this user
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def lock_path(database: Path) -> Path:
    """The lock file of a run's database."""
    return database.with_name(f"{database.name}.lock")


def _holder_named_in(descriptor: int) -> str:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return str(Holder(int(content["pid"]), str(content["host"])))
    except (ValueError, KeyError, TypeError):  # it has the lock, but has not yet written its name
        return "an unnamed process"


_LOCKS: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child shares the parent's lock and would keep it after the parent's death."""
    for lock in list(_LOCKS):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
