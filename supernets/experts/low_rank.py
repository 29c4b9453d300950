"""Experts as factors of low rank on a base that all experts of a layer share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.experts.expert_weights import ExpertWeights, invalid_experts
from supernets.experts.merging import aligned, usage_weights


def common_factors(weights: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors A_i (n, rows, rank) and B (rank, columns) for which the squared error of all A_i B is least.

    B has the first right singular vectors of the matrices stacked (MoLAE, Liu et al. 2025, arXiv 2503.23100): the error is the
    sum of the other singular values' squares, and a smaller rank is a prefix of a larger one.

    Args:
        weights: (n, rows, columns).

    Raises:
        SpaceError: the rank is below 1 or above the number of columns.
    """
    _check_rank(rank, weights.shape[2])
    stack = weights.detach().flatten(0, 1).double()
    # By second moments, as the stack may have many more rows than columns; eigenvalues ascend.
    base = torch.linalg.eigh(stack.T @ stack).eigenvectors.flip(1)[:, :rank].T.to(weights)
    return weights @ base.T, base


def with_common_base(experts: ExpertWeights, rank: int) -> ExpertWeights:
    """Experts whose first layers are `common_factors`, multiplied out; the last layers stay, as in MoLAE."""
    layers = {name: own for name in ("up", "gate") if (own := getattr(experts, name)) is not None}
    return replace(experts, **{name: torch.matmul(*common_factors(own, rank)) for name, own in layers.items()})


def common_base_parameters(experts: ExpertWeights, rank: int) -> int:
    """Parameters of `with_common_base` as factors."""
    n, hidden, width = experts.up.shape
    saved = n * hidden * width - rank * (n * hidden + width)
    return experts.n_parameters - saved * (1 if experts.gate is None else 2)


def with_low_rank_residuals(experts: ExpertWeights, rank: int, usage: NDArray[np.float64]) -> ExpertWeights:
    """Experts that are their common mean and residuals of low rank, multiplied out.

    The mean is weighted by usage, after alignment to the most used (D2-MoE, arXiv 2502.17298, with the mean of MC-SMoE). A
    residual is the truncated singular value decomposition of what is left of an expert's matrix. Biases stay.

    Args:
        rank: of each residual, from 0.
    """
    weights = usage_weights(usage)
    own = aligned(experts, experts.chosen(torch.tensor([int(weights.argmax())])))
    mean = own.mean(weights)
    matrices = {name: getattr(own, name) for name in ("up", "down", "gate") if getattr(own, name) is not None}
    found = {name: getattr(mean, name) + _truncated(own - getattr(mean, name), rank) for name, own in matrices.items()}
    return replace(own, **found)


def residual_parameters(experts: ExpertWeights, rank: int) -> int:
    """Parameters of `with_low_rank_residuals` as factors."""
    n, hidden, width = experts.up.shape
    matrices = 2 if experts.gate is None else 3
    return experts.n_parameters - matrices * ((n - 1) * hidden * width - n * rank * (hidden + width))


def _truncated(matrices: Tensor, rank: int) -> Tensor:
    """The matrices (n, rows, columns) of this rank that are nearest to these."""
    _check_rank(rank, min(matrices.shape[1:]), least=0)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    return torch.matmul(left[..., :rank] * values[:, None, :rank], right[:, :rank])


def _check_rank(rank: int, most: int, *, least: int = 1) -> None:
    if not least <= rank <= most:
        raise invalid_experts(f"experts of rank {rank}; expected {least} to {most}")
