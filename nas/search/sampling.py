"""Random architectures that are unknown to a search."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from supernets.space import Architecture, SearchSpace

ENUMERABLE = 50_000
"""Spaces up to this size are listed when random draws no longer find an unknown architecture."""
_TRIES_SMALL = 30
_TRIES_LARGE = 2_000
"""Draws for each architecture requested, at most: if all of them are known, nearly the whole space is."""


def draw_unknown(
    space: SearchSpace, known: Collection[Architecture], n: int, rng: np.random.Generator
) -> list[Architecture]:
    """Up to `n` different architectures outside `known`, each a `SearchSpace.sample`.

    Fewer than `n` come back only when the space has no more. Draws are bounded: after them, the rest of a small space is
    listed and sampled evenly. (In a space above `ENUMERABLE`, nearly all of which is known, fewer can come back too.)

    Args:
        known: a set or a mapping; every draw is looked up in it.
    """
    found: dict[Architecture, None] = {}
    tries = n * (_TRIES_SMALL if space.size <= ENUMERABLE else _TRIES_LARGE)
    while len(found) < n and tries > 0:
        tries -= 1
        drawn = space.sample(rng)
        if drawn not in known:
            found.setdefault(drawn)
    if len(found) < n and space.size <= ENUMERABLE:
        rest = [a for a in space.enumerate() if a not in known and a not in found]
        picks = rng.choice(len(rest), size=min(n - len(found), len(rest)), replace=False)
        found.update((rest[i], None) for i in picks)
    return list(found)
