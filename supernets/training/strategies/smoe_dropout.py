"""SMoE-Dropout: training with random routers, while each token is sent to more and more experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from supernets.errors import TrainingError
from supernets.sharing.base import BatchLoss, Pass, Phase
from supernets.space import Architecture
from supernets.training.strategies.single_phase import SinglePhase, passes

_KIND = "active_experts"


@dataclass(frozen=True)
class SMoEDropoutStrategy(SinglePhase):
    """Trains the largest network, whose number of active experts grows linearly from the least option to the most (Chen et al.
    2023, arXiv 2303.01610).

    The networks with fewer active experts are then usable as they are. In the paper routers are random and not trained; that is
    a property of the space (``routers: random``). Departures: the number is that of the nearest option; its schedule ends
    with the most of them, as in the paper, at the last step.

    Attributes:
        progress: share of the steps that are done.
    """

    name: ClassVar[str] = "smoe-dropout"
    teacher: Literal["none", "frozen"] = "none"
    progress: float = 0.0

    def phases(self, epochs: int) -> Sequence[Phase]:
        if max((len(self.space.choices[i].options) for i in self._choices), default=0) < 2:
            problem = (
                "the strategy smoe-dropout lets the number of active experts grow, and the space has no options for it"
            )
            raise TrainingError(
                f"{problem}; give experts and active_experts, or another strategy", code="training.no-experts"
            )
        return super().phases(epochs)

    def at(self, progress: float) -> SMoEDropoutStrategy:
        """See `ScheduledStrategy`."""
        return replace(self, progress=progress)

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        return passes([self.grown], self.teacher)

    @property
    def grown(self) -> Architecture:
        """The network of the current step."""
        genes = list(self.space.largest.genes)
        for i in self._choices:
            options = np.array(self.space.choices[i].options, dtype=float)
            genes[i] = int(np.abs(options - (options[0] + self.progress * (options[-1] - options[0]))).argmin())
        return self.space.canonical(genes)

    @property
    def _choices(self) -> Sequence[int]:
        return self.space.kinds.get(_KIND, [])
