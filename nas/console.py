"""What people see of a running job, on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nas.export.units import miss_text
from nas.loop import Progress as SearchProgress
from supernets.trainer import Epoch

_LINES = 10
"""Lines that a phase prints where there is no terminal."""


class ConsoleDisplay:
    """Progress bars of training and search; the figures shown are committed or checkpointed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}
        self._accuracies = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bars.stop()

    def _update(self, phase: str, done: int, total: int, figures: str) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total, figures="")
        self._bars.update(self._tasks[phase], completed=done, total=total, figures=figures)
        # Without a terminal, about ten lines a phase, and always the last one.
        share = _LINES * done // max(1, total)
        if not self._console.is_terminal and share > self._told.get(phase, 0):
            self._told[phase] = share
            self.note(f"{phase}: {done} of {total}  {figures}".rstrip())

    def step(self, step: int, steps: int, loss: float) -> None:
        if self._console.is_terminal:
            self._update("training", step, steps, f"loss {loss:.3f}{self._accuracies}")

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        self._accuracies = f"  validation: largest {epoch.largest:.2%}, smallest {epoch.smallest:.2%}"
        if not self._console.is_terminal:
            self._update("training, epoch", epoch.epoch, epochs, f"loss {epoch.loss:.3f}{self._accuracies}")

    def progress(self, progress: SearchProgress) -> None:
        figures = f"front {progress.front}" if progress.front else ""
        if progress.hypervolume is not None:
            figures += f"  hypervolume {progress.hypervolume:.4g}"
        if progress.nearest is not None:
            figures = f"nothing keeps the limits yet, nearest: {miss_text(progress.nearest)}"
        if progress.failures:
            figures += f"  failed {progress.failures}"
        self._update(progress.phase, progress.done, progress.total, figures)

    def count(self, phase: str, done: int, total: int) -> None:
        self._update(phase, done, total, "")

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
