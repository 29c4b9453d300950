import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from supernets.tasks import MultiLabel

TASK = MultiLabel()


def test_the_distance_is_the_kl_divergence_of_bernoulli_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    own, teacher = torch.randn(2, 17, 5, generator=generator)
    expected = kl_divergence(Bernoulli(logits=teacher), Bernoulli(logits=own)).sum(1).mean()
    torch.testing.assert_close(TASK.distance(own, teacher, "kl"), expected)


def test_standard_errors_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    held = rng.random((300, 4)) < 0.3
    outputs, other = ((1.5 * held + rng.normal(size=held.shape)).astype(np.float32) for _ in range(2))
    other = (0.5 * outputs + 0.5 * other).astype(np.float32)
    one, two = (TASK.score("average_precision", found, held) for found in (outputs, other))
    drawn = [rng.integers(300, size=300) for _ in range(600)]
    values = np.array(
        [[TASK.score("average_precision", found[i], held[i]).value for found in (outputs, other)] for i in drawn]
    )
    # A standard error of 600 draws is known within about 3 %; repeated examples are ties, which the jackknife lacks.
    assert one.error == pytest.approx(values[:, 0].std(), rel=0.2)
    paired = np.std(one.examples - two.examples, ddof=1) / 300**0.5
    assert paired == pytest.approx((values[:, 0] - values[:, 1]).std(), rel=0.2)
    assert paired < np.hypot(one.error, two.error)


def test_outputs_are_alike_where_the_same_labels_are_above_the_threshold() -> None:
    one, two = np.array([[1, -1], [2, 3]], dtype=np.float32), np.array([[3, -9], [2, -1]], dtype=np.float32)
    assert TASK.alike(one, two).tolist() == [True, False]
