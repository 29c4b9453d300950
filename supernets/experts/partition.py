"""A dense MLP divided into experts: partitions of its neurons into experts of equal size, whose outputs add up to those of the
MLP, and the router of these in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.experts.expert_weights import ExpertWeights, invalid_experts

ROUNDS = 20
"""Maximum number of rounds of balanced k-means; it usually stops earlier, where no point moves."""
ACTIVE_SHARE = 0.25
"""Share of an MLP's neurons that count as active for a token."""
RIDGE = 1e-3
"""Added to the second moments of a router's inputs, as a share of their mean."""
_TOGETHER = 1024
"""Tokens whose outputs of all experts are held at once."""


def random_partition(hidden: int, experts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Neurons of each expert drawn at random, (experts, hidden / experts): the baseline of the other partitions.

    Raises:
        SpaceError: the experts do not divide the neurons.
    """
    return _ordered(rng.permutation(hidden).reshape(experts, _size(hidden, experts)))


def partition_by_weights(mlp: ExpertWeights, experts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Neurons of each expert of similar directions of input weights, (experts, hidden / experts).

    Balanced k-means of the rows, scaled to length one, that decide whether a neuron is active: of the gate, or of the plain
    MLP's first layer (Zhang et al. 2022, MoEfication, arXiv 2110.01786; LLaMA-MoE, arXiv 2406.16554).

    Args:
        mlp: one expert.

    Raises:
        SpaceError: the experts do not divide the neurons.
    """
    rows = (mlp.up if mlp.gate is None else mlp.gate)[0].detach().double()
    return balanced_clusters(torch.nn.functional.normalize(rows, dim=1).numpy(), experts, rng)


def partition_by_co_activation(
    co_activation: NDArray[np.float64], experts: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Neurons of each expert that are active for the same tokens, (experts, hidden / experts).

    Cuts the graph whose edges are co-activations into equal parts, so that the edges within parts have the most weight
    (Zhang et al. 2022, MoEfication, arXiv 2110.01786). For parts of equal size this is balanced k-means of the neurons'
    activity over tokens, whose inner products are the co-activations; departure: METIS, which they use, allows other sizes.

    Args:
        co_activation: (hidden, hidden), positive semidefinite, as of `co_activation`.

    Raises:
        SpaceError: the experts do not divide the neurons.
    """
    values, vectors = np.linalg.eigh(co_activation)
    return balanced_clusters(vectors * np.sqrt(values.clip(min=0)), experts, rng)


def co_activation(inner: Tensor, share: float = ACTIVE_SHARE) -> NDArray[np.float64]:
    """The number of tokens for which both of two neurons are active, (hidden, hidden); it may be summed over batches.

    The neurons of a ReLU are active where they are not 0. Those of smooth activations never are; here a token's are the ones
    of the largest magnitude.

    Args:
        inner: The inputs of the MLP's last layer, (tokens, hidden).
        share: Share of all neurons that are active for a token.
    """
    active = torch.zeros(inner.shape, dtype=torch.float64)
    largest = inner.detach().abs().topk(max(1, round(share * inner.shape[1])), dim=1).indices
    active.scatter_(1, largest, 1.0)
    active[inner == 0] = 0.0
    return np.asarray((active.T @ active).numpy())


def partitioned(mlp: ExpertWeights, partition: NDArray[np.int64]) -> ExpertWeights:
    """The experts of a partition; their outputs add up to those of the MLP.

    Each has an equal part of the last bias, as in Dynamic-DINO (arXiv 2507.17436), so that all together have it once.

    Args:
        mlp: one expert.
        partition: (experts, size), each neuron once.

    Raises:
        SpaceError: it is no partition of the MLP's neurons.
    """
    if not np.array_equal(np.sort(partition, axis=None), np.arange(mlp.hidden)):
        raise invalid_experts(
            f"a partition of {mlp.hidden} neurons has each of them once; got {partition.size} numbers"
        )
    n = len(partition)
    bias = None if mlp.down_bias is None else mlp.down_bias.expand(n, -1) / n
    return mlp.regrouped(torch.from_numpy(partition), bias)


def balanced_clusters(
    points: NDArray[np.float64], n: int, rng: np.random.Generator, *, rounds: int = ROUNDS
) -> NDArray[np.int64]:
    """Clusters of equal size of points (m, d), (n, m / n): balanced k-means (Malinen and Fränti 2014).

    Each round assigns the points at the least sum of squared distances to the clusters' means, which the Hungarian method
    finds exactly. Seeds are those of k-means++. Members of a cluster ascend, and so do the clusters' first members.

    Raises:
        SpaceError: the clusters do not divide the points.
    """
    size = _size(len(points), n)
    centres, assignment = points[_seeds(points, n, rng)], np.full(len(points), -1)
    for _ in range(rounds):
        costs = scipy.spatial.distance.cdist(points, centres, "sqeuclidean")
        new_assignment = scipy.optimize.linear_sum_assignment(np.repeat(costs, size, axis=1))[1] // size
        if np.array_equal(new_assignment, assignment):
            break
        assignment = new_assignment
        centres = points[np.argsort(assignment, kind="stable")].reshape(n, size, -1).mean(axis=1)
    return _ordered(np.argsort(assignment, kind="stable").reshape(n, size))


def _seeds(points: NDArray[np.float64], n: int, rng: np.random.Generator) -> list[int]:
    """Different points, each drawn in proportion to the squared distance to those before it."""
    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < n:
        distances = scipy.spatial.distance.cdist(points, points[chosen], "sqeuclidean").min(axis=1)
        distances[chosen] = 0.0
        if not distances.any():  # all others are copies
            distances[:] = 1.0
            distances[chosen] = 0.0
        chosen.append(int(rng.choice(len(points), p=distances / distances.sum())))
    return chosen


def _ordered(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    members = np.sort(clusters, axis=1)
    return np.asarray(members[np.argsort(members[:, 0])])


def _size(hidden: int, experts: int) -> int:
    if not 1 <= experts <= hidden or hidden % experts:
        near = [n for n in range(1, hidden + 1) if hidden % n == 0]
        best = sorted(sorted(near, key=lambda n: abs(n - experts))[:2])
        raise invalid_experts(
            f"{experts} experts do not divide {hidden} neurons into equal parts; choose {' or '.join(map(str, best))}"
        )
    return hidden // experts


class RouterFit:
    """The least-squares fit of a router to the norms of experts' outputs, over batches of tokens.

    The experts that add most to a token's output are those with the largest predictions. MoEfication (Zhang et al. 2022,
    arXiv 2110.01786) predicts the same choice by a trained MLP of two layers; here it is one linear layer, as routers are.

    Args:
        experts: Experts of a partition, (n, ...).
        activation: Activation of their neurons.
    """

    def __init__(self, experts: ExpertWeights, activation: Callable[[Tensor], Tensor]) -> None:
        self._experts, self._activation = experts, activation
        width = experts.up.shape[2]
        self._moments = torch.zeros(width + 1, width + 1, dtype=torch.float64)
        self._mixed = torch.zeros(width + 1, len(experts), dtype=torch.float64)

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Adds tokens (tokens, width), as the MLP reads them."""
        for tokens in x.split(_TOGETHER):
            norms = self._experts.outputs(tokens, self._activation).norm(dim=-1).T.double()
            inputs = torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1).double()
            self._moments += inputs.T @ inputs
            self._mixed += inputs.T @ norms

    def solve(self, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
        """The router's weight (n, width) and bias (n,) that are best for the tokens added."""
        moments = self._moments.clone()
        diagonal = moments.diagonal()[:-1]  # not that of the bias
        diagonal += ridge * diagonal.mean() + torch.finfo(torch.float64).tiny
        solution = torch.linalg.solve(moments, self._mixed).T.to(self._experts.up)
        return solution[:, :-1], solution[:, -1]
