"""The search of the benchmarks of captured networks: corrected networks, without training, solved for limits of latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas.jobs.evaluation.cost_parts import ComputedParts, TimedParts
from nas.search.budgets.additive_scores import reduced_networks
from nas.search.budgets.fitting import SolverFitting
from nas.search.budgets.solver import CostLimit
from nas.search.problem.variants import Variants
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.recalibration import Extraction
from tests.benchmarks.any_model_value_training import Stopwatch

REDUCED, ROUNDS = 24, 3
"""Networks with one choice reduced, at most; and rounds in which networks are solved by all measurements before."""
_SHARES = (1.0, 0.94)
"""Of each limit, for which networks are solved: predicted latencies err."""
_VARIANTS, _LATENCY = Variants(), "latency_ms@cpu-1-thread"


@dataclass(frozen=True)
class Measured:
    """A network: its latency relative to the original's, its loss, and its ONNX model."""

    architecture: Architecture
    ratio: float
    loss: float
    model: bytes


def solved_networks(
    supernet: Supernet,
    extraction: Extraction,
    watch: Stopwatch,
    limits: Sequence[float],
    loss: Callable[[bytes], float],
) -> list[Measured]:
    """The largest and the smallest network, some with one choice reduced, and those that are solved for limits by them.

    Args:
        limits: Latencies relative to the original's.
        loss: Loss of a model.
    """
    space = supernet.space
    parts: Mapping[str, ComputedParts | TimedParts] = {
        "macs": ComputedParts(supernet, _VARIANTS, "macs", None),
        _LATENCY: TimedParts(supernet, _VARIANTS),
    }
    fitting = SolverFitting(space, parts, seed=0)
    measured: dict[Architecture, Measured] = {}

    def measure(architectures: Iterable[Architecture]) -> None:
        new = [architecture for architecture in dict.fromkeys(architectures) if architecture not in measured]
        models = [watch.onnx(extraction(architecture)) for architecture in new]
        for architecture, model, ratio in zip(new, models, watch.ratios(models), strict=True):
            measured[architecture] = Measured(architecture, ratio, loss(model), model)

    measure([space.largest, space.smallest, *reduced_networks(space, REDUCED)])
    for _ in range(ROUNDS):
        networks = list(measured.values())
        ratios = {_LATENCY: [network.ratio for network in networks]}
        solver = fitting.solver(list(measured), [network.loss for network in networks], ratios)
        solutions = []
        for limit in limits:
            slow = [network.architecture for network in networks if network.ratio > limit]
            bounds = (CostLimit(_LATENCY, maximum=share * limit) for share in _SHARES)
            solutions += [solver.solve([bound], excluded=slow) for bound in bounds]
        measure(solution.network for solution in solutions if solution is not None)
    return list(measured.values())
