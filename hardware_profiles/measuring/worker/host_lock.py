"""The host's measurement lock, which all users share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat


def lock_path(name: str, folders: tuple[str, ...] = ("/run/lock", "/dev/shm", "/tmp")) -> str:
    """The path of a lock file in the first of the folders that all users may write to, root included."""
    open_to_all = (
        f for f in folders if os.path.isdir(f) and os.stat(f).st_mode & stat.S_IWOTH and os.access(f, os.W_OK)
    )
    return os.path.join(next(open_to_all, folders[-1]), f"{name}.lock")


def open_lock(path: str) -> int:
    """The descriptor of a file that all users may lock, created if it is missing; links are not followed.

    O_CREAT is not used on an existing file: the kernel rejects it for another user's (fs.protected_regular).
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):  # another process was faster
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(file, 0o666)  # regardless of the user's umask
            return file
    return os.open(path, flags)


def wait_for(file: int, seconds: float) -> bool:
    """Returns True if the lock was free in time. It blocks: polling would lose the lock to a driver of many batches."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # it raises KeyboardInterrupt; Ctrl-C is ignored here
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    except KeyboardInterrupt:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
