"""Distillation losses: divergences between the class probabilities of a subnet and its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Divergence = Literal["kl", "alpha"]

_ALPHAS = (-1.0, 1.0)
"""The two orders of the adaptive divergence (AlphaNet's settings)."""
_MAX_RATIO = 5.0
"""Bound of the ratio of probabilities to the power of the order; it bounds a sample's gradient (AlphaNet's setting)."""


def divergence(name: Divergence, logits: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean divergence over a batch, differentiable in the subnet's logits.

    ``kl`` is KL(teacher || subnet). ``alpha`` is the adaptive alpha-divergence of Wang et al. 2021 (AlphaNet, arXiv
    2102.07954): for each sample the larger of two orders, one for under- and one for overestimated probabilities, with
    clipped ratios. Its value is that of a surrogate with the divergence's gradient, not the divergence itself.

    Args:
        logits: (n, classes), logits of the subnet.
        teacher: (n, classes), logits of the teacher; no gradient flows into them.
        weights: (n,), weights of the samples in the mean, with the sum 1; None for equal ones.
    """
    teacher = teacher.detach()
    match name:
        case "kl":
            log_q, log_p = logits.log_softmax(1), teacher.log_softmax(1)
            if weights is None:
                return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
            return _mean(functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1), weights)
        case "alpha":
            (value, surrogate), (other_value, other_surrogate) = (_alpha(logits, teacher, alpha) for alpha in _ALPHAS)
            return _mean(torch.where(value > other_value, surrogate, other_surrogate), weights)


@dataclass(frozen=True)
class TopLogits:
    """The part of a teacher's logits that `top_divergence` needs: k numbers of each example in place of all classes.

    Attributes:
        log_p: (n, k), the logarithms of its largest probabilities.
        classes: (n, k), the classes with these probabilities.
        other_p: (n,), the probability of all other classes together; None if there is none.
    """

    log_p: Tensor
    classes: Tensor
    other_p: Tensor | None


@torch.no_grad()
def top_logits(teacher: Tensor, k: int) -> TopLogits:
    """The k most probable classes of a teacher by its logits (n, classes), or all of them if there are fewer."""
    values, classes = teacher.topk(min(k, teacher.shape[1]))
    log_p = values - teacher.logsumexp(1, keepdim=True)
    return TopLogits(log_p, classes, 1 - log_p.exp().sum(1) if k < teacher.shape[1] else None)


def top_divergence(logits: Tensor, target: TopLogits, weights: Tensor | None = None) -> Tensor:
    """The mean KL(teacher || subnet) over a batch, with the classes outside the teacher's k largest as one class.

    With K the k classes of the largest p, p_r = 1 - sum over K of p_i and q_r = 1 - sum over K of q_i, it is the sum over K of
    p_i log(p_i / q_i), plus p_r log(p_r / q_r). It is at most the divergence over all classes, and equal with k = classes.
    The teacher's logits need not be kept.

    Args:
        logits: (n, classes), logits of the subnet.
        target: The part of the teacher's logits, from `top_logits`.
        weights: Weights of the samples, as in `divergence`.
    """
    log_q = logits.log_softmax(1).gather(1, target.classes)
    kl = (target.log_p.exp() * (target.log_p - log_q)).sum(1)
    if target.other_p is not None:
        epsilon = torch.finfo(logits.dtype).eps  # what a difference from 1 is rounded to
        p, q = target.other_p.clamp(min=epsilon), -torch.expm1(log_q.logsumexp(1).clamp(max=-epsilon))
        kl = kl + p * (p / q).log()
    return _mean(kl, weights)


def _mean(samples: Tensor, weights: Tensor | None) -> Tensor:
    return samples.mean() if weights is None else (weights * samples).sum()


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
