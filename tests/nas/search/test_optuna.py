"""Optuna's samplers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import optuna
import pytest

from nas.plugins.testing.search import (
    NARROW,
    OBJECTIVES,
    ConstraintContract,
    SearchContract,
    asks_of,
    space_of,
)
from nas.search.base import SearchAlgorithm
from nas.search.optuna import OptunaSearch
from nas.search.problem.objectives import Constraint
from supernets.space import Choice, SearchSpace


class TestTPE(SearchContract, ConstraintContract):
    sampler = "tpe"
    batches = (10, 3, 1, 12)
    constrained_evaluations = 70
    seeds = range(10, 13)
    more = 1.0
    nearer = 1.1  # usually no nearer than chance: it only distinguishes feasible from infeasible

    @classmethod
    def make(cls, space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        return OptunaSearch(space, OBJECTIVES, seed=seed, sampler=cls.sampler, constraints=constraints)


class TestNSGA3(TestTPE):
    sampler = "nsga3"
    constrained_evaluations = 150
    nearer = 0.9


class GaussianProcess(TestTPE):
    """Not under the whole contract: an ask costs a second."""

    sampler = "gp"
    batches = (10, 1, 2)


@pytest.mark.slow
def test_the_gaussian_process_asks_the_same_again_with_constraints_too() -> None:
    GaussianProcess().test_another_process_asks_the_same()
    space = space_of(6)
    first, again = (asks_of(GaussianProcess.make(space, 1, NARROW), space, GaussianProcess.batches) for _ in range(2))
    assert first == again
    assert [len(ask) for ask in first] == list(GaussianProcess.batches)


def test_numbers_are_ordered_parameters_and_texts_categories_and_what_cannot_vary_is_none() -> None:
    space = SearchSpace([Choice("width", (8, 16)), Choice("operation", ("none", "conv")), Choice("stride", (2,))])
    algorithm = OptunaSearch(space, OBJECTIVES, seed=0)
    assert len(algorithm.ask(3)) == 3
    kinds = {name: type(kind).__name__ for name, kind in algorithm._study.trials[0].distributions.items()}
    assert kinds == {"width": "IntDistribution", "operation": "CategoricalDistribution"}


def test_it_says_nothing_and_leaves_the_verbosity_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    asks_of(OptunaSearch(space_of(6), OBJECTIVES, seed=0, sampler="nsga3"), space_of(6), [10, 10])
    assert optuna.logging.get_verbosity() == before == logging.INFO
    assert capfd.readouterr() == ("", "")
