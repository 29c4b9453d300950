"""Candidates of a guided search: the initial design, an evolution over predictions, and relatives of measured networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.problem.pareto import Array
from nas.search.genes import GeneRows, Rows
from nas.search.history import draw_unknown
from nas.search.ranking import survivors
from supernets.space import Architecture, SearchSpace

_LITTERS = 30
"""Litters that `relatives` breeds, at most: in a small space nearly every child is known in the end."""
POOL = 30
"""Random candidates per architecture."""


def spread_out(
    space: SearchSpace, known: Collection[Architecture], near: Sequence[Architecture], n: int, rng: np.random.Generator
) -> list[Architecture]:
    """Up to `n` unknown architectures, each the farthest by Hamming distance from `near` and from those before it.

    Half of the candidates are uniform, half spread over sizes: uniform genes alone give middle-sized networks in a
    space of many choices. Fewer come back only when the space has no more.
    """
    genes = GeneRows(space)
    rows = np.vstack([genes.random(n * POOL, rng), genes.scaled(n * POOL, rng)])
    pool = [a for a in dict.fromkeys(genes.architectures(rows)) if a not in known]
    rows = genes.of(pool)
    distance = np.full(len(pool), len(space))
    for other in genes.of(near):
        distance = np.minimum(distance, (rows != other).sum(axis=1))
    chosen: list[Architecture] = []
    while len(chosen) < min(n, len(pool)):
        best = int(np.argmax(distance))
        chosen.append(pool[best])
        distance = np.minimum(distance, (rows != rows[best]).sum(axis=1))
        distance[best] = -1
    return chosen + draw_unknown(space, {*known, *chosen}, n - len(chosen), rng)


@dataclass(frozen=True, slots=True)
class Effort:
    """The numbers of candidates; predicting them is the cost of an ask."""

    population: int = 80
    generations: int = 15
    neighbours: int = 400
    random: int = 200
    relatives: int = 150


def candidates(
    genes: GeneRows,
    known: Collection[Architecture],
    front: Rows,
    score: Callable[[list[Architecture]], tuple[Array, Array]],
    rng: np.random.Generator,
    effort: Effort,
) -> list[Architecture]:
    """Different architectures outside `known`, in a fixed order; none when everything found is known.

    The inner evolution breeds by uniform crossover and by redrawing 1 gene in n. Its survivors may be known, which are
    good parents, but only unknown architectures are candidates.

    Args:
        front: genes of the best architectures measured, (f, n_choices), f at least 1.
        score: predicts minimised values (n, m) and violations (n,) of architectures.
    """
    seen: dict[Architecture, None] = {}
    near = genes.neighbours(front, effort.neighbours, rng)
    seen.update(dict.fromkeys(genes.architectures(near)))
    seen.update(dict.fromkeys(genes.architectures(genes.random(effort.random, rng))))
    population = np.unique(np.vstack([front, near[: effort.population], genes.scaled(effort.population, rng)]), axis=0)
    values, broken = score(genes.architectures(population))
    for _ in range(effort.generations):
        parents = population[_tournaments(len(population), 2 * effort.population, rng)]
        children = genes.children(parents[: effort.population], parents[effort.population :], rng)
        bred = genes.architectures(children)
        seen.update(dict.fromkeys(bred))
        population, first = np.unique(np.vstack([population, children]), axis=0, return_index=True)
        bred_values, bred_broken = score(bred)
        values, broken = np.vstack([values, bred_values])[first], np.concatenate([broken, bred_broken])[first]
        best = survivors(values, effort.population, broken)
        population, values, broken = population[best], values[best], broken[best]
    seen.update(dict.fromkeys(genes.architectures(population)))
    return [a for a in seen if a not in known]


def relatives(
    genes: GeneRows, known: Collection[Architecture], parents: Rows, n: int, rng: np.random.Generator
) -> list[Architecture]:
    """Up to `n` different unknown children of measured architectures, in the order bred.

    The inner evolution exploits the errors of the models; children of architectures with good measurements stay near the
    data. On NAS-Bench-201, half of a batch from these few candidates needed fewer evaluations than every way of taking
    all from the optimum of the models.

    Args:
        parents: genes, the best first, (p, n_choices), p at least 1.
    """
    found: dict[Architecture, None] = {}
    for _ in range(_LITTERS):
        pairs = parents[_tournaments(len(parents), 2 * n, rng)]
        children = genes.children(pairs[:n], pairs[n:], rng)
        found.update(dict.fromkeys(a for a in genes.architectures(children) if a not in known))
        if len(found) >= n:
            break
    return list(found)[:n]


def _tournaments(n: int, winners: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the better (lower) of two rows each, of `n` rows that are sorted from best to worst."""
    return np.asarray(rng.integers(n, size=(winners, 2)).min(axis=1))
