"""The first architectures of a guided search: far from each other, and from small to large."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from nas.search.genes import GeneRows
from nas.search.sampling import draw_unknown
from supernets.space import Architecture, SearchSpace

POOL = 30
"""Random candidates for each pick."""


def spread_out(
    space: SearchSpace, known: Collection[Architecture], near: Sequence[Architecture], n: int, rng: np.random.Generator
) -> list[Architecture]:
    """Up to `n` unknown architectures, each the farthest by Hamming distance from `near` and from those before it.

    Half of the candidates are uniform, half spread over sizes: uniform genes alone give middle-sized networks in a
    space of many choices. Fewer come back only when the space has no more.
    """
    genes = GeneRows(space)
    pool = [
        a
        for a in dict.fromkeys(
            genes.architectures(np.vstack([genes.random(n * POOL, rng), genes.scaled(n * POOL, rng)]))
        )
        if a not in known
    ]
    rows = genes.of(pool)
    distance = np.full(len(pool), len(space))
    for other in genes.of(near):
        distance = np.minimum(distance, (rows != other).sum(axis=1))
    picked: list[Architecture] = []
    while len(picked) < min(n, len(pool)):
        best = int(np.argmax(distance))
        picked.append(pool[best])
        distance = np.minimum(distance, (rows != rows[best]).sum(axis=1))
        distance[best] = -1
    return picked + draw_unknown(space, {*known, *picked}, n - len(picked), rng)
