"""Candidates of guided searches: how near the evolution over predictions comes to what is best by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.search.genes import GeneRows
from nas.search.guided.candidates import Effort, candidates
from supernets.space import Architecture, Choice, SearchSpace

CHOICES, OPTIONS = 40, 4


def test_the_evolution_of_a_large_space_comes_near_to_what_is_best_by_the_predictions() -> None:
    """Each choice has a price and a gain; the best networks of a sum of both are known for each weight."""
    space = SearchSpace([Choice(f"c{i}", tuple(range(OPTIONS))) for i in range(CHOICES)])
    rng = np.random.default_rng(0)
    prices, losses = (np.cumsum(rng.exponential(size=(CHOICES, OPTIONS)), axis=1) for _ in range(2))
    losses = losses[:, ::-1]  # the larger an option, the dearer and the better it is

    def score(networks: list[Architecture]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        genes = np.array([a.genes for a in networks])
        values = [table[np.arange(CHOICES), genes].sum(axis=1) for table in (prices, losses)]
        return np.stack(values, axis=1), np.zeros(len(networks))

    def excess(effort: Effort) -> float:
        """How far the best candidates are above the best networks, the mean over weights."""
        genes = GeneRows(space)
        first = np.vstack([genes.rows([space.smallest, space.largest])])
        found = candidates(genes, set(), first, score, 2, np.random.default_rng(1), effort).architectures
        values, _ = score(found)
        weights = np.linspace(0.2, 0.8, 7)
        best = [(w * prices + (1 - w) * losses).min(axis=1).sum() for w in weights]
        reached = [(values @ [w, 1 - w]).min() for w in weights]
        return float(np.mean(np.array(reached) / np.array(best) - 1))

    assert excess(Effort()) < 0.5 * excess(Effort(generations=15))
