"""Matrices of several experts as factors of low rank on a base that they share."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.experts.expert_weights import invalid_experts


def common_factors(weights: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors A_i (n, rows, rank) and B (rank, columns) for which the squared error of all A_i B is least.

    B has the first right singular vectors of the matrices stacked (MoLAE, Liu et al. 2025, arXiv 2503.23100): the error is the
    sum of the other singular values' squares, and a smaller rank is a prefix of a larger one.

    Args:
        weights: (n, rows, columns).

    Raises:
        SpaceError: the rank is below 1 or above the number of columns.
    """
    if not 1 <= rank <= weights.shape[2]:
        raise invalid_experts(f"experts of rank {rank}; expected 1 to {weights.shape[2]}")
    stack = weights.detach().flatten(0, 1).double()
    # By second moments, as the stack may have many more rows than columns; eigenvalues ascend.
    base = torch.linalg.eigh(stack.T @ stack).eigenvectors.flip(1)[:, :rank].T.to(weights)
    return weights @ base.T, base
