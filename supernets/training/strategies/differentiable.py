"""TAS: widths and depths by logits that are trained with the weights, towards a cost."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from supernets.errors import TrainingError
from supernets.sharing.base import BatchLoss, Pass
from supernets.space import Architecture
from supernets.training.strategies.relaxation import Relaxation
from supernets.training.strategies.single_phase import SinglePhase, passes

_TOLERANCE = 0.05
"""A cost below the target by less than this share of it is on target, as in the paper."""
_COST_WEIGHT = 2.0
_FIRST_TEMPERATURE, _LAST_TEMPERATURE = 5.0, 0.1
_STEPS_TIMES_RATE = 20.0
"""The learning rate of the logits times the number of steps; in the paper about 59, in 600 epochs."""
_MAX_EXPANDED, _NEARER = 200, 50.0
"""Settings of the search for a network on target: its steps, and the log-probability that a cost nearer by a factor of e is
worth."""
_BETAS, _DECAY = (0.5, 0.999), 1e-3


@dataclass(frozen=True)
class DifferentiableStrategy(SinglePhase):
    """Learns the probabilities of each choice's options beside the weights, for one network of a cost (Dong and Yang 2019, TAS,
    arXiv 1905.09717).

    Half of the training examples train the weights, the other half the logits, in turns. Each step draws two options of
    every choice by Gumbel-softmax and trains a network between them. While the likeliest network costs more or less than
    the target, the logarithm of the expected cost is added to (or subtracted from) the logits' loss. `found` is the
    likeliest network in the end; train it for itself, as the paper does, since the weights here are of mixtures.

    Departures: two widths are mixed by a mask of channels (see `Relaxation`), not by interpolation between channels; kernels
    and expansions are chosen as widths are; a block that may be missing is interpolated with its input; the expected cost
    is exact; the logits' learning rate depends on the number of steps; and the likeliest network is changed, by the
    likeliest options, until it is on target.

    Attributes:
        target: multiply-accumulates as a share of the largest network's.
        progress: share of the steps that are done.

    Raises:
        TrainingError: no network of the space has such a cost.
    """

    name = "differentiable"
    relaxation: Relaxation = field(repr=False)
    target: float
    teacher: Literal["none", "frozen"] = "none"
    progress: float = 0.0

    def __post_init__(self) -> None:
        min_share = self.relaxation.min_share
        if not min_share <= self.target <= 1:
            shown = math.ceil(1000 * min_share) / 1000
            raise TrainingError(
                f"training.target is {self.target:g}, and the space's networks cost {shown:g} to 1 times the "
                "multiply-accumulates of the largest; set a target between, or change the space",
                code="training.target-outside",
            )

    def at(self, progress: float) -> DifferentiableStrategy:
        """See `ScheduledStrategy`."""
        return replace(self, progress=progress)

    def plan(self, phase: int, rng: np.random.Generator, batch_loss: BatchLoss) -> Sequence[Pass]:
        temperature = _FIRST_TEMPERATURE + self.progress * (_LAST_TEMPERATURE - _FIRST_TEMPERATURE)
        network, probabilities = self.relaxation.sample(temperature, rng)
        mixed = partial(self.relaxation.subnet, architecture=network, probabilities=probabilities)
        return [replace(subnet_pass, subnet=mixed) for subnet_pass in passes([network], self.teacher)]

    def optimizer(self, steps: int) -> torch.optim.Optimizer:
        """See `LearningStrategy`."""
        parameters = list(self.relaxation.named_parameters())
        return torch.optim.Adam(parameters, lr=_STEPS_TIMES_RATE / max(1, steps), betas=_BETAS, weight_decay=_DECAY)

    def penalty(self) -> Tensor:
        """See `LearningStrategy`: the logarithm of the expected cost, with the sign that leads to the target."""
        off = self._off_target(self._share(self.relaxation.likeliest))
        return _COST_WEIGHT * float(np.sign(off)) * self.relaxation.expected_share().log()

    def chosen_architecture(self) -> Architecture:
        """The likeliest network, some of whose options are changed so that it is on target, and stays likely.

        A best-first search over changes of one option: nearer to the target first, and what loses less of the logarithm of the
        probability. Where it finds none on target, the nearest.
        """
        start, logs = self.relaxation.likeliest, [shares.log().tolist() for shares in self.relaxation.probabilities]
        off, nearest = abs(self._off_target(self._share(start))), start
        queue, visited = [(0.0, start)], {self.space.canonical(start)}
        for _ in range(_MAX_EXPANDED):
            if off == 0 or not queue:
                break
            changed = {
                self.space.canonical(levels): levels for levels in self.relaxation.neighbours(heapq.heappop(queue)[1])
            }
            fresh = {network: levels for network, levels in changed.items() if network not in visited}
            visited.update(fresh)
            scored = []
            for levels, share in zip(fresh.values(), self.relaxation.shares([*fresh]).tolist(), strict=True):
                lost = sum(log[now] - log[new] for log, now, new in zip(logs, start, levels, strict=True))
                then = abs(self._off_target(share))
                scored.append((then, lost, levels))
                heapq.heappush(queue, (lost + _NEARER * then, levels))
            if scored and (best := min(scored))[0] < off:
                off, _, nearest = best
        return self.space.canonical(nearest)

    def _share(self, levels: Sequence[int]) -> float:
        return float(self.relaxation.shares([self.space.canonical(levels)])[0])

    def _off_target(self, share: float) -> float:
        """The logarithm of a cost over the target (positive), or over its tolerance (negative); 0 for one on target."""
        return max(0.0, math.log(share / self.target)) + min(0.0, math.log(share / (self.target * (1 - _TOLERANCE))))
