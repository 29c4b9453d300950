"""Distillation losses compared with their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from supernets.tasks.divergence import divergence, top_divergence, top_logits


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


def test_weights_are_those_of_the_samples_in_the_mean(logits: tuple[Tensor, Tensor]) -> None:
    own, teacher = logits
    weights = torch.tensor([0.5, 0, 0.125, 0.125, 0.25, 0], dtype=torch.float64)
    expected = (weights * kl_divergence(Categorical(logits=teacher), Categorical(logits=own))).sum()
    torch.testing.assert_close(divergence("kl", own, teacher, weights), expected)
    torch.testing.assert_close(top_divergence(own, top_logits(teacher, 5), weights), expected)
    equal = torch.full((6,), 1 / 6, dtype=torch.float64)
    torch.testing.assert_close(divergence("alpha", own, teacher, equal), divergence("alpha", own, teacher))


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


class TestTopK:
    @pytest.mark.parametrize("k", [5, 9])
    def test_with_all_classes_it_is_the_divergence(self, logits: tuple[Tensor, Tensor], k: int) -> None:
        own, teacher = (tensor.float().detach().requires_grad_() for tensor in logits)
        expected, came = divergence("kl", own, teacher), top_divergence(own, top_logits(teacher, k))
        assert came.item() == pytest.approx(expected.item(), abs=1e-6)
        one, two = (torch.autograd.grad(value, own)[0] for value in (expected, came))
        torch.testing.assert_close(two, one, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("k", [1, 3])
    def test_the_other_classes_are_one(self, logits: tuple[Tensor, Tensor], k: int) -> None:
        own, teacher = logits
        values, expected = [], torch.zeros((), dtype=torch.float64)
        for p, q in zip(teacher.softmax(1), own.softmax(1), strict=True):
            chosen = p.argsort(descending=True)[:k]
            both = [torch.cat([x[chosen], 1 - x[chosen].sum()[None]]) for x in (p, q)]
            expected = expected + kl_divergence(Categorical(both[0]), Categorical(both[1])) / len(own)
            values.append(chosen)
        target = top_logits(teacher, k)
        assert target.classes.tolist() == torch.stack(values).tolist()
        came = top_divergence(own, target)
        torch.testing.assert_close(came, expected)
        assert came < divergence("kl", own, teacher)
        torch.testing.assert_close(*(torch.autograd.grad(value, own)[0] for value in (came, expected)))

    def test_it_is_finite_for_sure_and_opposite_predictions(self) -> None:
        own = torch.tensor([[90.0, 0.0, -90.0]], requires_grad=True)
        for teacher in (torch.tensor([[-90.0, 0.0, 90.0]]), torch.tensor([[90.0, 0.0, 0.0]])):
            came = top_divergence(own, top_logits(teacher, 1))
            assert came.isfinite()
            (gradient,) = torch.autograd.grad(came, own)
            assert gradient.isfinite().all()
            assert gradient.abs().max() <= 1 + 1e-4

    def test_the_teacher_gets_no_gradient(self, logits: tuple[Tensor, Tensor]) -> None:
        own, teacher = logits
        teacher = teacher.clone().requires_grad_()
        top_divergence(own, top_logits(teacher, 2)).backward()
        assert teacher.grad is None
