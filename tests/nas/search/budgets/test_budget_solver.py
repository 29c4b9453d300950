"""Networks within limits, compared with those that enumeration finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.search.budgets import cost_terms
from nas.search.budgets.additive_scores import additive_scores, reduced_networks, score_of
from nas.search.budgets.cost_terms import CostTerms
from nas.search.budgets.fitting import SolverFitting
from nas.search.budgets.linear_costs import MIN_MEASURED, computed_cost, fitted_cost
from nas.search.budgets.solver import BudgetSolver, CostLimit
from nas.search.problem.pareto import Array
from supernets.space import Architecture, Choice, SearchSpace

SPACE = SearchSpace(
    [
        Choice("depth", (1, 2, 3)),
        Choice("stem", (2, 4, 8)),
        Choice("first", (1, 2, 3, 4)),
        Choice("second", (1, 2, 4), requires=("depth", 1)),
        Choice("heads", (1, 2, 3), requires=("depth", 2)),
        Choice("active", (1, 2, 3), requires=("heads", 0), most=(0, 1, 2)),
    ]
)
NETWORKS = SPACE.enumerate()


def parts(networks: Sequence[Architecture]) -> Array:
    """Products of widths, as of layers between them; a layer that a depth drops costs nothing."""
    rows = []
    for network in networks:
        v = {name: float(value) for name, value in SPACE.values(network).items()}
        second, heads = v.get("second", 0.0), v.get("heads", 0.0)
        rows.append([7.0, v["stem"], v["stem"] * v["first"], v["first"] * second, heads * v.get("active", 0.0) * 2])
    return np.array(rows)


class TimedParts:
    """The parts, all of one kind."""

    kinds = np.zeros(5, dtype=np.int64)

    def __call__(self, networks: Sequence[Architecture], /) -> Array:
        return parts(networks)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def random_scores(rng: np.random.Generator) -> list[Array]:
    return [np.append(np.sort(rng.random(n - 1))[::-1], 0.0) for n in SPACE.levels.tolist()]


def solver_of(rng: np.random.Generator) -> BudgetSolver:
    terms = CostTerms(SPACE, parts, rng)
    return BudgetSolver(SPACE, random_scores(rng), {"macs": computed_cost("macs", terms, parts)})


def least_score(solver: BudgetSolver, bound: float, floor: float = 0.0) -> float:
    """By enumeration."""
    costs = parts(NETWORKS).sum(axis=1)
    keeping = [n for n, cost in zip(NETWORKS, costs, strict=True) if floor <= cost <= bound]
    return min(score_of(solver.scores, network) for network in keeping)


def test_terms_sum_to_the_parts_of_every_network(rng: np.random.Generator) -> None:
    terms = CostTerms(SPACE, parts, rng)
    assert terms.is_exact
    assert terms.constant.tolist() == [7, 0, 0, 0, 0]
    assert {term.choices for term in terms.terms} == {(1, 2), (0, 2, 3), (0, 4, 5)}  # stem alone joined stem and first


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bound", [13.0, 25.0, 40.0, 60.0, 1e3])
def test_solutions_are_the_best_within_the_limit(seed: int, bound: float) -> None:
    solver = solver_of(np.random.default_rng(seed))
    solution = solver.solve([CostLimit("macs", maximum=bound)])
    assert solution is not None
    SPACE.check(solution.network)
    assert solution.costs["macs"] == parts([solution.network]).sum() <= bound
    assert solution.score == pytest.approx(least_score(solver, bound), abs=1e-5)
    assert solution.score == pytest.approx(score_of(solver.scores, solution.network))
    assert solution.gap == pytest.approx(0, abs=1e-4)


def test_both_bounds_hold_and_impossible_ones_have_no_solution(rng: np.random.Generator) -> None:
    solver = solver_of(rng)
    solution = solver.solve([CostLimit("macs", minimum=30, maximum=33)])
    assert solution is not None
    assert 30 <= solution.costs["macs"] <= 33
    assert solution.score == pytest.approx(least_score(solver, 33, 30), abs=1e-5)
    assert solver.solve([CostLimit("macs", maximum=float(parts([SPACE.smallest]).sum()) - 1)]) is None


def test_excluded_networks_are_not_chosen_again(rng: np.random.Generator) -> None:
    solver, chosen = solver_of(rng), list[Architecture]()
    for _ in range(5):
        solution = solver.solve([CostLimit("macs", maximum=20)], excluded=chosen)
        assert solution is not None
        chosen.append(solution.network)
    assert len(set(chosen)) == 5
    scores = [score_of(solver.scores, network) for network in chosen]
    within = [n for n, cost in zip(NETWORKS, parts(NETWORKS).sum(axis=1), strict=True) if cost <= 20]
    assert scores == pytest.approx(sorted(score_of(solver.scores, n) for n in within)[:5], abs=1e-5)


def test_costs_of_too_many_choices_are_relaxed_and_still_keep_the_limit(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_terms, "MAX_STATES", 3)
    solver = solver_of(rng)
    assert not solver.costs["macs"].terms.is_exact
    for bound in (15.0, 25.0, 40.0):
        solution = solver.solve([CostLimit("macs", maximum=bound)])
        assert solution is not None
        assert solution.costs["macs"] <= bound
        assert solution.score < score_of(solver.scores, SPACE.smallest)


def test_a_sweep_grows_from_the_smallest_to_the_largest_cost(rng: np.random.Generator) -> None:
    solutions = solver_of(rng).sweep("macs", 6)
    costs, scores = [s.costs["macs"] for s in solutions], [s.score for s in solutions]
    assert 3 <= len(costs) <= 6
    assert costs == sorted(costs)
    assert scores == sorted(scores, reverse=True)


def test_scores_are_those_of_networks_with_one_choice_reduced(rng: np.random.Generator) -> None:
    true = random_scores(rng)
    networks = [SPACE.largest, *reduced_networks(SPACE)]
    assert len(networks) == 1 + sum(n - 1 for n in SPACE.levels.tolist())
    shares = [np.zeros(n) for n in SPACE.levels.tolist()]
    scores = additive_scores(SPACE, networks, [2 + score_of(true, network) for network in networks], shares)
    for network in networks:
        assert score_of(scores, network) == pytest.approx(score_of(true, network), abs=0.02)
    assert all((np.diff(by_level) <= 0).all() and by_level[-1] == 0 for by_level in scores)


def test_what_is_not_measured_loses_in_proportion_to_its_costs() -> None:
    shares = [np.linspace(0.3, 0, n) for n in SPACE.levels.tolist()]
    networks = [SPACE.largest, SPACE.smallest]
    scores = additive_scores(SPACE, networks, [0.0, 1.0], shares)
    assert score_of(scores, SPACE.smallest) == pytest.approx(1, rel=0.05)
    assert all(by_level[0] > 0 for by_level in scores[:3])
    with pytest.raises(ValueError, match="largest"):
        additive_scores(SPACE, [SPACE.smallest], [1.0], shares)


def test_few_networks_reduce_each_choice_to_its_lowest_level_first() -> None:
    networks = reduced_networks(SPACE, 6)
    assert all(any(n.genes[i] == 0 for n in networks) for i in range(len(SPACE)))
    assert len(reduced_networks(SPACE, 2)) == 2


def test_latencies_are_fitted_to_measured_networks(rng: np.random.Generator) -> None:
    weights, terms = np.array([0.5, 0.1, 0.02, 0.3, 0.05]), CostTerms(SPACE, parts, rng)
    measured = [SPACE.sample(rng) for _ in range(40)]
    values = (parts(measured) @ weights) * rng.normal(1, 0.01, len(measured))
    cost = fitted_cost("latency_ms", terms, TimedParts(), measured, values.tolist())
    assert cost is not None
    assert cost(NETWORKS) == pytest.approx(parts(NETWORKS) @ weights, rel=0.03)
    assert fitted_cost("latency_ms", terms, TimedParts(), measured[: MIN_MEASURED - 1], [1.0] * 5) is None


def test_fitted_solvers_keep_limits_on_several_costs(rng: np.random.Generator) -> None:
    fitting = SolverFitting(SPACE, {"macs": parts, "latency_ms@board": TimedParts()}, seed=0)
    true = random_scores(rng)
    networks = list(dict.fromkeys([SPACE.largest, *reduced_networks(SPACE), *(SPACE.sample(rng) for _ in range(20))]))
    latencies = parts(networks).sum(axis=1) ** 0.9
    losses = [score_of(true, network) for network in networks]
    solver = fitting.solver(networks, losses, {"latency_ms@board": latencies.tolist()})
    solution = solver.solve([CostLimit("latency_ms@board", maximum=15), CostLimit("macs", maximum=24)])
    assert solution is not None
    assert solution.costs["macs"] <= 24
    assert float(parts([solution.network]).sum() ** 0.9) <= 15 * 1.05
    assert (
        "latency_ms@board" not in fitting.solver(networks, losses, {"latency_ms@board": [np.nan] * len(networks)}).costs
    )
