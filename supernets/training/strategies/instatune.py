"""InstaTune: supernet training while a pretrained network is fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from supernets.errors import TrainingError
from supernets.sharing.base import BatchLoss, Distillation, LabelLoss, Pass, Phase
from supernets.sharing.sorting import sort_by_importance
from supernets.space import SearchSpace


@dataclass(frozen=True)
class InstaTuneStrategy:
    """Trains the largest subnet S and `random_subnets` random ones S_i every step (Sarah et al. 2023, arXiv 2308.15609).

    A step's loss is a (CE(S) + sum CE(S_i)) + (1 - a) (g KL(S, T) + sum ((1 - g) KL(S_i, S) + g KL(S_i, T))), with the labels'
    weight a, and with g = 1 for a frozen teacher T. Departures: the frozen teacher may be limited to the first epochs, which
    then form a phase with its own learning-rate schedule; axes may be sorted by importance before the first step, as in
    DynaBERT (Hou et al. 2020, arXiv 2004.04037).

    Attributes:
        label_weight: a, from 0 to 1; the paper's is 0.3.
        temperature: Temperature of the distillation, see `Distillation`.
        teacher_epochs: Number of epochs with the frozen teacher (g = 1); in the others the largest subnet teaches (g = 0).
        sort: True to sort axes by importance before the first step.
    """

    space: SearchSpace
    random_subnets: int = 1
    label_weight: float = 0.3
    temperature: float = 1.0
    teacher_epochs: int = 0
    sort: bool = False

    def phases(self, epochs: int) -> Sequence[Phase]:
        if self.teacher_epochs > epochs:
            problem = (
                f"teacher_epochs is {self.teacher_epochs}, and the training has {epochs} epochs; lower teacher_epochs"
            )
            raise TrainingError(problem, code="training.too-few-epochs")
        lengths = [("taught", self.teacher_epochs), ("instatune", epochs - self.teacher_epochs)]
        first, *later_phases = (Phase(name, n) for name, n in lengths if n > 0)
        return [replace(first, before=sort_by_importance) if self.sort else first, *later_phases]

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        frozen = self.teacher_epochs > 0 and phase == 0
        labels = LabelLoss(self.label_weight)
        distillation = Distillation(None if frozen else 0, 1 - self.label_weight, self.temperature)
        largest = Pass(self.space.largest, (labels, distillation) if frozen else (labels,))
        random_passes = (Pass(self.space.sample(rng), (labels, distillation)) for _ in range(self.random_subnets))
        return [largest, *random_passes]
