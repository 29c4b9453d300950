"""Criteria that stop a search before its evaluations are used up: time, a plateau, and the caller's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nas.search.problem.budget import Budget, Stop, StopReason
from nas.search.problem.objectives import Evaluation

StopCallback = Callable[[Sequence[Evaluation]], str]
"""Called with all evaluations so far; returns the reason to stop, or ""."""


@dataclass
class StopCriteria:
    """Decides after each batch whether a search stops.

    Attributes:
        volumes: the number of evaluations of the budget and the hypervolume after each batch.
    """

    budget: Budget
    callback: StopCallback
    volumes: list[tuple[int, float]] = field(default_factory=list)

    def record(self, n_evaluations: int, hypervolume: float) -> None:
        """Adds a batch."""
        self.volumes.append((n_evaluations, hypervolume))

    def check(self, evaluations: Sequence[Evaluation], seconds: float) -> Stop | None:
        """Why a search with these evaluations stops after these seconds; None while it continues."""
        if self.budget.minutes is not None and seconds >= 60 * self.budget.minutes:
            return Stop(StopReason.MINUTES, minutes=self.budget.minutes)
        if self._is_plateau():
            return Stop(StopReason.PLATEAU, plateau=self.budget.plateau)
        message = self.callback(evaluations)
        return Stop(StopReason.CALLBACK, message=message) if message else None

    def _is_plateau(self) -> bool:
        plateau, (n_evaluations, now) = self.budget.plateau, self.volumes[-1] if self.volumes else (0, 0.0)
        if plateau is None or not now:
            return False
        until = n_evaluations - plateau.evaluations
        before = [volume for n, volume in self.volumes if self.budget.plateau_from <= n <= until]
        return bool(before) and now - before[-1] <= plateau.gain * now
