"""Merged experts, against experts whose copies are known."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from supernets.errors import SpaceError
from supernets.experts.expert_weights import ExpertWeights, stacked
from supernets.experts.merging import (
    aligned,
    aligned_in_turn,
    grouped_by_similarity,
    merging_weights,
    nested_groups,
)
from tests.supernets.experts.random_experts import random_experts

X = torch.randn(9, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def shuffled(experts: ExpertWeights, seed: int) -> ExpertWeights:
    """The same experts with their neurons in other orders."""
    rng = np.random.default_rng(seed)
    orders = np.stack([i * experts.hidden + rng.permutation(experts.hidden) for i in range(len(experts))])
    return experts.regrouped(torch.from_numpy(orders), experts.down_bias)


def assert_same(one: ExpertWeights, other: ExpertWeights) -> None:
    for name, tensor in vars(one).items():
        torch.testing.assert_close(tensor, getattr(other, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gated", [True, False])
def test_merging_an_expert_with_reordered_copies_changes_nothing(gated: bool) -> None:
    one = random_experts(1, 16, 5, gated=gated)
    copies = stacked([one, shuffled(one, 1), shuffled(one, 2)])
    usage = np.array([3.0, 1.0, 2.0])
    weights = merging_weights(np.zeros(3, np.int64), usage)
    # The second joins the third, which has another order until it is aligned to the first.
    assert_same(aligned_in_turn(copies, np.array([0, 2, 0]), usage).mixed(weights), one)
    without = copies.mixed(weights)
    difference = without.outputs(X, functional.silu) - one.outputs(X, functional.silu)
    assert difference.abs().max() > 0.1, "averaged without alignment, the copies are another expert"


def test_alignment_keeps_outputs_and_brings_neurons_nearer() -> None:
    experts = random_experts(3, 12, 5)
    reference = experts.chosen(torch.tensor([1]))
    found = aligned(experts, reference)
    torch.testing.assert_close(found.outputs(X, functional.silu), experts.outputs(X, functional.silu))
    assert_same(found.chosen(torch.tensor([1])), reference)
    before, after = (((own.neurons - reference.neurons) ** 2).sum((1, 2)) for own in (experts, found))
    assert after[0] < before[0]
    assert after[2] < before[2]


def test_groups_are_merged_with_means_weighted_by_usage() -> None:
    experts = random_experts(4, 3, 5)
    weights = merging_weights(np.array([1, 0, 1, 1]), np.array([1.0, 9.0, 3.0, 0.0]))
    assert weights.tolist() == [[0.0, 1.0, 0.0, 0.0], [0.25, 0.0, 0.75, 0.0]]
    found = experts.mixed(weights)
    assert_same(found.chosen(torch.tensor([0])), experts.chosen(torch.tensor([1])))
    torch.testing.assert_close(found.up[1], 0.25 * experts.up[0] + 0.75 * experts.up[2])


def test_a_group_without_any_use_is_merged_evenly() -> None:
    assert merging_weights(np.array([0, 1, 1]), np.array([2.0, 0.0, 0.0])).tolist() == [[1, 0, 0], [0, 0.5, 0.5]]


def test_experts_join_the_most_similar_of_the_most_used() -> None:
    features = np.array([[1.0, 0.1], [0.0, 1.0], [2.0, 0.0], [0.1, 3.0], [0.0, 0.0]])
    usage = np.array([0.1, 0.3, 0.4, 0.1, 0.1])
    assert grouped_by_similarity(features, usage, 2).tolist() == [0, 1, 0, 1, 0]
    # The most used experts lead their groups, whatever their numbers and however alike they are.
    assert grouped_by_similarity(np.ones((3, 2)), np.array([0.1, 0.5, 0.4]), 2).tolist() == [0, 0, 1]
    with pytest.raises(SpaceError, match="6 groups of 5 experts; expected 1 to 5"):
        grouped_by_similarity(features, usage, 6)


def test_groups_of_a_smaller_number_are_unions_of_groups_of_a_larger_one() -> None:
    rng = np.random.default_rng(0)
    features, usage = rng.normal(size=(9, 4)), rng.permutation(9) / 36
    found = nested_groups(features, usage, [2, 6, 4])
    by_use, before = np.argsort(-usage), np.arange(9)
    for n in (6, 4, 2):
        groups = found.groups[n]
        assert groups[by_use[:n]].tolist() == list(range(n)), "the most used lead, in their order"
        assert all(len(set(groups[before == group])) == 1 for group in before)
        before = groups
    first = grouped_by_similarity(features, usage, 6)
    assert found.groups[6].tolist() == first.tolist()
    for i in by_use[6:]:  # which lead no group of any number
        assert found.joins[i] == by_use[first[i]]
    for i in by_use[2:6]:
        assert np.flatnonzero(by_use == found.joins[i])[0] < (4 if i in by_use[4:] else 2)
    assert found.joins[by_use[:2]].tolist() == by_use[:2].tolist()
