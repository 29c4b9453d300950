"""Cost models that are linear in parts of networks: computed costs, and timed ones fitted to measured networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.search.budgets.cost_terms import CostTerms, Parts
from nas.search.budgets.least_squares import kriging_weights, nonnegative_weights, ridge_weights
from nas.search.problem.pareto import Array
from supernets.space import INACTIVE, Architecture, SearchSpace


class FittedParts(Protocol):
    """Parts that a timed metric is fitted to.

    Attributes:
        kinds: The kind of each part, (n_parts,), from 0: parts of a kind probably have similar weights.
    """

    kinds: NDArray[np.int64]

    def __call__(self, networks: Sequence[Architecture], /) -> Array:
        """The parts of networks, (n, n_parts), nowhere negative."""
        ...


MIN_MEASURED = 6
"""Measured networks from which a timed cost is fitted, at least."""


@dataclass(frozen=True, eq=False)
class Kriging:
    """Relative residuals of a cost near to measured networks, by the levels in which networks differ.

    Attributes:
        levels: Levels of the measured networks, scaled to 0 to 1, (n, n_choices).
        weights: (n,).
        length: Length of the exponential kernel, in levels of full range.
    """

    levels: Array
    weights: Array
    length: float

    @classmethod
    def of(cls, space: SearchSpace, networks: Sequence[Architecture], residuals: Array) -> Kriging:
        """The residuals of measured networks, (n,), interpolated."""
        levels = _scaled_levels(space, networks)
        return cls(levels, *kriging_weights(_distances(levels, levels), residuals))

    def __call__(self, space: SearchSpace, networks: Sequence[Architecture]) -> Array:
        """The residuals of networks, (m,)."""
        distances = _distances(_scaled_levels(space, networks), self.levels)
        return np.asarray(np.exp(-distances / self.length) @ self.weights)


def _scaled_levels(space: SearchSpace, networks: Sequence[Architecture]) -> Array:
    genes = np.array([network.genes for network in networks], dtype=np.float64)
    return genes / np.maximum(space.levels - 1, 1)


def _distances(first: Array, second: Array) -> Array:
    return np.asarray(np.abs(first[:, None] - second[None]).sum(axis=2))


@dataclass(frozen=True, eq=False)
class LinearCost:
    """A cost of networks: a weighted sum of parts, a constant, corrections of single choices, and residuals near to measured
    networks, which are not linear.

    Attributes:
        name: Name of the metric, e.g. ``latency_ms@cpu-1-thread``.
        terms: Terms of the parts.
        parts: Function that gives the parts of networks.
        weights: (n_parts,).
        offset: Constant in the metric's unit.
        by_level: Corrections of each choice by level, in the metric's unit; empty for a computed metric.
        residuals: Relative residuals; None for a computed metric.
    """

    name: str
    terms: CostTerms
    parts: Parts = field(repr=False)
    weights: Array
    offset: float = 0.0
    by_level: Sequence[Array] = ()
    residuals: Kriging | None = None

    @property
    def is_exact(self) -> bool:
        """True if the sum of the terms is the cost itself."""
        return self.terms.is_exact and self.residuals is None

    def __call__(self, networks: Sequence[Architecture]) -> Array:
        """The cost of networks, (n,), by the parts themselves and not by their terms."""
        values = self.parts(networks) @ self.weights + self.offset
        if self.by_level:
            values += [
                sum(float(self.by_level[i][gene]) for i, gene in enumerate(network.genes) if gene != INACTIVE)
                for network in networks
            ]
        if self.residuals is not None:
            values = values * (1 + self.residuals(self.terms.space, networks))
        return np.asarray(values, dtype=np.float64)

    @property
    def constant(self) -> float:
        """What no choice changes."""
        return float(self.terms.constant @ self.weights) + self.offset


def computed_cost(name: str, terms: CostTerms, parts: Parts) -> LinearCost:
    """A computed metric, the sum of its parts."""
    return LinearCost(name, terms, parts, np.ones(len(terms.constant)))


def fitted_cost(
    name: str, terms: CostTerms, parts: FittedParts, networks: Sequence[Architecture], values: Sequence[float]
) -> LinearCost | None:
    """A timed metric, fitted to measured networks; None where there are fewer than `MIN_MEASURED`.

    Weights of kinds of parts, then of the parts themselves near to their kinds', have least squared relative error and are
    nowhere negative; what they leave is corrected by ridge regression on single choices, and what that leaves by simple
    kriging. Penalties and lengths have the least error by cross-validation.

    Args:
        networks: n networks.
        values: Their measured values, (n,), above 0.
    """
    y = np.asarray(values, dtype=np.float64)
    if len(y) < MIN_MEASURED:
        return None
    rows = parts(networks)
    scale = np.maximum(np.abs(rows).mean(axis=0), 1e-12)
    n_kinds = int(parts.kinds.max()) + 1
    totals = np.stack([rows[:, parts.kinds == kind].sum(axis=1) for kind in range(n_kinds)], axis=1)
    kind_scale = np.maximum(totals.mean(axis=0), 1e-12)
    constant = np.ones((len(y), 1))
    by_kind = nonnegative_weights(
        np.hstack([totals / kind_scale, constant]) / y[:, None], np.ones(len(y)), np.zeros(n_kinds + 1)
    )
    prior = np.append((by_kind[:-1] / kind_scale)[parts.kinds] * scale, by_kind[-1])
    design = np.hstack([rows / scale, constant]) / y[:, None]
    weights = nonnegative_weights(design, np.ones(len(y)), prior)
    by_level = _corrections(terms.space, networks, y, 1 - design @ weights)
    linear = LinearCost(name, terms, parts, weights[:-1] / scale, float(weights[-1]), by_level)
    return replace(linear, residuals=Kriging.of(terms.space, networks, y / linear(networks) - 1))


def _corrections(
    space: SearchSpace, networks: Sequence[Architecture], values: Array, relative_errors: Array
) -> list[Array]:
    """What each level of each choice adds to a cost, (n_levels,) each, by relative errors of a model of it."""
    places = [0, *np.cumsum(space.levels).tolist()]
    one_hot = np.zeros((len(networks), places[-1]))
    for row, network in zip(one_hot, networks, strict=True):
        row[[places[i] + gene for i, gene in enumerate(network.genes) if gene != INACTIVE]] = 1
    corrections = ridge_weights(one_hot / values[:, None], relative_errors)
    return [corrections[start:end] for start, end in pairwise(places)]
