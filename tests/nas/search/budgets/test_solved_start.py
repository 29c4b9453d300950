"""Searches that begin with networks of one reduced choice, and with what is solved from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.plugins.testing.search import OBJECTIVES, PARAMETERS, anchors, evaluate, space_of
from nas.search.base import SearchAlgorithm, SearchProblem
from nas.search.budgets.additive_scores import reduced_networks
from nas.search.problem.objectives import Constraint
from nas.search.problem.pareto import Array
from nas.search.registry import make_algorithm
from supernets.space import INACTIVE, Architecture

SPACE = space_of(3)


class LayerCosts:
    """Widths times kernels by layer, which the closed form's latencies are made of."""

    kinds = np.zeros(3, dtype=np.int64)

    def __call__(self, networks: Sequence[Architecture], /) -> Array:
        rows = [SPACE.values(network) for network in networks]
        layers = [[v.get(f"layer{i}.width", 0), v.get(f"layer{i}.kernel", 0)] for v in rows for i in range(3)]
        return np.array(layers, dtype=np.float64).prod(axis=1).reshape(len(rows), 3)


def algorithm_of(constraints: Sequence[Constraint] = (), n_reduced: int = 40, seed: int = 0) -> SearchAlgorithm:
    costs = {"macs": LayerCosts(), OBJECTIVES[1].name: LayerCosts()}
    problem = SearchProblem(SPACE, OBJECTIVES, seed, constraints=constraints, costs=costs, n_reduced=n_reduced)
    return make_algorithm("random", problem)


def asked(algorithm: SearchAlgorithm, n: int, batch: int = 5) -> list[list[Architecture]]:
    algorithm.tell(evaluate(SPACE, anchors(SPACE)))
    asks = []
    for _ in range(n):
        asks.append(algorithm.ask(batch))
        algorithm.tell(evaluate(SPACE, asks[-1]))
    return asks


def test_reduced_networks_come_first_and_then_solved_ones() -> None:
    reduced = [network for network in reduced_networks(SPACE) if network not in anchors(SPACE)]
    networks = [network for ask in asked(algorithm_of(), 8) for network in ask]
    assert networks[: len(reduced)] == reduced
    assert len(set(networks)) == len(networks)
    solved = evaluate(SPACE, networks[len(reduced) : len(reduced) + 4])
    drawn = evaluate(SPACE, [SPACE.sample(np.random.default_rng(i)) for i in range(100)])
    quality, cost = OBJECTIVES
    for network in solved:  # at equal cost, hardly a random network is better
        better = [
            e for e in drawn if e.value(cost) <= network.value(cost) and e.value(quality) > network.value(quality)
        ]
        assert len(better) <= 3


def test_at_most_the_given_number_of_networks_is_reduced() -> None:
    networks = [network for ask in asked(algorithm_of(n_reduced=4), 2, batch=4) for network in ask]
    assert set(networks[:4]) <= set(reduced_networks(SPACE))
    assert not set(networks[4:]) & set(reduced_networks(SPACE, 4))


def test_solved_networks_keep_the_constraints() -> None:
    limit = Constraint(OBJECTIVES[1], maximum=1.5)
    n_reduced = len([network for network in reduced_networks(SPACE) if network not in anchors(SPACE)])
    networks = [network for ask in asked(algorithm_of([limit]), 4, batch=n_reduced) for network in ask]
    solved = evaluate(SPACE, networks[n_reduced : n_reduced + 3])
    assert all(e.value(OBJECTIVES[1]) <= 1.5 * 1.02 for e in solved)


@pytest.mark.parametrize("n_replayed", [1, 2, 3, 5])
def test_a_resumed_search_asks_for_the_same(n_replayed: int) -> None:
    asks, resumed = asked(algorithm_of(), 7), algorithm_of()
    resumed.tell(evaluate(SPACE, anchors(SPACE)))
    for ask in asks[:n_replayed]:
        assert resumed.replay(ask) == ask
        resumed.tell(evaluate(SPACE, ask))
    for ask in asks[n_replayed:]:
        assert resumed.ask(5) == ask
        resumed.tell(evaluate(SPACE, ask))


def test_known_losses_are_solved_before_any_measurement_of_single_choices() -> None:
    quality, cost = OBJECTIVES
    largest = evaluate(SPACE, [SPACE.largest])[0].value(quality)
    singles = {network: largest - evaluate(SPACE, [network])[0].value(quality) for network in reduced_networks(SPACE)}
    losses = [np.zeros(len(choice.options)) for choice in SPACE.choices]
    for network, loss in singles.items():
        for i, (gene, whole) in enumerate(zip(network.genes, SPACE.largest.genes, strict=True)):
            if gene not in (whole, INACTIVE):
                losses[i][gene] = loss
    costs = {"macs": LayerCosts(), cost.name: LayerCosts()}
    problem = SearchProblem(SPACE, OBJECTIVES, 0, costs=costs, n_reduced=40, losses=losses)
    networks = [network for ask in asked(make_algorithm("random", problem), 3) for network in ask]
    drawn = evaluate(SPACE, [SPACE.sample(np.random.default_rng(i)) for i in range(100)])
    for solved in evaluate(SPACE, networks[:5]):
        macs = LayerCosts()([solved.architecture]).sum()
        better = [
            e
            for e in drawn
            if LayerCosts()([e.architecture]).sum() <= macs and e.value(quality) > solved.value(quality)
        ]
        assert len(better) <= 3


def test_without_costs_or_the_largest_network_the_inner_algorithm_begins() -> None:
    problem = SearchProblem(SPACE, [OBJECTIVES[0], PARAMETERS], 0, n_reduced=10)
    begun, plain = make_algorithm("random", problem), make_algorithm("random", SearchProblem(SPACE, OBJECTIVES, 0))
    assert begun.ask(5) == plain.ask(5)
    algorithm = algorithm_of()
    algorithm.tell(evaluate(SPACE, [SPACE.largest, SPACE.smallest], failing=True))
    for _ in range(8):
        ask = algorithm.ask(5)
        assert ask
        algorithm.tell(evaluate(SPACE, ask, failing=True))
