"""Where a guided search looks: an inner evolution over predictions, neighbours of the front, and chance."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.pareto import Array
from nas.search.acquisition import survivors
from nas.search.genes import GeneRows, Rows
from supernets.space import Architecture


@dataclass(frozen=True, slots=True)
class Effort:
    """How many candidates are looked at; predictions of them are what an ask costs."""

    population: int = 80
    generations: int = 15
    neighbours: int = 400
    random: int = 200


def candidates(
    genes: GeneRows,
    known: Collection[Architecture],
    front: Rows,
    score: Callable[[list[Architecture]], Array],
    rng: np.random.Generator,
    effort: Effort,
) -> list[Architecture]:
    """Different architectures outside `known`, in a fixed order; none when everything found is known.

    The inner evolution breeds by uniform crossover and by redrawing 1 gene in n. Its survivors may be known networks,
    which are good parents, but only unknown ones are candidates.

    Args:
        front: genes of the best networks measured, (f, n_choices), f at least 1.
        score: minimised figures (n, m) expected of architectures.
    """
    seen: dict[Architecture, None] = {}
    near = genes.neighbours(front, effort.neighbours, rng)
    seen.update(dict.fromkeys(genes.architectures(near)))
    seen.update(dict.fromkeys(genes.architectures(genes.random(effort.random, rng))))
    population = np.unique(np.vstack([front, near[: effort.population], genes.scaled(effort.population, rng)]), axis=0)
    values = score(genes.architectures(population))
    for _ in range(effort.generations):
        parents = _tournaments(len(population), 2 * effort.population, rng)
        children = genes.children(
            population[parents[: effort.population]], population[parents[effort.population :]], rng
        )
        bred = genes.architectures(children)
        seen.update(dict.fromkeys(bred))
        population, first = np.unique(np.vstack([population, children]), axis=0, return_index=True)
        values = np.vstack([values, score(bred)])[first]
        best = survivors(values, effort.population)
        population, values = population[best], values[best]
    seen.update(dict.fromkeys(genes.architectures(population)))
    return [a for a in seen if a not in known]


def _tournaments(n: int, winners: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the better (lower) of two rows each, of `n` rows that are sorted from best to worst."""
    better: NDArray[np.int64] = rng.integers(n, size=(winners, 2)).min(axis=1)
    return better
