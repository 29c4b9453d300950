"""What a driver tells whoever watches: a protocol, the display that says nothing, and the one that ends what goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:  # who shows what goes on elsewhere needs neither the loop nor torch
    from nas.engine.search_progress import SearchProgress
    from nas.problem.budget import Budget
    from nas.store.folder import RunFolder
    from nas.store.run_facts import RunFacts
    from supernets.trainer import Epoch


class ProgressObserver(Protocol):
    """Told of progress; everything that `progress` counts is committed."""

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        """A run is driven from here on.

        Args:
            budget: of a search; None for a training.
            n_evaluations: that it has already, and that `progress` will count again.
        """
        ...

    def step(self, step: int, steps: int, loss: float) -> None:
        """One training step is done."""
        ...

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """One training epoch is done and checkpointed."""
        ...

    def progress(self, progress: SearchProgress) -> None:
        """The search went on."""
        ...

    def count(self, phase: str, done: int, total: int) -> None:
        """So much of some other work is done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


class NullObserver:
    """A display that shows nothing."""

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        """Shows nothing."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """Shows nothing."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Shows nothing."""

    def progress(self, progress: SearchProgress) -> None:
        """Shows nothing."""

    def count(self, phase: str, done: int, total: int) -> None:
        """Shows nothing."""

    def note(self, text: str) -> None:
        """Shows nothing."""


class Interruption(NullObserver):
    """Ends a driver that a signal interrupts: at once, or else where it next tells how far it is.

    A `KeyboardInterrupt` can be lost: Python ignores one in a finalizer or in a callback from C, which some library may be in
    when the signal comes.
    """

    def __init__(self) -> None:
        self._asked = False

    def handle(self, number: int, frame: object) -> NoReturn:
        """The handler of the signals."""
        self._asked = True
        raise KeyboardInterrupt

    def step(self, step: int, steps: int, loss: float) -> None:
        self._check()

    def progress(self, progress: SearchProgress) -> None:
        self._check()

    def count(self, phase: str, done: int, total: int) -> None:
        self._check()

    def _check(self) -> None:
        if self._asked:
            raise KeyboardInterrupt


class CompositeObserver:
    """Tells several displays the same."""

    def __init__(self, observers: Sequence[ProgressObserver]) -> None:
        self._displays = tuple(observers)

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        for observer in self._displays:
            observer.begin(run, facts, budget, n_evaluations)

    def step(self, step: int, steps: int, loss: float) -> None:
        for observer in self._displays:
            observer.step(step, steps, loss)

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        for observer in self._displays:
            observer.epoch(epoch, epochs)

    def progress(self, progress: SearchProgress) -> None:
        for observer in self._displays:
            observer.progress(progress)

    def count(self, phase: str, done: int, total: int) -> None:
        for observer in self._displays:
            observer.count(phase, done, total)

    def note(self, text: str) -> None:
        for observer in self._displays:
            observer.note(text)
