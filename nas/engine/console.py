"""Progress of a run on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from nas.engine.formatting import duration, guidance_text, miss_text, plain_text
from nas.engine.progress import Pace, ProgressObserver
from nas.search.problem.objectives import ACCURACY

if TYPE_CHECKING:  # showing a run on a server needs neither the loop nor torch
    from nas.engine.search_progress import SearchProgress
    from nas.engine.store.folder import RunFolder
    from nas.engine.store.run_facts import RunFacts
    from nas.search.problem.budget import Budget
    from supernets.training.trainer import Epoch

_LINES = 10
"""Lines that a phase prints where there is no terminal."""
_QUIET_S = 60.0
"""Seconds between two lines of a run that a program started."""
_LONG_S = 5.0
"""A wait of at least this time is noted when it ends, too."""


class _ValuesColumn(ProgressColumn):
    """The values of a phase and the time that it took: what is cut on a narrow terminal, where the other columns stay."""

    def __init__(self, waits: Callable[[], str]) -> None:
        super().__init__()
        self._waits = waits

    def render(self, task: Task) -> Text:
        parts = [
            "" if task.finished else self._waits(),
            task.fields["values"],
            f"{duration((task.finished_time if task.finished else task.elapsed) or 0.0)} so far",
        ]
        return Text("  ".join(part for part in parts if part), no_wrap=True, overflow="ellipsis")


class ConsoleProgress(ProgressObserver):
    """Progress bars of training and search, on stderr by default; everything shown is committed or checkpointed."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        console = console or Console(stderr=True)
        self._console, self._clock = console, clock
        self._paces: dict[str, Pace] = {}
        self._wait, self._waiting_since = "", 0.0
        fixed = Column(no_wrap=True)
        self.bars = Progress(
            TextColumn("{task.description}", table_column=fixed),
            BarColumn(bar_width=20, table_column=fixed.copy()),
            MofNCompleteColumn(table_column=fixed.copy()),
            TextColumn("{task.fields[left]}", table_column=fixed.copy()),
            _ValuesColumn(self._wait_text),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._shares: dict[str, int] = {}
        self._accuracies, self._scored = "", ACCURACY

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.bars.stop()

    def _update(self, phase: str, done: int, total: int, values: str) -> None:
        if phase not in self._tasks:
            for earlier in self._tasks.values():
                self.bars.stop_task(earlier)
            self._tasks[phase] = self.bars.add_task(phase, total=total, left="", values="")
            self._paces[phase] = Pace(self._clock)
        seconds = self._paces[phase].left(done, total)
        left = "" if seconds is None else f"{duration(seconds)} left"
        self.bars.update(self._tasks[phase], completed=done, total=total, left=left, values=values)
        if not self._console.is_terminal and self._is_due(phase, done, total):
            line = "  ".join(part for part in (f"{phase}: {done} of {total}", left, values) if part)
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _is_due(self, phase: str, done: int, total: int) -> bool:
        """True if a line is printed where there is no terminal: about ten a phase, and always the last one."""
        share, last_share = _LINES * done // max(1, total), self._shares.get(phase, 0)
        self._shares[phase] = max(share, last_share)
        return share > last_share

    def begin(self, run: RunFolder, facts: RunFacts, budget: Budget | None, n_evaluations: int) -> None:
        self.note(f"run {run.id} in {run.path}")
        self._scored, search = facts.task.metrics[0], facts.search
        if search is not None and (
            guidance := guidance_text(search.label, search.models_from, None if budget is None else budget.evaluations)
        ):
            self.note(guidance)

    def step(self, step: int, steps: int, loss: float) -> None:
        if self._console.is_terminal:
            self._update("training", step, steps, f"loss {loss:.3f}{self._accuracies}")

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        of = "" if self._scored == ACCURACY else f" {self._scored.name}"
        largest, smallest = (plain_text(self._scored, value) for value in (epoch.largest, epoch.smallest))
        self._accuracies = f"  validation{of}: largest {largest}, smallest {smallest}"
        if not self._console.is_terminal:
            self._update("training, epoch", epoch.epoch, epochs, f"loss {epoch.loss:.3f}{self._accuracies}")

    def progress(self, progress: SearchProgress) -> None:
        values = f"front {progress.front}" if progress.front else ""
        if progress.hypervolume is not None:
            values += f"  hypervolume {progress.hypervolume:.4g}"
        if progress.nearest is not None:
            values = f"nothing keeps the limits yet, nearest: {miss_text(progress.nearest)}"
        if progress.too_noisy:
            values += f"  too noisy {progress.too_noisy}"
        if progress.uncertain:
            values += f"  to measure again {progress.uncertain}"
        if progress.failures:
            values += f"  failed {progress.failures}"
        self._update(progress.phase, progress.done, progress.total, values)

    def count(self, phase: str, done: int, total: int) -> None:
        self._update(phase, done, total, "")

    def waiting(self, text: str) -> None:
        waited_s = self._clock() - self._waiting_since
        if text:  # a terminal also has it in its last bar, with the time
            self.note(text)
        elif self._wait and waited_s >= _LONG_S:
            self.note(f"waited {duration(waited_s)}")
        self._wait, self._waiting_since = text, self._clock()

    def _wait_text(self) -> str:
        return f"waiting for {duration(self._clock() - self._waiting_since)}" if self._wait else ""

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class MinuteProgress(ConsoleProgress):
    """The progress of a run that a Python program starts: at most a line a minute on stderr, and nothing of shorter runs."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console or Console(stderr=True, force_terminal=False), clock)
        self._last_line = clock()

    def _is_due(self, phase: str, done: int, total: int) -> bool:
        if self._clock() - self._last_line < _QUIET_S:
            return False
        self._last_line = self._clock()
        return True

    def step(self, step: int, steps: int, loss: float) -> None:
        self._update("training, step", step, steps, f"loss {loss:.3f}{self._accuracies}")

    def note(self, text: str) -> None:
        del text
