"""Fitted routers, against the experts that truly add most."""

import torch
from torch.nn import functional

from supernets.experts.expert_weights import ExpertWeights
from supernets.experts.partition import RouterFit
from tests.supernets.experts.random_experts import random_experts


def test_a_fitted_router_finds_the_experts_that_add_most() -> None:
    """Experts that read other channels each: the norms of their outputs are nearly linear in the magnitudes of these."""
    experts = random_experts(4, 8, 4, biased=False)
    rng = torch.Generator().manual_seed(0)
    mask = torch.eye(4, dtype=torch.float64)[:, None]
    own = ExpertWeights(experts.up * mask, experts.down, experts.gate * mask)  # type: ignore[operator]
    train, test = (torch.rand(n, 4, generator=rng, dtype=torch.float64) for n in (3000, 500))
    fit = RouterFit(own, functional.silu)
    for batch in train.split(700):
        fit.add(batch)
    weight, bias = fit.solve()
    norms = own.outputs(test, functional.silu).norm(dim=-1).T

    def overlap(scores: torch.Tensor) -> float:
        chosen, best = (torch.zeros_like(own).scatter_(1, own.topk(2).indices, 1.0) for own in (scores, norms))
        return float((chosen * best).sum() / best.sum())

    drawn = torch.randn(4, 4, generator=rng, dtype=torch.float64)
    assert overlap(test @ weight.T + bias) > 0.85
    assert overlap(test @ weight.T + bias) > overlap(test @ drawn.T) + 0.2


def test_batches_add_up_to_one_fit() -> None:
    experts, x = random_experts(3, 4, 5), torch.randn(2100, 5, dtype=torch.float64)
    parts, whole = RouterFit(experts, functional.silu), RouterFit(experts, functional.silu)
    whole.add(x)
    for part in x.split(300):
        parts.add(part)
    for one, other in zip(whole.solve(), parts.solve(), strict=True):
        torch.testing.assert_close(one, other)
