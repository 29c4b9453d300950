"""MOEA/D for batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from nas.search.evolution.breeding import ArrayMating, directions, integer_operators
from nas.search.evolution.decomposition import REPLACED, DecomposedEvolution

WEIGHTS = directions(2, 11)


def started(values: NDArray[np.float64], violations: NDArray[np.float64] | None = None) -> Any:
    """MOEA/D with a first population of these values."""
    algorithm = DecomposedEvolution(WEIGHTS, partial(ArrayMating, **integer_operators()))
    problem = Problem(n_var=3, n_obj=2, n_ieq_constr=1, xl=np.zeros(3), xu=np.full(3, 5.0))
    algorithm.setup(problem, termination=NoTermination(), seed=1)
    algorithm.tell(infills=told(values, violations))
    return algorithm


def told(values: NDArray[np.float64], violations: NDArray[np.float64] | None = None) -> Any:
    broken = np.zeros(len(values)) if violations is None else violations
    rows = np.random.default_rng(0).integers(0, 6, (len(values), 3))
    return Population.new("X", rows, "F", values, "G", broken[:, None])


def line(n: int) -> NDArray[np.float64]:
    """A straight front from (0, 1) to (1, 0)."""
    return np.column_stack([np.linspace(0, 1, n), np.linspace(1, 0, n)])


def test_each_subproblem_keeps_what_lies_in_its_direction() -> None:
    algorithm = started(np.vstack([line(11), line(11) + 1.0]))
    found = algorithm.pop.get("F")
    assert found.max() <= 1.0  # none of the dominated
    assert (np.diff(found[:, 0]) <= 0).all()  # the larger its weight, the smaller is a value
    assert max(np.unique(found, axis=0, return_counts=True)[1]) <= REPLACED


def test_a_child_enters_where_it_is_best_and_no_more_often_than_allowed() -> None:
    algorithm = started(line(11))
    child = np.array([[0.3, 0.3]])
    algorithm.tell(infills=told(child))
    found = algorithm.pop.get("F")
    assert 1 <= (found == child).all(axis=1).sum() <= REPLACED
    algorithm.tell(infills=told(np.array([[2.0, 2.0]])))
    assert (algorithm.pop.get("F") == found).all()


def test_the_feasible_replace_the_infeasible_at_any_value() -> None:
    algorithm = started(line(11), np.full(11, 0.5))
    for _ in range(20):
        algorithm.tell(infills=told(line(11) + 3.0))
    assert (algorithm.pop.get("CV") == 0).all()
    algorithm.tell(infills=told(line(11) - 1.0, np.full(11, 0.1)))
    assert (algorithm.pop.get("CV") == 0).all()
