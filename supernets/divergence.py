"""Distillation losses: divergences between the class probabilities of a subnet and its teacher."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Divergence = Literal["kl", "alpha"]

_ALPHAS = (-1.0, 1.0)
"""The two orders of the adaptive divergence (AlphaNet's settings)."""
_MAX_RATIO = 5.0
"""Bound of the ratio of probabilities to the power of the order; it bounds a sample's gradient (AlphaNet's setting)."""


def divergence(name: Divergence, logits: Tensor, teacher: Tensor) -> Tensor:
    """The mean divergence over a batch, differentiable in the subnet's logits.

    ``kl`` is KL(teacher || subnet). ``alpha`` is the adaptive alpha-divergence of Wang et al. 2021 (AlphaNet, arXiv
    2102.07954): for each sample the larger of two orders, one for under- and one for overestimated probabilities, with
    clipped ratios. Its value is that of a surrogate with the divergence's gradient, not the divergence itself.

    Args:
        logits: (n, classes), of the subnet.
        teacher: (n, classes), logits; no gradient flows into them.
    """
    teacher = teacher.detach()
    match name:
        case "kl":
            return functional.kl_div(
                logits.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
            )
        case "alpha":
            (value, surrogate), (other_value, other) = (_alpha(logits, teacher, alpha) for alpha in _ALPHAS)
            return torch.where(value > other_value, surrogate, other).mean()


def _alpha(logits: Tensor, teacher: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The clipped divergence of one order by sample, (n,), and a surrogate with its gradient, (n,).

    The divergence is the subnet's expectation of f(w), with w the ratio of the teacher's probability to the subnet's and
    f(w) = (w^alpha - 1) / (alpha (alpha - 1)), or w log w at alpha = 1. Its gradient in the subnet's log-probabilities is
    minus the subnet's probability times rho = w f'(w) - f(w).
    """
    log_q = logits.log_softmax(1)
    q = log_q.detach().exp()
    log_ratio = teacher.log_softmax(1) - log_q.detach()
    power = (alpha * log_ratio).exp().clamp(max=_MAX_RATIO)
    if alpha == 1:
        value, rho = torch.xlogy(power, power), power  # 0, not NaN, where the teacher's probability is 0
    else:
        scale = 1 / (alpha * (alpha - 1))
        value, rho = scale * (power - 1), power / alpha + scale
    return (q * value).sum(1), -(q * rho * log_q).sum(1)
