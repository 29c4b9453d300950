"""Experts with random weights in double precision, for the tests of this folder."""

import torch

from supernets.experts.expert_weights import ExpertWeights


def random_experts(
    n: int, hidden: int, width: int, *, gated: bool = True, biased: bool = True, seed: int = 0
) -> ExpertWeights:
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return ExpertWeights(
        up=drawn(n, hidden, width),
        down=drawn(n, width, hidden),
        gate=drawn(n, hidden, width) if gated else None,
        up_bias=drawn(n, hidden) if biased else None,
        gate_bias=drawn(n, hidden) if gated and biased else None,
        down_bias=drawn(n, width) if biased else None,
    )
