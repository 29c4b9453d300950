"""How far a subnet's class probabilities are from its teacher's: the losses of distillation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Divergence = Literal["kl", "alpha"]

_ALPHAS = (-1.0, 1.0)
"""The two orders of which the adaptive divergence takes the larger, by sample (AlphaNet's settings)."""
_MAX_RATIO = 5.0
"""Bound of the probabilities' ratio to the order's power, without which a sample's gradient has no bound (AlphaNet's)."""


def divergence(name: Divergence, logits: Tensor, teacher: Tensor) -> Tensor:
    """The mean divergence over a batch, differentiable in the subnet's logits.

    ``kl`` is KL(teacher || subnet). ``alpha`` is the adaptive alpha-divergence of Wang et al. 2021 (AlphaNet, arXiv
    2102.07954): for each sample the larger of two orders, one that punishes what the teacher gives and the subnet does not,
    and one that punishes the reverse, with its ratios of probabilities clipped. Its value is not a divergence's own, but
    that of a function with its gradient.

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
            return _adaptive(logits, teacher)


def _adaptive(logits: Tensor, teacher: Tensor) -> Tensor:
    values, surrogates = zip(*(_alpha(logits, teacher, alpha) for alpha in _ALPHAS), strict=True)
    larger = values[0] > values[1]
    return torch.where(larger, surrogates[0], surrogates[1]).mean()


def _alpha(logits: Tensor, teacher: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The clipped divergence of one order by sample, (n,), and a function that has its gradient, (n,).

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
