"""The shelf of search algorithms: each by the name that job files and commands give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nas.errors import UnknownNameError
from nas.problem.objectives import Constraint, Evaluation, Objective
from nas.search.base import SearchAlgorithm
from nas.search.guided.models import FeatureSource, Figures
from nas.search.warm_start import EarlierFirst, promising
from supernets.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Task:
    """What is searched for; every algorithm is made of one, and takes of it what it can use.

    Attributes:
        seed: at least 0; all of an algorithm's randomness comes from it.
        constraints: on objectives or on further figures, which every evaluation then has too.
        features: analytic features by the name of each figure that has some.
        exact: what computes figures, (n,) in their natural sign, by the name of each that needs no measuring.
        tune_seconds: for tuning models on analytic features at each fit.
        earlier: figures that other runs took, possibly without some of the objectives (or with the same metric of other
            profiles). These networks can be asked for like any other: asking costs what is missing.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    seed: int
    constraints: Sequence[Constraint] = ()
    features: Mapping[str, FeatureSource] = field(default_factory=dict)
    exact: Mapping[str, Figures] = field(default_factory=dict)
    tune_seconds: float = 0.0
    earlier: Sequence[Evaluation] = ()


def make_algorithm(name: str, task: Task) -> SearchAlgorithm:
    """A fresh algorithm; with earlier figures, one that asks first for what they show to be good.

    Raises:
        UnknownNameError: there is none of this name.
    """
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)
    made = ALGORITHMS[name](task)
    first = promising(task.earlier, task.objectives, task.constraints)
    return EarlierFirst(made, first, n_objectives=len(task.objectives)) if first else made


def _random(task: Task) -> SearchAlgorithm:
    from nas.search.random import RandomSearch

    return RandomSearch(task.space, seed=task.seed)


def _evolution(method: str) -> Callable[[Task], SearchAlgorithm]:
    def make(task: Task) -> SearchAlgorithm:
        from nas.search.evolution.search import EvolutionSearch

        return EvolutionSearch(task.space, task.objectives, seed=task.seed, method=method, constraints=task.constraints)

    return make


def _regularized(task: Task) -> SearchAlgorithm:
    from nas.search.regularized import RegularizedEvolution

    return RegularizedEvolution(task.space, task.objectives, seed=task.seed, constraints=task.constraints)


def _local(task: Task) -> SearchAlgorithm:
    from nas.search.local import LocalSearch

    return LocalSearch(task.space, task.objectives, seed=task.seed, constraints=task.constraints)


def _linas(task: Task) -> SearchAlgorithm:
    from nas.search.linas import LINAS

    return LINAS(task.space, task.objectives, seed=task.seed, constraints=task.constraints)


def _optuna(sampler: str) -> Callable[[Task], SearchAlgorithm]:
    def make(task: Task) -> SearchAlgorithm:
        from nas.search.optuna import OptunaSearch

        return OptunaSearch(task.space, task.objectives, seed=task.seed, sampler=sampler, constraints=task.constraints)

    return make


def _guided(task: Task) -> SearchAlgorithm:
    from nas.search.guided.search import GuidedSearch

    return GuidedSearch(
        task.space, task.objectives, seed=task.seed, features=task.features, exact=task.exact,
        tune_seconds=task.tune_seconds, earlier=task.earlier, constraints=task.constraints,
    )  # fmt: skip


# Each imports its libraries when it is made, not before.
ALGORITHMS: Mapping[str, Callable[[Task], SearchAlgorithm]] = {
    "guided": _guided,
    "nsga2": _evolution("nsga2"),
    "nsga2-uniform": _evolution("nsga2-uniform"),
    "age-moea": _evolution("age-moea"),
    "u-nsga3": _evolution("u-nsga3"),
    "moead": _evolution("moead"),
    "regularized-evolution": _regularized,
    "local-search": _local,
    "linas": _linas,
    "optuna-tpe": _optuna("tpe"),
    "optuna-gp": _optuna("gp"),
    "optuna-nsga3": _optuna("nsga3"),
    "random": _random,
}
