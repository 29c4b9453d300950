"""The search of the benchmark of value: an evolution near each limit of latency on networks that are corrected, not trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import nnls
from torch import nn

from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.recalibration import Extraction
from tests.benchmarks.any_model_value_training import Setting, loss_of, outputs

LIMITS = (0.7, 0.5, 0.3)
EVALUATIONS = 32
"""Of networks of the supernet, for each limit."""
_USED = 0.9
"""Of a limit, at least: finetuning gains more for larger networks than their losses before it tell."""
_TRIES = 3000
_MUTATION = 0.25
"""The probability that a gene is drawn again."""
_MEASURED = 17
"""Random networks to which the prediction of latency is fitted, besides the largest and the smallest: one session."""
_MEASURING_ROUNDS = 4
_SCORED = 1000
"""Validation examples on which a search scores."""


def searched(
    supernet: Supernet, extraction: Extraction, setting: Setting
) -> tuple[dict[float, Architecture], dict[str, Any]]:
    """The network with the lowest loss within each limit: a search with predicted latencies, whose best are measured."""
    losses, latencies = dict[Architecture, float](), Latencies(supernet, setting)
    rng = np.random.default_rng([setting.seed, 4])
    for limit in LIMITS:
        evolved(supernet, extraction, setting, losses, limit, latencies.predict, rng)
    for _ in range(_MEASURING_ROUNDS):
        latencies.measure([a for limit in LIMITS for a in _promising(losses, latencies, limit)])
    chosen, notes = {}, {}
    for limit in LIMITS:
        chosen[limit] = best = min(latencies.near(limit, losses), key=losses.__getitem__)
        described = {name: str(value) for name, value in supernet.space.values(best).items()}
        notes[str(limit)] = {**described, "loss": losses[best], "measured": latencies.measured[best]}
    return chosen, {**notes, "evaluations": len(losses)}


def _promising(losses: Mapping[Architecture, float], latencies: Latencies, limit: float) -> list[Architecture]:
    """Networks better than the best measured one of a limit, by their loss, that are predicted to be within it."""
    best = min((losses[a] for a in latencies.near(limit, losses)), default=math.inf)
    left = (a for a in losses if a not in latencies.measured and losses[a] < best)
    return sorted((a for a in left if _USED * limit <= latencies.predict(a) <= limit), key=losses.__getitem__)[:4]


def evolved(
    supernet: Supernet, extraction: Extraction, setting: Setting, losses: dict[Architecture, float], limit: float,
    predict: Callable[[Architecture], float], rng: np.random.Generator,
) -> list[Architecture]:  # fmt: skip
    """Networks near a limit: random ones, then mutations of the best; their losses on validation examples are added."""
    space, found = supernet.space, list[Architecture]()

    def near(make: Callable[[], Architecture], n: int) -> None:
        new: dict[Architecture, None] = {}
        for _ in range(_TRIES):
            if _USED * limit <= predict(a := make()) <= 1.02 * limit and a not in found:
                new[a] = None
                if len(new) == n:
                    break
        for a in new:
            if a not in losses:
                losses[a] = validation_loss(extraction(a), setting)
            found.append(a)

    def mutated() -> Architecture:
        parent = sorted(found, key=losses.__getitem__)[rng.integers(min(5, len(found)))]
        changed = rng.random(len(parent.genes)) < _MUTATION
        return space.canonical(np.where(changed, rng.integers(0, space.levels), np.maximum(parent.genes, 0)))

    near(lambda: space.sample(rng), EVALUATIONS // 2)
    while found and len(found) < EVALUATIONS and len(found) < space.size:
        before = len(found)
        near(mutated, 6)
        if len(found) == before:
            break
    return found


def validation_loss(network: nn.Module, setting: Setting) -> float:
    """The loss of a network on the first validation examples."""
    task = setting.task
    inputs, labels = task.validation.inputs[:_SCORED], task.validation.labels[:_SCORED]
    return loss_of(outputs(network, task, inputs), labels, None).item()


class Latencies:
    """Relative latencies: measured ones, and predictions from costs by non-negative coefficients fitted to those."""

    def __init__(self, supernet: Supernet, setting: Setting) -> None:
        self._supernet, self._watch = supernet, setting.watch
        self.measured: dict[Architecture, float] = {}
        rng, space = np.random.default_rng(5), supernet.space
        self.measure([space.largest, space.smallest, *(space.sample(rng) for _ in range(_MEASURED))])

    def measure(self, architectures: Iterable[Architecture]) -> None:
        """Measures networks, and fits the predictions to all that were measured."""
        new = [a for a in dict.fromkeys(architectures) if a not in self.measured]
        if not new:
            return
        ratios = self._watch.ratios([self._watch.onnx(self._supernet.extract(a)) for a in new])
        self.measured.update(zip(new, ratios, strict=True))
        x, y = np.array([self._features(a) for a in self.measured]), np.array(list(self.measured.values()))
        self._fitted, _ = nnls(x / y[:, None], np.ones(len(y)))

    def predict(self, a: Architecture) -> float:
        """The predicted latency of a network."""
        return float(np.array(self._features(a)) @ self._fitted)

    def near(self, limit: float, among: Container[Architecture]) -> list[Architecture]:
        """Networks that were measured within a limit and use most of it; all within it, if there are none such."""
        within = {a: ratio for a, ratio in self.measured.items() if ratio <= limit and a in among}
        return [a for a, ratio in within.items() if ratio >= _USED * limit] or list(within)

    def _features(self, a: Architecture) -> list[float]:
        cost = self._supernet.cost(a)
        return [1.0, cost.macs / 1e6, cost.activation_bytes / 1e6, cost.parameters / 1e6, float(len(cost.blocks))]
