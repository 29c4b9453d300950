"""Features of architectures for models of a search."""

from __future__ import annotations

import numpy as np

from nas.search.guided.models import GeneFeatures
from supernets.space import Architecture, Choice, SearchSpace


def test_genes_numbers_and_counts_of_like_choices() -> None:
    """One-hot genes, then numbers on their scale, then the share of each option over choices with equal options."""
    space = SearchSpace(
        [Choice("a_depth", (1, 2, 4)), Choice("block_0", ("conv", "skip")), Choice("block_1", ("conv", "skip"))]
    )
    features = GeneFeatures(space)
    found = features.rows([Architecture((0, 1, 1)), Architecture((2, 0, 1))])
    root = np.sqrt(2)
    np.testing.assert_allclose(
        found,
        [
            [1, 0, 0, 0, 1, 0, 1, 1 / 3, 0 / root, 2 / root],
            [0, 0, 1, 1, 0, 0, 1, 1.0, 1 / root, 1 / root],
        ],
    )
    assert features.groups.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4, 5]
    assert features.options.tolist() == [-1, -1, -1, 0, 1, 0, 1, -1, -1, -1]
    assert features.counts.tolist() == [8, 9]


def test_equal_networks_have_equal_features_in_whatever_order_the_choices_are_listed() -> None:
    choices = [Choice("stage_10", (3, 5)), Choice("stage_2", (3, 5)), Choice("width", (8, 16, 32))]
    listed, turned = GeneFeatures(SearchSpace(choices)), GeneFeatures(SearchSpace(choices[::-1]))
    genes = (1, 0, 2)
    assert (listed.rows([Architecture(genes)]) == turned.rows([Architecture(genes[::-1])])).all()
