"""AGE-MOEA's survival."""

from __future__ import annotations

import numpy as np
import pytest
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from nas.search.evolution.age import AgeSurvival, first_scores


def sphere(p: float, scale: tuple[float, float], n: int = 21) -> np.ndarray:
    """Rows of the quarter of an L_p sphere, its axes stretched."""
    x = np.linspace(0.0, 1.0, n)
    return np.column_stack([x, (1.0 - x**p) ** (1.0 / p)]) * scale


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 4.0])
def test_the_geometry_and_the_scales_of_a_sphere_are_found(p: float) -> None:
    _, found, scale = first_scores(sphere(p, (3.0, 50.0), 201))
    assert found == pytest.approx(p, rel=0.02)  # the most central of 201 rows is not quite on the diagonal
    assert scale == pytest.approx([3.0, 50.0])


def test_the_ends_are_worth_most_and_then_whoever_is_alone() -> None:
    angles = np.radians([0.0, 5.0, 6.0, 45.0, 85.0, 90.0])
    scores, p, _ = first_scores(np.column_stack([np.cos(angles), np.sin(angles)]))
    assert p == pytest.approx(2.0)
    assert np.isinf(scores[[0, -1]]).all()
    # Scored first, the middle has a chord of 45 degrees to either end, and is 1 from the ideal point.
    assert scores[3] == pytest.approx(4.0 * np.sin(np.radians(22.5)))
    # Scored last, the third has chords of 1 and of 6 degrees to the two nearest, or the second has (of 1 and 5).
    assert min(scores[1:3]) == pytest.approx(2.0 * np.sin(np.radians([0.5, 2.5])).sum())


@pytest.mark.parametrize("values", [np.zeros((5, 2)), np.zeros((1, 2)), np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])])
def test_fronts_without_extent_have_finite_scales(values: np.ndarray) -> None:
    scores, p, scale = first_scores(values)
    assert len(scores) == len(values)
    assert not np.isnan(scores).any()
    assert np.isfinite([p, *scale]).all()
    assert (scale > 0).all()


def test_survivors_are_feasible_first_and_by_front() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((40, 2))
    violations = np.where(np.arange(40) < 10, 0.0, np.arange(40) / 10.0)
    told = Population.new("X", rng.random((40, 3)), "F", values, "G", violations[:, None])
    problem = Problem(n_var=3, n_obj=2, n_ieq_constr=1, xl=0.0, xu=1.0)
    kept = AgeSurvival().do(problem, told, n_survive=15, random_state=rng)
    assert sorted(kept.get("CV")[:, 0]) == sorted(violations)[:15]
    best = AgeSurvival().do(problem, told[:10], n_survive=4, random_state=rng)
    assert (best.get("rank") <= np.sort(kept[:10].get("rank"))[3]).all()
