"""Partitions of dense MLPs into experts, against the MLP itself and against planted clusters."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from supernets.errors import SpaceError
from supernets.experts.expert_weights import ExpertWeights
from supernets.experts.partition import (
    balanced_clusters,
    co_activation,
    partition_by_co_activation,
    partition_by_weights,
    partitioned,
    random_partition,
)
from tests.supernets.experts.random_experts import random_experts


def partitions(mlp: ExpertWeights, experts: int, seed: int) -> dict[str, np.ndarray]:
    x = torch.randn(64, mlp.up.shape[2], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    active = co_activation(mlp.inner(x, functional.silu)[0])
    return {
        "random": random_partition(mlp.hidden, experts, np.random.default_rng(seed)),
        "weights": partition_by_weights(mlp, experts, np.random.default_rng(seed)),
        "co-activation": partition_by_co_activation(active, experts, np.random.default_rng(seed)),
    }


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans(), st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_experts_of_every_partition_add_up_to_the_mlp(
    experts: int, size: int, width: int, gated: bool, biased: bool, seed: int
) -> None:
    mlp = random_experts(1, experts * size, width, gated=gated, biased=biased, seed=seed)
    x = torch.randn(7, width, dtype=torch.float64)
    for name, partition in partitions(mlp, experts, seed).items():
        assert partition.shape == (experts, size), name
        assert sorted(partition.flat) == list(range(mlp.hidden)), name
        outputs = partitioned(mlp, partition).outputs(x, functional.silu)
        torch.testing.assert_close(outputs.sum(0), mlp.outputs(x, functional.silu)[0], rtol=1e-12, atol=1e-12)


def test_partitions_repeat_with_their_seed_and_differ_with_others() -> None:
    mlp = random_experts(1, 24, 5)
    first, again, other = partitions(mlp, 4, 1), partitions(mlp, 4, 1), partitions(mlp, 4, 2)
    for name, partition in first.items():
        np.testing.assert_array_equal(partition, again[name])
    assert not np.array_equal(first["random"], other["random"])


def test_balanced_clusters_are_as_good_as_the_best_of_all() -> None:
    points = np.random.default_rng(0).normal(size=(8, 2))

    def spread(clusters: list[list[int]]) -> float:
        return sum(((points[own] - points[own].mean(0)) ** 2).sum() for own in clusters)

    rest = {half: [i for i in range(8) if i not in half] for half in combinations(range(8), 4)}
    best = min(spread([list(half), others]) for half, others in rest.items())
    found = [spread(balanced_clusters(points, 2, np.random.default_rng(seed)).tolist()) for seed in range(10)]
    assert min(found) == pytest.approx(best)
    assert np.median(found) < np.median([spread([list(half), others]) for half, others in rest.items()])


@pytest.mark.parametrize("seed", range(3))
def test_planted_groups_of_weights_and_of_activity_are_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mlp = random_experts(1, 12, 6, seed=seed)
    planted = rng.permutation(np.repeat(np.arange(3), 4))
    wanted = sorted(np.flatnonzero(planted == group).tolist() for group in range(3))
    directions = torch.eye(6, dtype=torch.float64)[torch.from_numpy(planted)]
    assert mlp.gate is not None
    mlp.gate[0] = directions + 0.01 * mlp.gate[0]
    assert partition_by_weights(mlp, 3, rng).tolist() == wanted

    topics = torch.from_numpy(rng.integers(3, size=200))
    inner = torch.from_numpy(rng.normal(size=(200, 12))) * (topics[:, None] == torch.from_numpy(planted))
    assert partition_by_co_activation(co_activation(inner, share=0.34), 3, rng).tolist() == wanted


def test_co_activation_counts_tokens_with_both_neurons_active() -> None:
    inner = torch.tensor([[3.0, -2.0, 0.1, 0.0], [0.0, 0.0, 0.0, -1.0], [1.0, 0.5, 2.0, 0.1]])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    expected[0][0], expected[0][2], expected[2][0] = 2, 1, 1
    np.testing.assert_array_equal(co_activation(inner, share=0.5), expected)


def test_copies_of_one_point_are_divided_evenly() -> None:
    assert balanced_clusters(np.ones((6, 2)), 3, np.random.default_rng(0)).shape == (3, 2)


def test_experts_that_do_not_divide_the_neurons_are_rejected_with_ones_that_do() -> None:
    with pytest.raises(SpaceError, match="5 experts do not divide 24 neurons into equal parts; choose 4 or 6") as error:
        random_partition(24, 5, np.random.default_rng(0))
    assert error.value.code == "experts.invalid"
    with pytest.raises(SpaceError, match="0 experts do not divide"):
        partition_by_weights(random_experts(1, 24, 5), 0, np.random.default_rng(0))
    with pytest.raises(SpaceError, match="each of them once"):
        partitioned(random_experts(1, 4, 5), np.array([[0, 1], [1, 2]]))


def test_tensors_of_other_shapes_are_rejected() -> None:
    with pytest.raises(SpaceError, match=r"down of experts has the shape \(1, 4, 5\); expected \(1, 4, 4\)"):
        ExpertWeights(torch.zeros(1, 4, 5), torch.zeros(1, 4, 5))
