"""The loop of the measuring process: it answers commands until its input ends."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable

from .commands import Worker
from .fork_server import ForkServer, read_commands

_PARENT_SECONDS = 0.5


def _watch_parent(parent: int) -> None:
    """Ends this process when its parent ends: an orphan would disturb the next measurement."""
    # Without events, poll reports only a hang-up. Forks of the parent may keep the pipe open, hence the check of its id.
    poller = select.poll()
    poller.register(0, 0)
    while os.getppid() == parent and not poller.poll(_PARENT_SECONDS * 1000):
        pass
    os._exit(0)


def main() -> None:
    """Answers commands until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the driver handles it
    fork_server = ForkServer() if sys.platform == "linux" else None  # before the first thread starts
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the output of libraries must not mix with the answers
    worker = Worker(out, fork_server)
    handlers = (worker.start, worker.acquire, worker.load, worker.round, worker.energy, worker.release)
    commands: dict[str, Callable[..., None]] = {command.__name__: command for command in handlers}
    for command in read_commands(sys.stdin.buffer):
        commands[command.pop("do")](**command)
