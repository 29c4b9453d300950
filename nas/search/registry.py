"""Search algorithms by the name that job files and commands give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from nas.errors import UnknownNameError
from nas.problem.objectives import Constraint, Evaluation, Objective
from nas.search.base import FeatureSource, SearchAlgorithm, Values
from nas.search.warm_start import WarmStarted, promising
from supernets.space import Architecture, SearchSpace


@dataclass(frozen=True, slots=True)
class SearchProblem:
    """The input of every search algorithm, which uses what it can of it.

    Attributes:
        seed: at least 0; all of an algorithm's randomness comes from it.
        constraints: on objectives or on further metrics, which every evaluation then has too.
        features: analytic features by the name of each metric that has some.
        exact: functions that compute a metric, (n,) in natural sign, by the name of each that needs no measuring.
        tune_seconds: for tuning models on analytic features at each fit.
        warm_start: evaluations of other runs, possibly without some of the objectives (or with the same metric of other
            profiles). These architectures can be asked for like any other: evaluating one measures what is missing.
        known: those of the warm start that lack nothing: the loop evaluates them first, with the smallest and the largest.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    seed: int
    constraints: Sequence[Constraint] = ()
    features: Mapping[str, FeatureSource] = field(default_factory=dict)
    exact: Mapping[str, Values] = field(default_factory=dict)
    tune_seconds: float = 0.0
    warm_start: Sequence[Evaluation] = ()
    known: Sequence[Architecture] = ()


@dataclass(frozen=True)
class Entry:
    """How an algorithm is made; its module, and the libraries that this imports, load on first use.

    Attributes:
        path: ``module:Class`` below `nas.search`.
        settings: arguments of the class.
        uses: attributes of a `SearchProblem` that the class takes, beyond those that all do.
        initial: ``module:function`` of the number of evaluations before the first model, given the number of prior ones; ""
            for an algorithm without models.
    """

    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    initial: str = ""

    def __call__(self, problem: SearchProblem) -> SearchAlgorithm:
        """A fresh algorithm."""
        make: Callable[..., SearchAlgorithm] = _load(self.path)
        used = {use: getattr(problem, use) for use in ("seed", "constraints", *self.uses)}
        return make(problem.space, problem.objectives, **used, **self.settings)


_EVOLUTION, _OPTUNA = "evolution.search:EvolutionSearch", "optuna:OptunaSearch"
ALGORITHMS: Mapping[str, Entry] = {
    "guided": Entry(
        "guided.search:GuidedSearch",
        uses=("features", "exact", "tune_seconds", "warm_start"),
        initial="guided.search:n_initial",
    ),
    "nsga2": Entry(_EVOLUTION, {"method": "nsga2"}),
    "nsga2-uniform": Entry(_EVOLUTION, {"method": "nsga2-uniform"}),
    "age-moea": Entry(_EVOLUTION, {"method": "age-moea"}),
    "u-nsga3": Entry(_EVOLUTION, {"method": "u-nsga3"}),
    "moead": Entry(_EVOLUTION, {"method": "moead"}),
    "regularized-evolution": Entry("regularized_evolution:RegularizedEvolution"),
    "local-search": Entry("local:LocalSearch"),
    "linas": Entry("linas:LINAS"),
    "optuna-tpe": Entry(_OPTUNA, {"sampler": "tpe"}),
    "optuna-gp": Entry(_OPTUNA, {"sampler": "gp"}),
    "optuna-nsga3": Entry(_OPTUNA, {"sampler": "nsga3"}),
    "random": Entry("random:RandomSearch"),
}


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(f"nas.search.{module}"), name)


def models_from(
    name: str, space: SearchSpace, *, batch: int, known: Collection[Architecture] = (), n_prior: int = 0
) -> int | None:
    """The number of the first evaluation of the budget that models choose, if none before it fails or is skipped.

    None for an algorithm without models; `UnknownNameError` if there is none of this name.

    Args:
        batch: evaluations of one ask.
        known: see `SearchProblem`; they count as evaluations, and are not part of the budget.
        n_prior: evaluations of the warm start.
    """
    if not (entry := _entry(name)).initial:
        return None
    n_anchors = len({space.smallest, space.largest} - set(known))
    initial: int = _load(entry.initial)(n_prior)
    lacking = initial - n_anchors - len(known)
    return n_anchors + batch * max(0, math.ceil(lacking / batch)) + 1


def _entry(name: str) -> Entry:
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def make_algorithm(name: str, problem: SearchProblem) -> SearchAlgorithm:
    """A fresh algorithm; with a warm start, one that first asks for what other runs found good.

    Raises:
        UnknownNameError: there is none of this name.
    """
    made = _entry(name)(problem)
    known = set(problem.known)
    lacking = [evaluation for evaluation in problem.warm_start if evaluation.architecture not in known]
    first = promising(lacking, problem.objectives, problem.constraints)
    return WarmStarted(made, first) if first else made
