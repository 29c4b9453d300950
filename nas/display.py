"""What a driver tells whoever watches: a protocol, and the display that says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # who shows what goes on elsewhere needs neither the loop nor torch
    from nas.loop import Progress
    from supernets.trainer import Epoch


class Display(Protocol):
    """Told of progress; everything that `progress` counts is committed."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """One training step is done."""
        ...

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """One training epoch is done and checkpointed."""
        ...

    def progress(self, progress: Progress) -> None:
        """The search went on."""
        ...

    def count(self, phase: str, done: int, total: int) -> None:
        """So much of some other work is done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


class Silent:
    """A display that shows nothing."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """Shows nothing."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Shows nothing."""

    def progress(self, progress: Progress) -> None:
        """Shows nothing."""

    def count(self, phase: str, done: int, total: int) -> None:
        """Shows nothing."""

    def note(self, text: str) -> None:
        """Shows nothing."""
