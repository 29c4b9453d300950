"""Routers of experts of a dense MLP, in closed form: a linear layer that predicts how much each expert adds to the output."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from supernets.experts.expert_weights import ExpertWeights

RIDGE = 1e-3
"""Added to the second moments of a router's inputs, as a share of their mean."""
_TOGETHER = 1024
"""Tokens whose outputs of all experts are held at once."""


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
