"""Distillation losses compared with their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from supernets.divergence import divergence


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Logits of a subnet and its teacher, so close that no ratio is clipped."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    own = teacher + 0.3 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return own.requires_grad_(), teacher


def test_kl_is_from_the_teacher_to_the_subnet(logits: tuple[Tensor, Tensor]) -> None:
    own, teacher = logits
    expected = kl_divergence(Categorical(logits=teacher), Categorical(logits=own)).mean()
    torch.testing.assert_close(divergence("kl", own, teacher), expected)


def alpha_divergences(own: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The divergences of orders -1 and 1 by sample, from their definitions: half of chi squared, and KL."""
    p, q = teacher.softmax(1), own.softmax(1)
    return ((p / q) ** -1 * q / 2).sum(1) - 0.5, (p * (p / q).log()).sum(1)


def test_alpha_has_the_gradient_of_the_larger_of_two_divergences(logits: tuple[Tensor, Tensor]) -> None:
    own, teacher = logits
    low, high = alpha_divergences(own, teacher)
    assert 0 < (low > high).sum() < len(low)  # each is the larger one for some samples
    (expected,) = torch.autograd.grad(torch.maximum(low, high).mean(), own)
    (came,) = torch.autograd.grad(divergence("alpha", own, teacher), own)
    torch.testing.assert_close(came, expected)


def test_alpha_bounds_the_gradient_for_opposite_predictions() -> None:
    own = torch.tensor([[20.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-20.0, 0.0]])
    (came,) = torch.autograd.grad(divergence("alpha", own, teacher), own)
    assert came.isfinite().all()
    assert came.abs().max() <= 6


def test_alpha_clips_ratios_at_five() -> None:
    """By hand: at the order -1, with ratios of 1/5 (clipped: it is 4e-9) and 2, rho is 1/2 - 5 and 1/2 - 1/2."""
    own = torch.zeros(1, 2, requires_grad=True)
    (came,) = torch.autograd.grad(divergence("alpha", own, torch.tensor([[-20.0, 0.0]])), own)
    torch.testing.assert_close(came, torch.tensor([[4.5 / 4, -4.5 / 4]]), rtol=1e-5, atol=0)


def test_no_gradient_reaches_the_teacher(logits: tuple[Tensor, Tensor]) -> None:
    own, teacher = logits
    teacher = teacher.clone().requires_grad_()
    for name in ("kl", "alpha"):
        divergence(name, own, teacher).backward()  # type: ignore[arg-type]
    assert teacher.grad is None


def test_alpha_is_finite_if_the_teacher_gives_a_class_probability_zero() -> None:
    """A probability that is 0 in single precision contributes 0, like one just above it."""
    own = torch.tensor([[0.0, 0.0, -1.0]], requires_grad=True)
    found = []
    for sure in (90.0, 200.0):
        teacher = torch.tensor([[sure, 0.0, 0.0]])
        found.append(torch.autograd.grad(divergence("alpha", own, teacher), own)[0])
    torch.testing.assert_close(found[1], found[0])
