"""The shipped search algorithms by the name that job files give them (no numpy, since every job file is checked by it)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.search.base import SearchAlgorithm, SearchProblem


@dataclass(frozen=True)
class Entry:
    """How an algorithm is made; its module, and the libraries that this imports, load on first use.

    Attributes:
        path: ``module:Class`` below `nas.search`.
        settings: arguments of the class.
        uses: attributes of a `SearchProblem` that the class takes, beyond those that all do.
        part: the optional part of the installation that it needs; "" for none.
        initial: ``module:function`` of the number of evaluations before the first model, given the number of prior ones; ""
            for an algorithm without models.
        predicted: how it is made where a job names a predictor; None for an algorithm that takes none.
    """

    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    part: str = ""
    initial: str = ""
    predicted: Entry | None = None

    def __call__(self, problem: SearchProblem, **arguments: Any) -> SearchAlgorithm:
        """A fresh algorithm; `arguments` are further ones of its class."""
        make: Callable[..., SearchAlgorithm] = load_part(self.path)
        used = {use: getattr(problem, use) for use in ("seed", "constraints", *self.uses)}
        return make(problem.space, problem.objectives, **used, **self.settings, **arguments)


_EVOLUTION, _OPTUNA = "evolution.search:EvolutionSearch", "optuna:OptunaSearch"
ALGORITHMS: Mapping[str, Entry] = {
    "guided": Entry(
        "guided.search:GuidedSearch",
        uses=("features", "exact", "warm_start"),
        initial="guided.surrogate_search:n_initial",
    ),
    "nsga2": Entry(
        _EVOLUTION,
        {"method": "nsga2"},
        predicted=Entry(
            "guided.predicted_evolution:PredictedEvolution",
            uses=("features", "exact", "warm_start"),
            initial="guided.surrogate_search:n_initial",
        ),
    ),
    "nsga2-uniform": Entry(_EVOLUTION, {"method": "nsga2-uniform"}),
    "age-moea": Entry(_EVOLUTION, {"method": "age-moea"}),
    "u-nsga3": Entry(_EVOLUTION, {"method": "u-nsga3"}),
    "moead": Entry(_EVOLUTION, {"method": "moead"}),
    "regularized-evolution": Entry("regularized_evolution:RegularizedEvolution"),
    "local-search": Entry("local:LocalSearch"),
    "linas": Entry("linas:LINAS"),
    "optuna-tpe": Entry(_OPTUNA, {"sampler": "tpe"}, part="optuna"),
    "optuna-gp": Entry(_OPTUNA, {"sampler": "gp"}, part="optuna"),
    "optuna-nsga3": Entry(_OPTUNA, {"sampler": "nsga3"}, part="optuna"),
    "random": Entry("random:RandomSearch"),
}


PREDICTED = tuple(name for name, entry in ALGORITHMS.items() if entry.predicted is not None)
"""Names of the algorithms that take a predictor."""


def predictor_fault(algorithm: str) -> str:
    """Why an algorithm of this name cannot be given a predictor; "" where it takes one."""
    if algorithm in PREDICTED:
        return ""
    with_own = " (it fits its own models)" if algorithm in ALGORITHMS and ALGORITHMS[algorithm].initial else ""
    return (
        f"{algorithm} takes no predictor{with_own}; {' and '.join(PREDICTED)} does: name that, or remove the predictor"
    )


def label_of(algorithm: str, predictor: str) -> str:
    """``nsga2+lightgbm``; the name of the algorithm where no predictor is named ("")."""
    return f"{algorithm}+{predictor}" if predictor else algorithm


def load_part(path: str) -> Any:
    """The object of a ``module:name`` below `nas.search`."""
    module, _, name = path.partition(":")
    return getattr(import_module(f"nas.search.{module}"), name)
