"""Diversity of the members of a front, and their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.results.analysis.network_values import Point
from nas.results.analysis.report import RunReport
from predictors.folds import evenly_spaced
from supernets.space import INACTIVE, Option, SearchSpace

_MAX_COMPARED = 500
"""Distances are computed for at most this many networks, evenly spaced."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """A front of at least two members.

    Attributes:
        n_genes: Number of genes of the space; the distance of two networks is the number of genes in which they differ,
            including genes that only one of them has.
        mean, min_distance, max_distance: Mean, smallest and largest distance between members.
        evaluated: The mean distance between all evaluated networks, for comparison.
        shared: Genes with the same option in every member, with that option; None where no member has the gene.
        options: By gene and by option, its share of the members that have the gene.
        active: By gene, the share of the members that have it.
    """

    n_genes: int
    mean: float
    min_distance: int
    max_distance: int
    evaluated: float
    shared: Mapping[str, Option | None]
    options: Mapping[str, Mapping[Option, float]]
    active: Mapping[str, float]


def diversity_of(report: RunReport, space: SearchSpace) -> Diversity | None:
    """The diversity of a report's front; None for fewer than two members."""
    if len(report.front) < 2:
        return None
    genes = np.array([point.architecture.genes for point in report.front], dtype=np.int64)
    apart, every = _distances(report.front), _distances(report.evaluated)
    shared: dict[str, Option | None] = {}
    options: dict[str, dict[Option, float]] = {}
    active: dict[str, float] = {}
    for j, choice in enumerate(space.choices):
        levels = genes[:, j]
        having = levels[levels != INACTIVE]
        counts = np.bincount(having, minlength=len(choice.options))
        options[choice.name] = dict(zip(choice.options, (counts / max(len(having), 1)).tolist(), strict=True))
        active[choice.name] = len(having) / len(levels)
        if np.ptp(levels) == 0:
            shared[choice.name] = choice.options[levels[0]] if len(having) else None
    return Diversity(
        genes.shape[1],
        float(apart.mean()),
        int(apart.min()),
        int(apart.max()),
        float(every.mean()),
        shared,
        options,
        active,
    )


def _distances(points: Sequence[Point]) -> NDArray[np.int64]:
    """Hamming distances of all pairs of at least two points, flat."""
    places = evenly_spaced(len(points), _MAX_COMPARED)
    some = np.array([points[place].architecture.genes for place in places.tolist()], dtype=np.int64)
    apart = np.zeros((len(some), len(some)), dtype=np.int64)
    for column in some.T:
        apart += column[:, None] != column[None, :]
    return apart[np.triu_indices(len(some), k=1)]
