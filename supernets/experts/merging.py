"""Fewer experts in place of those of a layer: merged ones, and the rows of the router for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.experts.expert_weights import ExpertWeights, invalid_experts, stacked


def grouped_by_similarity(features: NDArray[np.float64], usage: NDArray[np.float64], groups: int) -> NDArray[np.int64]:
    """The group of each expert, (n,): group i is of the expert of the i-th largest usage, and the others join the most similar.

    Similarity is the cosine of features: of the router's logits over tokens (MC-SMoE, arXiv 2310.01334), of the experts'
    outputs, or of their weights (UNCURL, arXiv 2409.01483).

    Args:
        features: (n, d).
        usage: (n,).

    Raises:
        SpaceError: there are fewer experts than groups, or no group.
    """
    if not 1 <= groups <= len(usage):
        raise invalid_experts(f"{groups} groups of {len(usage)} experts; expected 1 to {len(usage)}")
    dominant = np.argsort(-usage, kind="stable")[:groups]
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(float).tiny)
    group_of_expert = (unit @ unit[dominant].T).argmax(axis=1)
    group_of_expert[dominant] = np.arange(groups)
    return np.asarray(group_of_expert)


def aligned(experts: ExpertWeights, reference: ExpertWeights) -> ExpertWeights:
    """Experts whose neurons are reordered so that each is most like the neuron of one expert at its place.

    The order of an expert's neurons changes no output. The best one has the largest sum of inner products of matched neurons'
    weights (Li et al. 2024, arXiv 2310.01334), which the Hungarian method finds.

    Args:
        reference: one expert.
    """
    neurons, reference_neurons = experts.neurons.detach().double(), reference.neurons[0].detach().double()
    orders = [
        scipy.optimize.linear_sum_assignment((reference_neurons @ expert_neurons.T).numpy(), maximize=True)[1]
        for expert_neurons in neurons
    ]
    numbers = torch.from_numpy(np.stack(orders)) + experts.hidden * torch.arange(len(experts))[:, None]
    return experts.regrouped(numbers, experts.down_bias)


class NestedGroups(NamedTuple):
    """Groups of experts for several numbers of groups; those of a smaller number are unions of those of a larger one.

    Attributes:
        joins: (n,), the expert that each one is merged into first; itself for those that lead the groups of every number.
        groups: The group of each expert, (n,), by the number of groups; see `grouped_by_similarity`.
    """

    joins: NDArray[np.int64]
    groups: Mapping[int, NDArray[np.int64]]


def nested_groups(features: NDArray[np.float64], usage: NDArray[np.float64], numbers: Collection[int]) -> NestedGroups:
    """Groups in which the experts that lead no more join the most similar of those that still do, with their members.

    Departure from MC-SMoE (arXiv 2310.01334), whose groups are of one number.

    Args:
        features: (n, d), as of `grouped_by_similarity`.
        usage: (n,).

    Raises:
        SpaceError: as `grouped_by_similarity`.
    """
    by_use = np.argsort(-usage, kind="stable")
    joins, groups = np.arange(len(usage), dtype=np.int64), dict[int, NDArray[np.int64]]()
    group_of_expert: NDArray[np.int64] = np.argsort(by_use).astype(np.int64)
    for leaders, n in pairwise([len(usage), *sorted(numbers, reverse=True)]):
        first = by_use[:leaders]
        group_of_leader = grouped_by_similarity(features[first], usage[first], n)
        joins[first[n:]] = by_use[group_of_leader[n:]]
        group_of_expert = groups[n] = group_of_leader[group_of_expert]
    return NestedGroups(joins, groups)


def aligned_in_turn(experts: ExpertWeights, joins: NDArray[np.int64], usage: NDArray[np.float64]) -> ExpertWeights:
    """Experts, each `aligned` to the one that it joins after that one is; the most used first.

    Args:
        joins: (n,), as of `nested_groups`: each joins itself or one that is used more.
        usage: (n,).
    """
    aligned_experts = [experts.chosen(torch.tensor([i])) for i in range(len(experts))]
    for i in np.argsort(-usage, kind="stable"):
        if joins[i] != i:
            aligned_experts[i] = aligned(aligned_experts[i], aligned_experts[joins[i]])
    return stacked(aligned_experts)


def merging_weights(groups: NDArray[np.int64], usage: NDArray[np.float64]) -> Tensor:
    """The factors of experts, and of the rows of their router, in the mean of each group, weighted by usage: (groups, n).

    Each row adds up to 1; members of a group that is never used have equal factors. Departure from MC-SMoE (arXiv 2310.01334),
    which keeps all rows of the router and lets several lead to one expert: there are as many rows as experts.

    Args:
        groups: (n,), the group of each expert, from 0 without gaps.
        usage: (n,).
    """
    members = (groups == np.arange(groups.max() + 1)[:, None]).astype(np.float64)
    used = members * usage
    rows = np.where(used.any(axis=1, keepdims=True), used, members)
    return torch.from_numpy(rows / rows.sum(axis=1, keepdims=True))
