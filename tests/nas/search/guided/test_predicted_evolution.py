"""NSGA-II on the values of predictors, with measured infill."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nas.plugins.testing.search import OBJECTIVES, ConstraintContract, SearchContract, anchors, evaluate, space_of
from nas.search.base import FeatureSource, SearchAlgorithm, SearchProblem
from nas.search.genes import GeneRows
from nas.search.guided.candidates import Effort
from nas.search.guided.predicted_evolution import PredictedEvolution
from nas.search.named_predictors import find_predictor
from nas.search.problem.objectives import Constraint, minimised
from nas.search.problem.pareto import hypervolume, non_dominated
from nas.search.random import RandomSearch
from nas.search.registry import make_algorithm, models_from
from predictors import FeatureLayout, Prediction
from predictors.base import Array
from predictors.registry import PREDICTORS
from supernets.space import Architecture, SearchSpace
from tests.errors import raises

QUICK = Effort(population=20, generations=4, neighbours=60, random=30)


def search_with(
    predictor: str | type, space: SearchSpace, seed: int = 0, constraints: Sequence[Constraint] = ()
) -> PredictedEvolution:
    made = find_predictor(predictor)
    return PredictedEvolution(
        space, OBJECTIVES, seed=seed, predictor=made, initial=12, effort=QUICK, constraints=constraints
    )


class TestPredictedEvolution(SearchContract, ConstraintContract):
    @staticmethod
    def make(space: SearchSpace, seed: int, constraints: Sequence[Constraint] = ()) -> SearchAlgorithm:
        return search_with("ridge", space, seed, constraints)


def asked_by(algorithm: SearchAlgorithm, space: SearchSpace, batches: Sequence[int]) -> list[Architecture]:
    """All networks that were asked for, after the smallest and the largest."""
    algorithm.tell(evaluate(space, anchors(space)))
    asked: list[Architecture] = []
    for n in batches:
        batch = algorithm.ask(n)
        algorithm.tell(evaluate(space, batch))
        asked += batch
    return asked


@pytest.mark.parametrize("name", PREDICTORS)
def test_the_models_of_an_ask_are_those_of_the_named_predictor(name: str) -> None:
    space = space_of(4)
    algorithm = search_with(name, space)
    asked_by(algorithm, space, [12, 6])
    fits = json.loads(json.dumps(algorithm.fits()))
    assert list(fits) == [o.name for o in OBJECTIVES]
    for fit in fits.values():
        assert sum(fit["weights"].values()) == pytest.approx(1.0)
        assert name == "auto" or fit["weights"] == {name: 1.0}
        assert fit["quality"]["n"] == 14
        assert all(math.isfinite(mean) and std > 0 for mean, std in fit["predictions"].values())


def test_the_evolution_of_an_ask_is_counted() -> None:
    space = space_of(6)
    algorithm = search_with("ridge", space)
    asked_by(algorithm, space, [12, 6])
    evolution = algorithm.fits()["accuracy"]["evolution"]
    assert evolution["generations"] == QUICK.generations
    assert evolution["bred"] > 3 * QUICK.population
    assert 6 <= evolution["candidates"] <= evolution["bred"] + QUICK.neighbours + QUICK.random
    small = space_of(2)
    listed = search_with("ridge", small)
    asked = asked_by(listed, small, [10, 4])
    left = small.size - len({*anchors(small), *asked[:10]})
    assert listed.fits()["accuracy"]["evolution"] == {"generations": 0, "bred": 0, "candidates": left}


class Exact:
    """The values of `evaluate` themselves, by the features of `source_of`."""

    def fit(self, features: Array, labels: Array) -> None:
        self._is_cost = bool(np.allclose(labels, features[:, 1]))

    def predict(self, features: Array) -> Prediction:
        mean = features[:, 1 if self._is_cost else 0]
        return Prediction(mean, np.ones(len(mean)), mean - 1, mean + 1)


def source_of(space: SearchSpace) -> FeatureSource:
    def rows(architectures: Sequence[Architecture]) -> Array:
        values = minimised(evaluate(space, architectures), OBJECTIVES)
        return np.column_stack([-values[:, 0], values[:, 1]])

    return FeatureSource(rows, FeatureLayout(macs=1, aggregates=(0, 1)))


def test_with_exact_predictions_a_batch_is_the_unmeasured_front() -> None:
    space, networks = space_of(3), GeneRows(space_of(3)).enumerate()
    features = {o.name: source_of(space) for o in OBJECTIVES}
    algorithm = PredictedEvolution(
        space, OBJECTIVES, seed=0, predictor=find_predictor(Exact), features=features, initial=12
    )
    algorithm.tell(evaluate(space, anchors(space)))
    first = algorithm.ask(10)
    algorithm.tell(evaluate(space, first))
    values = minimised(evaluate(space, networks), OBJECTIVES)
    front = {a for a, on_front in zip(networks, non_dominated(values), strict=True) if on_front}
    remaining = front - {*first, *anchors(space)}
    asked = algorithm.ask(len(remaining))
    assert len(remaining) > 4
    assert set(asked) == remaining


def test_it_has_more_volume_than_chance() -> None:
    space, volumes = space_of(8), {}
    algorithms = {"lightgbm": search_with("lightgbm", space), "random": RandomSearch(space, seed=0)}
    for name, algorithm in algorithms.items():
        networks = [*anchors(space), *asked_by(algorithm, space, [10] * 5)]
        volumes[name] = hypervolume(minimised(evaluate(space, networks), OBJECTIVES), np.array([0.0, 15.0]))
    assert volumes["lightgbm"] > volumes["random"]


def problem_of(space: SearchSpace) -> SearchProblem:
    return SearchProblem(space, OBJECTIVES, 1)


def test_only_nsga2_takes_a_predictor() -> None:
    space = space_of(4)
    made = make_algorithm("nsga2", problem_of(space), predictor="lightgbm")
    assert isinstance(made, PredictedEvolution)
    assert models_from("nsga2", space, batch=8) is None
    assert models_from("nsga2", space, batch=8, predictor="lightgbm") == models_from("guided", space, batch=8) == 19
    with raises("algorithm.takes-no-predictor", "guided", "own models", "nsga2"):
        make_algorithm("guided", problem_of(space), predictor="ridge")
    with raises("algorithm.takes-no-predictor", "RandomSearch"):
        make_algorithm("", problem_of(space), implementation=RandomSearch, predictor="ridge")
    with raises("predictor.unknown", "'lightgbm'", "ridge"):
        make_algorithm("nsga2", problem_of(space), predictor="lightgmb")


class Raising(Exact):
    def fit(self, features: Array, labels: Array) -> None:
        raise ZeroDivisionError("no rows")


class Short(Exact):
    def predict(self, features: Array) -> Any:
        return Prediction(*(np.zeros(1) for _ in range(4)))


class Bare(Exact):
    def predict(self, features: Array) -> Any:
        return np.zeros(len(features))


@pytest.mark.parametrize(
    ("predictor", "texts"),
    [
        (Raising, ("fit raised ZeroDivisionError: no rows",)),
        (Short, ("predict", "mean", "(1,)")),
        (Bare, ("predict", "Prediction", "ndarray")),
    ],
)
def test_what_is_wrong_with_a_predictor_of_a_plug_in_names_it(predictor: type, texts: tuple[str, ...]) -> None:
    space = space_of(4)
    algorithm = search_with(f"{__name__}:{predictor.__name__}", space)
    with raises("plugin.failed", f"predictor {__name__}:{predictor.__name__}", *texts):
        asked_by(algorithm, space, [12, 4])


def test_a_class_without_the_methods_of_a_predictor_is_rejected() -> None:
    with raises("plugin.contract", "fit", "predictors.base.Predictor"):
        find_predictor(SearchSpace)
    instance: Any = Exact()
    with raises("plugin.contract", "Exact", "a class"):
        find_predictor(instance)
