"""Candidates of a guided search: the initial design, an evolution over predictions, and relatives of measured networks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nas.search.evolution.breeding import evolve, litters, uniform_operators
from nas.search.genes import GeneRows, Rows
from nas.search.history import draw_unknown
from nas.search.problem.pareto import Array
from supernets.space import Architecture

_LITTERS = 30
"""Litters that `relatives` breeds, at most: in a small space nearly every child is known in the end."""
_MIN_GENERATIONS = 15
_DRAWN = 100
"""Networks drawn for each of the first ones, where exact limits tell without measuring which of them are allowed."""


def first_networks(
    genes: GeneRows,
    known_architectures: Collection[Architecture],
    n: int,
    rng: np.random.Generator,
    violations: Callable[[list[Architecture]], Array] | None = None,
) -> list[Architecture]:
    """Up to `n` unknown architectures, half of them `scaled` from small to large, half `scaled_by_kind`; fewer if the space has
    no more.

    Uniform genes alone give middle-sized networks in a space of many choices. The farthest from each other by Hamming
    distance, which balances genes but not sizes, are no better than random ones.

    Args:
        known_architectures: Architectures that are not returned; a set or a mapping.
        violations: A function that computes the violations of constraints, (m,), of which no network needs to be measured;
            architectures that violate none, or least, are then chosen from `_DRAWN` times as many.
    """
    n_drawn = n if violations is None else _DRAWN * n
    rows = np.vstack([genes.scaled(n_drawn - n_drawn // 2, rng), genes.scaled_by_kind(n_drawn // 2, rng)])
    drawn = [a for a in dict.fromkeys(genes.architectures(rows)) if a not in known_architectures]
    if violations is not None and drawn:
        mixed = rng.permutation(len(drawn))
        least_violating = mixed[np.argsort(violations(drawn)[mixed], kind="stable")[:n]]
        drawn = [drawn[i] for i in least_violating]
    return drawn + draw_unknown(genes, {*known_architectures, *drawn}, n - len(drawn), rng)


@dataclass(frozen=True, slots=True)
class Effort:
    """The numbers of candidates; predicting them is the cost of an ask.

    Attributes:
        generations: Number of generations of the evolution; None: as many as the binary digits of the space's size, at least
            15, because in large spaces the predicted front still moves after these.
    """

    population: int = 80
    generations: int | None = None
    neighbours: int = 400
    random: int = 200
    relatives: int = 150


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of an ask, and how they came about.

    Attributes:
        architectures: Different unknown architectures, in a fixed order.
        generations: Number of generations of the evolution, the first population included; 0 where a small space was listed.
        bred: Number of networks of all generations, of which values were predicted.
    """

    architectures: list[Architecture]
    generations: int = 0
    bred: int = 0


def candidates(
    genes: GeneRows,
    known_architectures: Collection[Architecture],
    front: Rows,
    score: Callable[[list[Architecture]], tuple[Array, Array]],
    n_objectives: int,
    rng: np.random.Generator,
    effort: Effort,
) -> Pool:
    """Different architectures outside `known_architectures`, in a fixed order; none when everything found is known.

    They are neighbours of the front, random ones, and all that an NSGA-II on predictions breeds. Its population may be known,
    since these are good parents. Of a space no larger than the number that it would breed, all are candidates.

    Args:
        front: genes of the best architectures measured, (f, n_choices), f at least 1.
        score: predicts minimised values (n, n_objectives) and violations (n,) of architectures.
    """
    size = genes.space.size
    generations = effort.generations or max(_MIN_GENERATIONS, size.bit_length())
    if size <= effort.population * generations:
        return Pool([a for a in genes.enumerate() if a not in known_architectures])
    near = genes.neighbours(front, effort.neighbours, rng)
    pool = dict.fromkeys(genes.architectures(np.vstack([near, genes.random(effort.random, rng)])))
    half = effort.population // 2
    spread = [genes.scaled(half, rng), genes.scaled_by_kind(half, rng)]
    first = np.vstack([front, near[: effort.population], *spread])
    litter_sizes: list[int] = []

    def scored(levels: Rows) -> tuple[Array, Array]:
        litter_sizes.append(len(levels))
        bred = genes.architectures(genes.canonical(levels))
        pool.update(dict.fromkeys(bred))
        return score(bred)

    evolve(
        genes.levels,
        scored,
        n_objectives,
        operators=uniform_operators(),
        population=effort.population,
        generations=generations,
        seed=seed_of(rng),
        first=genes.filled(first, rng),
        canonical=genes.canonical,
    )
    unknown = [a for a in pool if a not in known_architectures]
    return Pool(unknown, len(litter_sizes), sum(litter_sizes))


def relatives(
    genes: GeneRows,
    known_architectures: Collection[Architecture],
    parents: tuple[Rows, Array, Array],
    n: int,
    rng: np.random.Generator,
) -> list[Architecture]:
    """Up to `n` different children of measured architectures, outside `known_architectures`, in the order bred.

    The inner evolution exploits the errors of the models; children of architectures with good measurements stay near the
    data. On NAS-Bench-201, half of a batch from these few candidates needed fewer evaluations than every way of taking
    all from the optimum of the models.

    Args:
        parents: genes (p, n_choices), measured minimised values (p, m) and violations (p,), p at least 1.
    """
    rows, values, broken = parents
    bred = litters(
        genes.levels, (genes.filled(rows, rng), values, broken), operators=uniform_operators(), n=n, seed=seed_of(rng)
    )
    unknown_children: dict[Architecture, None] = {}
    for children in islice(bred, _LITTERS):
        architectures = genes.architectures(genes.canonical(children))
        unknown_children.update(dict.fromkeys(a for a in architectures if a not in known_architectures))
        if len(unknown_children) >= n:
            break
    return list(unknown_children)[:n]


def seed_of(rng: np.random.Generator) -> int:
    """A seed for pymoo, from 0 to 2**32 - 1."""
    return int(rng.integers(2**32))
