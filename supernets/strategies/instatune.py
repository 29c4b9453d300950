"""InstaTune: the largest subnet and a few random ones, while a pretrained network is fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from supernets.base import Distillation, LabelLoss, Pass, Phase, Supernet
from supernets.errors import TrainingError
from supernets.sorting import importance, orders
from supernets.space import Architecture, SearchSpace


@dataclass(frozen=True)
class InstaTuneStrategy:
    """The largest subnet S and `random_subnets` random ones S_i a step (Sarah et al. 2023, arXiv 2308.15609).

    A step's loss is a (CE(S) + sum CE(S_i)) + (1 - a) (g KL(S, T) + sum ((1 - g) KL(S_i, S) + g KL(S_i, T))), with the labels'
    weight a and a frozen teacher T where g is 1. Departures: the teacher may be kept for the first epochs alone, which are then
    a phase with a learning-rate schedule of its own; heads, hidden channels and the embedding's may be sorted by importance
    before the first step, as in DynaBERT (Hou et al. 2020, arXiv 2004.04037).

    Attributes:
        label_weight: a, from 0 to 1; the paper's is 0.3.
        temperature: that both sides' logits are divided by before they are compared.
        teacher_epochs: epochs in which the frozen teacher teaches (g = 1); 0 for none: the largest subnet does (g = 0).
        sort: whether units are sorted by importance before the first step.
    """

    space: SearchSpace
    random_subnets: int = 1
    label_weight: float = 0.3
    temperature: float = 1.0
    teacher_epochs: int = 0
    sort: bool = False

    def phases(self, epochs: int) -> Sequence[Phase]:
        if self.teacher_epochs > epochs:
            raise TrainingError(
                f"a teacher for {self.teacher_epochs} epochs, and the training has {epochs}; lower teacher_epochs"
            )
        lengths = [("taught", self.teacher_epochs), ("instatune", epochs - self.teacher_epochs)]
        before = _sort if self.sort else None
        found = [(name, n) for name, n in lengths if n > 0]
        return [Phase(name, n, before=before if i == 0 else None) for i, (name, n) in enumerate(found)]

    def plan(self, phase: int, rng: np.random.Generator, probe: Callable[[Architecture], float]) -> Sequence[Pass]:
        taught = self.teacher_epochs > 0 and phase == 0
        labels, rest = LabelLoss(self.label_weight), 1 - self.label_weight
        frozen = Distillation(None, rest, self.temperature)
        of_largest = (labels, frozen) if taught else (labels,)
        of_others = (labels, frozen if taught else Distillation(0, rest, self.temperature))
        others = (Pass(self.space.sample(rng), of_others) for _ in range(self.random_subnets))
        return [Pass(self.space.largest, of_largest), *others]


def _sort(supernet: Supernet) -> None:
    supernet.sort(orders(importance(supernet)))
