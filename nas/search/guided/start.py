"""The initial design of a guided search: architectures far from each other, from small to large."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from nas.search.genes import GeneRows
from nas.search.sampling import draw_unknown
from supernets.space import Architecture, SearchSpace

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
