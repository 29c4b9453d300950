"""The protocol of a search algorithm, and the functions of architectures that it is given."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import Evaluation
from nas.problem.pareto import Array
from predictors.feature_columns import FeatureLayout
from supernets.space import Architecture

Features = Callable[[Sequence[Architecture]], Array]
"""Architectures to feature rows, (n, d)."""
Values = Callable[[Sequence[Architecture]], Array]
"""Architectures to values of one metric, (n,), in natural sign."""


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Analytic features, and the meaning of their columns."""

    rows: Features
    layout: FeatureLayout


class SearchAlgorithm(Protocol):
    """Proposes architectures and learns from their measurements; does no I/O.

    The same seed and history give the same asks in any process. The loop measures the smallest and the largest
    architecture first and passes them to `tell` before the first `ask`. Algorithms without models inherit `fits` and
    `lower_confidence_bounds`.
    """

    @abstractmethod
    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` architectures to evaluate next, none of them asked for or evaluated before; none: the space is used up."""
        ...

    @abstractmethod
    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learns from the evaluations of the last ask, in the order asked; values that failed are NaN.

        In a staged evaluation that was stopped early, values not taken are NaN, and the accuracy is that of fewer images.
        """
        ...

    @abstractmethod
    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Continues as if `ask` had returned these recorded architectures; `tell` follows.

        Returns:
            What this version would have asked for: equal to `asked` unless a library changed. An algorithm whose `ask` is
            a function of seed and history returns `asked` without computing anything.
        """
        ...

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """By objective name, the models behind the last `ask`, JSON-able; empty without models.

        Each has ``quality`` (see `predictors.quality`) and ``predictions``: architecture key -> [mean, standard deviation].
        """
        return {}

    def lower_confidence_bounds(self, architectures: Sequence[Architecture]) -> NDArray[np.float64] | None:
        """Minimised values (n, objectives), two standard deviations better than predicted; None without models.

        A function of seed and history, like an ask.
        """
        return None
