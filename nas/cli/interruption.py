"""Ctrl-C and SIGTERM, noted from the start of a command to its end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from nas.engine.progress import ProgressObserver

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class Interruption(ProgressObserver):
    """Ends a command that a signal interrupts: at once, or else at the next progress of its run.

    A `KeyboardInterrupt` can be lost or replaced: Python ignores one in a finalizer or in a callback from C, and a library
    that is being imported may report it as its own failure.

    Attributes:
        noted: whether a signal came.
    """

    def __init__(self) -> None:
        self.noted = False

    def handle(self, *numbers: signal.Signals) -> None:
        """Notes these signals from now on."""
        for number in numbers:
            signal.signal(number, self._interrupt)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Prints nothing about interrupts that Python ignores."""
        hook = sys.unraisablehook

        def report(unraisable: sys.UnraisableHookArgs) -> None:
            if not issubclass(unraisable.exc_type, KeyboardInterrupt):
                hook(unraisable)

        sys.unraisablehook = report
        try:
            yield
        finally:
            sys.unraisablehook = hook

    def _interrupt(self, number: int, frame: object) -> NoReturn:
        self.noted = True
        raise KeyboardInterrupt

    def step(self, step: int, steps: int, loss: float) -> None:
        self._check()

    def progress(self, progress: object) -> None:
        self._check()

    def count(self, phase: str, done: int, total: int) -> None:
        self._check()

    def _check(self) -> None:
        if self.noted:
            raise KeyboardInterrupt


INTERRUPTION = Interruption()
"""Of this process, whose signal handlers are global."""
