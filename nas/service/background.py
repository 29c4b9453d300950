"""Threads that do a server's work in rounds, until it closes."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

logger = logging.getLogger(__name__)


class BackgroundRounds(ABC):
    """Work in rounds in a thread of its own, which a failed round does not end.

    Args:
        name: Name of the thread.
        retry_s: Seconds until the next round after one that failed.
    """

    def __init__(self, name: str, *, retry_s: float) -> None:
        self._name, self._retry_s = name, retry_s
        self._woken, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_going, name=name, daemon=True)

    def start(self) -> None:
        """Starts the rounds."""
        self._thread.start()

    def wake(self) -> None:
        """Starts the next round at once."""
        self._woken.set()

    def close(self) -> None:
        """Ends the rounds, after the present one; idempotent."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    @abstractmethod
    def work(self) -> float:
        """Does one round; the seconds until the next."""

    def _keep_going(self) -> None:
        last_failure = ""
        while not self._closing.is_set():
            self._woken.clear()
            try:
                pause_s, last_failure = self.work(), ""
            except Exception as error:  # of the server's own database or the disk; the next round may succeed
                pause_s = self._retry_s
                if repr(error) != last_failure:  # once, not every round: the disk may be full
                    last_failure = repr(error)
                    logger.exception("a round of the %s failed, and is tried again until one does not", self._name)
            self._woken.wait(pause_s)
