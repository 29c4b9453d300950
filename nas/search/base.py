"""The protocol of a search algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.problem.objectives import Evaluation
from supernets.space import Architecture


class SearchAlgorithm(Protocol):
    """Proposes architectures and learns from their figures; does no I/O.

    The same seed and the same told history give the same asks, in any process. The loop measures the smallest and the
    largest architecture first and tells them before the first `ask`: every algorithm takes them as part of its history.
    """

    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` architectures to evaluate next, never one asked or told before; empty when the space is used up."""
        ...

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Takes the figures of what was asked last, in the order asked; failed ones carry NaN.

        What a staged evaluation left early has NaN for what was not taken, and an accuracy of fewer images.
        """
        ...

    def fits(self) -> Mapping[str, Mapping[str, Any]]:
        """By objective name, the models behind the last `ask`, JSON-able; empty for algorithms without models.

        Each has ``quality`` (see `predictors.quality`) and ``predictions``: architecture key -> [mean, standard deviation].
        """
        ...

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        """Moves on as if `ask` had returned the recorded architectures, which `tell` will then be given.

        Returns:
            What this version would have asked (equal to `asked` unless a library changed); an algorithm whose `ask` is
            a function of its seed and history alone returns `asked` without computing anything.
        """
        ...


@runtime_checkable
class Foresight(Protocol):
    """An algorithm with models that tell how good a candidate may be before all of its figures are taken."""

    def hopes(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """The best minimised figures to be hoped for, (n, objectives), about two deviations from the expected ones.

        Minus infinity where the models say nothing. A function of the seed and of what was told, like an ask.
        """
        ...
