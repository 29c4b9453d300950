"""The protocol of a search algorithm, and the problem that it is given."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from nas.search.problem.objectives import Constraint, Evaluation, Objective
from nas.search.problem.pareto import Array
from predictors.feature_columns import FeatureLayout
from supernets.space import Architecture, SearchSpace

Features = Callable[[Sequence[Architecture]], Array]
"""Architectures to feature rows, (n, d)."""
Values = Callable[[Sequence[Architecture]], Array]
"""Architectures to values of one metric, (n,), in natural sign."""


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Analytic features, and the meaning of their columns."""

    rows: Features
    layout: FeatureLayout


@dataclass(frozen=True, slots=True)
class SearchProblem:
    """The input of every search algorithm, which uses what it can of it.

    Attributes:
        seed: A number of at least 0; all of an algorithm's randomness comes from it.
        constraints: Limits on objectives or on further metrics, which every evaluation then has too.
        features: Analytic features by the name of each metric that has some.
        exact: Functions that compute a metric, (n,) in natural sign, by the name of each that needs no measuring.
        warm_start: Evaluations of other runs, possibly without some of the objectives (or with the same metric of other
            profiles). These architectures can be asked for like any other: evaluating one measures what is missing.
        first: Architectures to ask for before others.
        costs: Parts of each cost by name, see `nas.search.budgets`.
        n_reduced: Number of networks with one choice reduced that are asked for before others, at most; networks are solved
            from them, and asked for next. 0: none.
        losses: What each level of each choice alone adds to the loss, up to a factor of all, (n_levels,) each: with them, as
            many networks at most are solved for limits on multiply-accumulates, in place of reduced ones. () where nothing is
            known.
        known_architectures: Architectures of the warm start that lack no measurement: the loop evaluates them first, with the
            smallest and the largest.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    seed: int
    constraints: Sequence[Constraint] = ()
    features: Mapping[str, FeatureSource] = field(default_factory=dict)
    exact: Mapping[str, Values] = field(default_factory=dict)
    warm_start: Sequence[Evaluation] = ()
    known_architectures: Sequence[Architecture] = ()
    first: Sequence[Architecture] = ()
    costs: Mapping[str, Values] = field(default_factory=dict)
    n_reduced: int = 0
    losses: Sequence[Array] = ()


class SearchAlgorithm(Protocol):
    """Proposes architectures and learns from their measurements; does no I/O.

    The same seed and history give the same asks in any process. The loop measures the smallest and the largest
    architecture first and passes them to `tell` before the first `ask`, unless this takes ``pending`` (see
    `AsynchronousAlgorithm`). Algorithms without models inherit `fits`.
    """

    @abstractmethod
    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` architectures to evaluate next, none of them asked for or evaluated before; none: the space is used up.

        Args:
            n: Largest number of architectures to return, at least 1.
        """
        ...

    @abstractmethod
    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learns from evaluations of what was asked for; values that failed are NaN.

        Args:
            evaluations: One evaluation for each architecture of the last ask, in the order asked; before the first ask, those
                of the smallest, the largest and the known architectures. In an asynchronous search, one that arrived. Each
                has all objectives and constrained metrics.
        """
        ...

    @abstractmethod
    def replay(self, recorded: Sequence[Architecture]) -> list[Architecture]:
        """Continues as if `ask` had returned these recorded architectures; `tell` follows.

        Args:
            recorded: The architectures that `ask` returned when the run was recorded, in its order.

        Returns:
            The architectures that this version would have asked for: equal to `recorded` unless a library changed. An algorithm
            whose `ask` is a function of seed and history returns `recorded` without computing anything.
        """
        ...

    def correct(self, evaluations: Sequence[Evaluation]) -> None:
        """Learns better values of networks that were told before, whose measurements were uncertain; by default, nothing.

        Args:
            evaluations: Evaluations of architectures that `tell` received before, with all of their metrics; they replace the
                earlier ones.
        """
        del evaluations

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """The models behind the last `ask` by objective name, JSON-able; empty without models.

        Each has ``quality`` (see `predictors.quality`) and ``predictions``: architecture key -> [mean, standard deviation]. It
        may have ``weights``: name -> share of every model in it; and ``evolution``, how the candidates of the ask were bred:
        ``generations``, ``bred`` (networks of all generations) and ``candidates`` (different unknown ones), whole numbers.
        """
        return {}


class AsynchronousAlgorithm(SearchAlgorithm, Protocol):
    """An algorithm that can be asked while architectures are evaluated: its `ask` and `replay` take ``pending``.

    Where no more than these are to be evaluated for now, `ask` may return none although the space is not used up.
    """

    @abstractmethod
    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Up to `n` architectures to evaluate next, see `SearchAlgorithm.ask`.

        Args:
            n: Largest number of architectures to return, at least 1.
            pending: The architectures that are being evaluated, in the order asked. Those that no ask returned are the
                smallest, the largest and the known ones.
        """
        ...

    @abstractmethod
    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Continues as if `ask` had returned recorded architectures with these pending, see `SearchAlgorithm.replay`."""
        ...


class WrappedAlgorithm(SearchAlgorithm, Protocol):
    """An algorithm around another one, which decides what both can do."""

    inner: SearchAlgorithm


def as_asynchronous(algorithm: SearchAlgorithm) -> AsynchronousAlgorithm | None:
    """The algorithm, if it can be asked while architectures are evaluated; else None, and it is asked for batches."""
    innermost = algorithm
    while (inner := getattr(innermost, "inner", None)) is not None:
        innermost = inner
    takes_pending = all(
        "pending" in inspect.signature(method).parameters for method in (innermost.ask, innermost.replay)
    )
    return cast(AsynchronousAlgorithm, algorithm) if takes_pending else None


def asked(algorithm: SearchAlgorithm, n: int, pending: Sequence[Architecture]) -> list[Architecture]:
    """What an algorithm asks for; with pending architectures it must be an asynchronous one."""
    return cast(AsynchronousAlgorithm, algorithm).ask(n, pending=pending) if pending else algorithm.ask(n)


def replayed(
    algorithm: SearchAlgorithm, recorded: Sequence[Architecture], pending: Sequence[Architecture]
) -> list[Architecture]:
    """What an algorithm would have asked for; with pending architectures it must be an asynchronous one."""
    if pending:
        return cast(AsynchronousAlgorithm, algorithm).replay(recorded, pending=pending)
    return algorithm.replay(recorded)
