"""Common factors of low rank, against full ranks and the singular values of stacked matrices."""

import pytest
import torch

from supernets.errors import SpaceError
from supernets.experts.expert_weights import common_factors
from tests.supernets.experts.random_experts import random_experts


def test_the_error_of_a_common_base_is_that_of_the_dropped_singular_values() -> None:
    weights = random_experts(3, 8, 6).up
    values = torch.linalg.svdvals(weights.flatten(0, 1)) ** 2
    for rank in range(1, 7):
        factors, base = common_factors(weights, rank)
        assert (factors.shape, base.shape) == ((3, 8, rank), (rank, 6))
        error = ((factors @ base - weights) ** 2).sum()
        torch.testing.assert_close(error, values[rank:].sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rank", [0, 7])
def test_ranks_outside_the_matrices_are_rejected(rank: int) -> None:
    with pytest.raises(SpaceError, match=f"experts of rank {rank}; expected 1 to 6"):
        common_factors(random_experts(2, 8, 6).up, rank)
