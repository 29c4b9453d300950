"""The progress callbacks of a driver, and their basic implementations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an observer of a run on a server needs neither the loop nor torch
    from nas.engine.search_progress import SearchProgress
    from nas.engine.store.folder import RunFolder
    from nas.engine.store.run_facts import RunFacts
    from nas.search.problem.budget import Budget
    from supernets.training.trainer import Epoch


class ProgressObserver:
    """Callbacks of a driver, which do nothing here; everything that `progress` counts is committed."""

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        """A run begins or resumes, with a number of evaluations already, which `progress` will count again."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """One training step is done."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """One training epoch is done and checkpointed."""

    def progress(self, progress: SearchProgress) -> None:
        """The search has evaluated something."""

    def count(self, phase: str, done: int, total: int) -> None:
        """Some other work has progressed."""

    def waiting(self, text: str) -> None:
        """A measurement waits from now on, for what the text says; "" where it waits no longer."""

    def note(self, text: str) -> None:
        """A line for people."""


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
