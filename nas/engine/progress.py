"""The progress callbacks of a driver, their basic implementations, and the pace of a phase."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an observer of a run on a server needs neither the loop nor torch
    from nas.engine.search_progress import SearchProgress
    from nas.engine.store.folder import RunFolder
    from nas.engine.store.run_facts import RunFacts
    from nas.search.problem.budget import Budget
    from supernets.training.trainer import Epoch

_PACE, _APART_S = 12, 0.5
"""The pace of a phase is that of its last changes (at most this number), each at least this number of seconds after the one
before: the measurements of a batch arrive together, and those of a resumed search all at once."""


class ProgressObserver:
    """Callbacks of a driver, which do nothing here; everything that `progress` counts is committed."""

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        """A run begins or resumes, with a number of evaluations already, which `progress` will count again.

        Args:
            run: Folder of the run.
            facts: Facts of the run that never change: its kind, seed, task, plug-ins and, of a search, the space and the
                objectives.
            budget: Limits of the search; None for a training.
            n_evaluations: Number of evaluations of the budget that the run has already; 0 for a new run and for a training.
        """

    def step(self, step: int, steps: int, loss: float) -> None:
        """One training step is done.

        Args:
            step: Number of training steps done, the present one included.
            steps: Total number of steps of the training.
            loss: Loss of this step.
        """

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """One training epoch is done and checkpointed.

        Args:
            epoch: Results of the epoch, such as its number (from 1) and its losses.
            epochs: Total number of epochs of the training.
        """

    def progress(self, progress: SearchProgress) -> None:
        """The search has evaluated something.

        Args:
            progress: Number of evaluations done, hypervolume, front and failures of the search so far.
        """

    def count(self, phase: str, done: int, total: int) -> None:
        """Some other work has progressed.

        Args:
            phase: Name of the work for people, e.g. ``measuring blocks``.
            done: Number of units of the work that are done, from 0 to `total`.
            total: Number of all units of the work.
        """

    def waiting(self, text: str) -> None:
        """A measurement waits from now on, for what the text says; "" where it waits no longer.

        Args:
            text: Reason of the wait for people; "" at its end.
        """

    def note(self, text: str) -> None:
        """A line for people.

        Args:
            text: One event of the run, without a newline at its end.
        """


def _each(name: str) -> Callable[..., None]:
    """A method that calls the one of this name of every observer."""

    def call(self: CompositeObserver, *arguments: object) -> None:
        for observer in self.observers:
            getattr(observer, name)(*arguments)

    return call


class CompositeObserver(ProgressObserver):
    """Calls several observers in their order."""

    def __init__(self, observers: Sequence[ProgressObserver]) -> None:
        self.observers = tuple(observers)

    begin, step, epoch = _each("begin"), _each("step"), _each("epoch")
    progress, count, note, waiting = _each("progress"), _each("count"), _each("note"), _each("waiting")


class Pace:
    """How fast a phase goes, and so how long the rest of it takes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changes: deque[tuple[float, int]] = deque(maxlen=_PACE)

    def left(self, done: int, total: int) -> float | None:
        """Seconds that the rest takes at the present pace; None before there is one, and where nothing is left."""
        now, last = self._clock(), self._changes[-1] if self._changes else None
        if last is not None and now - last[0] < _APART_S:  # the same moment: as far as it got
            self._changes[-1] = (last[0], done)
        elif last is None or done != last[1]:
            self._changes.append((now, done))
        (began, before), (until, reached) = self._changes[0], self._changes[-1]
        if reached <= before or done >= total:
            return None
        return max(0.0, (until - began) / (reached - before) * (total - done) - (now - until))
