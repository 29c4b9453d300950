"""Factors of low rank, against full ranks and the singular values of stacked matrices."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from supernets.errors import SpaceError
from supernets.experts.expert_weights import stacked
from supernets.experts.low_rank import (
    common_base_parameters,
    common_factors,
    residual_parameters,
    with_common_base,
    with_low_rank_residuals,
)
from tests.supernets.experts.random_experts import random_experts

X = torch.randn(9, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
USAGE = np.array([0.2, 0.5, 0.3])


@pytest.mark.parametrize("gated", [True, False])
def test_full_rank_changes_no_output(gated: bool) -> None:
    experts = random_experts(3, 8, 6, gated=gated)
    wanted = experts.outputs(X, functional.silu)
    for found in (with_common_base(experts, 6), with_low_rank_residuals(experts, 6, USAGE)):
        torch.testing.assert_close(found.outputs(X, functional.silu), wanted, rtol=1e-9, atol=1e-9)


def test_the_error_of_a_common_base_is_that_of_the_dropped_singular_values() -> None:
    weights = random_experts(3, 8, 6).up
    values = torch.linalg.svdvals(weights.flatten(0, 1)) ** 2
    for rank in range(1, 7):
        factors, base = common_factors(weights, rank)
        assert (factors.shape, base.shape) == ((3, 8, rank), (rank, 6))
        error = ((factors @ base - weights) ** 2).sum()
        torch.testing.assert_close(error, values[rank:].sum(), rtol=1e-9, atol=1e-9)


def test_copies_need_no_residual() -> None:
    one = random_experts(1, 8, 6)
    copies = stacked([one, one, one])
    found = with_low_rank_residuals(copies, 0, USAGE)
    torch.testing.assert_close(found.outputs(X, functional.silu), copies.outputs(X, functional.silu))


def test_residuals_of_a_larger_rank_are_nearer() -> None:
    experts = random_experts(3, 8, 6)
    wanted = with_low_rank_residuals(experts, 6, USAGE)
    errors = [((with_low_rank_residuals(experts, rank, USAGE).up - wanted.up) ** 2).sum() for rank in range(7)]
    assert all(after < before for before, after in pairwise(errors))


@pytest.mark.parametrize(("gated", "biased"), [(True, False), (False, True)])
def test_parameters_are_those_of_the_factors(gated: bool, biased: bool) -> None:
    experts = random_experts(3, 8, 6, gated=gated, biased=biased)
    matrices, biases = 2 if gated else 1, 3 * (8 + 6) if biased else 0
    base = matrices * (3 * 8 * 2 + 2 * 6) + 3 * 6 * 8 + biases
    assert common_base_parameters(experts, 2) == base
    residual = (matrices + 1) * (8 * 6 + 3 * 2 * (8 + 6)) + biases
    assert residual_parameters(experts, 2) == residual


def test_ranks_outside_the_matrices_are_rejected() -> None:
    experts = random_experts(2, 8, 6)
    with pytest.raises(SpaceError, match="experts of rank 0; expected 1 to 6"):
        with_common_base(experts, 0)
    with pytest.raises(SpaceError, match="experts of rank 7; expected 0 to 6"):
        with_low_rank_residuals(experts, 7, np.ones(2))
