"""Additive losses of the choices of a space, from networks that a run has measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from nas.search.budgets.least_squares import nonnegative_weights
from nas.search.problem.objectives import LOGARITHMIC_METRICS
from nas.search.problem.pareto import Array
from supernets.space import INACTIVE, Architecture, SearchSpace

_FLOOR = 0.02
"""Share of the range of losses, from the largest network's, below which differences count as equally precise."""

_PENALTY = 1e-3
"""See `PENALTIES`. Cross-validation cannot choose it: often one network alone has a level."""


def reduced_networks(space: SearchSpace, n: int | None = None) -> list[Architecture]:
    """The largest network with one choice reduced, for each level of each choice.

    Args:
        n: Number of networks, at most; then each choice has its lowest level and others evenly between, and where there are
            more choices, some of them, evenly. None for all.
    """
    largest, levels = space.largest, space.levels.tolist()
    pairs = [(i, level) for i, n_levels in enumerate(levels) for level in range(n_levels - 1) if largest.genes[i] >= 0]
    if n is not None and len(pairs) > n:
        each = max(1, n // max(1, sum(n_levels > 1 for n_levels in levels)))
        pairs = [
            (i, level)
            for i, n_levels in enumerate(levels)
            for level in sorted({round(k * (n_levels - 1) / each) for k in range(min(each, n_levels - 1))})
        ]
        pairs = [pairs[round(k * (len(pairs) - 1) / max(1, n - 1))] for k in range(n)] if len(pairs) > n else pairs
    return list(dict.fromkeys(_reduced(space, i, level) for i, level in pairs))


def _reduced(space: SearchSpace, choice: int, level: int) -> Architecture:
    genes = list(space.largest.genes)
    genes[choice] = level
    return space.canonical(genes)


def additive_losses(metric: str, values: Array) -> Array:
    """Values of a metric, smaller is better, as what adds up over choices: logarithms of those whose ratios count."""
    return np.log(values) if metric in LOGARITHMIC_METRICS else values


def value_of_loss(metric: str, loss: float) -> float:
    """The inverse of `additive_losses` of one value."""
    return math.exp(loss) if metric in LOGARITHMIC_METRICS else loss


def additive_scores(
    space: SearchSpace, networks: Sequence[Architecture], losses: Sequence[float], prior: Sequence[Array]
) -> list[Array]:
    """What each level of each choice adds to the loss of the largest network, (n_levels,) each; 0 for the last level.

    Scores are nowhere negative and fall with the level. They are those of the networks with one choice reduced, where these
    were measured; other networks add what they say about the rest. By relative least squares, since losses of networks with
    many choices reduced are more than the sums.

    Args:
        networks: Measured networks, the largest among them.
        losses: Their losses, (n,), smaller is better.
        prior: What each level of each choice alone adds, up to a factor of all, (n_levels,) each: what it was measured to do on
            few examples, or the share of the costs that it removes. Scores that no measured network tells apart are in
            proportion to it.

    Raises:
        ValueError: the largest network is not among them.
    """
    if space.largest not in networks:
        raise ValueError("scores are differences from the largest network, which is not measured")
    y = np.asarray(losses, dtype=np.float64)
    y = np.maximum(y - y[list(networks).index(space.largest)], 0.0)
    steps = [n_levels - 1 for n_levels in space.levels.tolist()]
    places = np.concatenate([[0], np.cumsum(steps)]).tolist()
    design = np.zeros((len(y), places[-1]))
    for row, network in zip(design, networks, strict=True):
        for i, gene in enumerate(network.genes):
            if gene != INACTIVE:
                row[places[i] + gene : places[i + 1]] = 1  # steps down from the last level
    steps_of_prior = [-np.diff(np.maximum.accumulate(values[::-1])[::-1]) for values in prior]
    removed = np.concatenate(steps_of_prior) if places[-1] else np.zeros(0)
    precision = 1 / (y + max(_FLOOR * float(np.ptp(y)), 1e-12))
    design, y = design * precision[:, None], y * precision
    predicted = design @ removed
    slope = max(float(predicted @ y) / max(float(predicted @ predicted), 1e-300), 0.0)
    increments = nonnegative_weights(design, y, slope * removed, [_PENALTY])
    return [np.concatenate([np.cumsum(increments[start:end][::-1])[::-1], [0.0]]) for start, end in pairwise(places)]


def score_of(scores: Sequence[Array], network: Architecture) -> float:
    """The predicted loss of a network beyond the largest one's: the sum of the scores of its levels."""
    return sum(float(scores[i][gene]) for i, gene in enumerate(network.genes) if gene != INACTIVE)
