"""Tests of the features that a table's genes offer."""

from __future__ import annotations

import numpy as np
import pytest

from nas.runs.bench.table_features import TableFeatures
from supernets.space import Choice, SearchSpace

STAGED = SearchSpace(
    [
        Choice("resolution", (128, 160, 192)),
        Choice("depth_1", (1, 2)),
        Choice("depth_2", (1, 2)),
        Choice("kernel_1_1", (3, 5)),
        Choice("kernel_1_2", (3, 5), ("depth_1", 1)),
        Choice("kernel_2_1", (3, 5)),
        Choice("kernel_2_2", (3, 5), ("depth_2", 1)),
        Choice("expand_1_1", (3, 6)),
        Choice("expand_1_2", (3, 6), ("depth_1", 1)),
        Choice("expand_2_1", (3, 6)),
        Choice("expand_2_2", (3, 6), ("depth_2", 1)),
    ]
)
OPERATORS = SearchSpace([Choice(f"edge_{i}", ("none", "conv", "pool")) for i in range(1, 4)])
AVERAGES = SearchSpace(
    [Choice("encoder_dim", (512, 640)), Choice("encoder_layers", (3, 6)), Choice("encoder_ffn", (1024.0, 1536.5))]
)


def has_column(features: np.ndarray, expected: list[float]) -> bool:
    return any(np.allclose(column, expected) for column in features.T)


def test_sums_counts_and_products_of_families_leave_inactive_genes_out() -> None:
    deep = STAGED.largest
    shallow = STAGED.canonical([1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0])
    assert STAGED.values(shallow) == {
        "resolution": 160, "depth_1": 1, "depth_2": 2, "kernel_1_1": 5, "kernel_2_1": 3, "kernel_2_2": 5,
        "expand_1_1": 6, "expand_2_1": 6, "expand_2_2": 3,
    }  # fmt: skip
    found = TableFeatures(STAGED, numeric=False)([deep, shallow])
    assert has_column(found, [20, 13])  # kernels
    assert has_column(found, [4, 3])  # layers
    assert has_column(found, [10, 5])  # kernels of stage 1
    assert has_column(found, [4, 2])  # kernels of size 5
    assert has_column(found, [120, 5 * 6 + 3 * 6 + 5 * 3])  # kernel x expand, layer by layer
    assert has_column(found, [60, 30])  # the same within stage 1
    assert has_column(found, [192**2 * 20, 160**2 * 13])  # area x kernels
    assert not has_column(found, [5 * 5 + 5 * 5, 5 * 3])  # kernels of one stage are not multiplied with another's


def test_operators_are_counted_not_added() -> None:
    features = TableFeatures(OPERATORS, numeric=False)
    found = features([OPERATORS.canonical(genes) for genes in ([0, 0, 0], [1, 2, 1], [2, 2, 1])])
    n_aggregates = len(features.layout().aggregates)
    np.testing.assert_array_equal(found[:, :n_aggregates], [[3, 3, 0, 0], [3, 0, 2, 1], [3, 0, 1, 2]])
    np.testing.assert_array_equal(
        found[:, n_aggregates:], OPERATORS.encode([OPERATORS.canonical(g) for g in ([0] * 3, [1, 2, 1], [2, 2, 1])])
    )


def test_averages_are_multiplied_and_not_one_hot() -> None:
    features = TableFeatures(AVERAGES, numeric=True)
    a, b = AVERAGES.smallest, AVERAGES.largest
    found = features([a, b])
    assert has_column(found, [512 * 3, 640 * 6])
    assert has_column(found, [512 * 3 * 1024, 640 * 6 * 1536.5])
    np.testing.assert_array_equal(found[:, -3:], [[512, 3, 1024], [640, 6, 1536.5]])
    assert features.layout().groups[-3:] == (0, 1, 2)
    np.testing.assert_array_equal(features.plain([a, b]), found[:, -3:])
    np.testing.assert_array_equal(features.raw([a, b]), found[:, -3:])


@pytest.mark.parametrize(
    ("space", "numeric"),
    [(STAGED, False), (STAGED, True), (OPERATORS, False), (AVERAGES, False), (AVERAGES, True)],
)
def test_the_layout_fits_the_columns(space: SearchSpace, numeric: bool) -> None:
    features = TableFeatures(space, numeric=numeric)
    rng = np.random.default_rng(0)
    found = features([space.sample(rng) for _ in range(5)])
    layout = features.layout()
    layout.check(found.shape[1])
    assert np.isfinite(found).all()
    assert all(layout.groups[i] == -1 for i in layout.aggregates)
    assert all(layout.groups[i] >= 0 for i in layout.encoding(found.shape[1]))
    assert features([]).shape == (0, found.shape[1])


def test_one_hot_columns_of_a_gene_share_a_group() -> None:
    features = TableFeatures(OPERATORS, numeric=False)
    assert features.layout().groups == (-1,) * 4 + (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5)
    one = [OPERATORS.canonical([0, 1, 2])]
    np.testing.assert_array_equal(features.plain(one), [[1, 0, 0, 0, 1, 0, 0, 0, 1]])
    np.testing.assert_array_equal(features.raw(one), [[0, 1, 2]])


def test_names_decide_nothing_but_families() -> None:
    """A renamed space has the same features: no table is known by name."""
    renamed = SearchSpace([Choice(c.name.replace("edge", "x"), c.options) for c in OPERATORS.choices])
    one = [OPERATORS.canonical([0, 1, 2])]
    np.testing.assert_array_equal(
        TableFeatures(renamed, numeric=False)(one), TableFeatures(OPERATORS, numeric=False)(one)
    )
