"""Statistics of batch norms, taken anew: averages over all inputs, however these are cut into batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from supernets.recalibration import recalibrate


def inputs(n: int) -> Tensor:
    """Images whose means differ, the last one's most."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, 4, 4, generator=generator) + torch.randn(n, 3, 1, 1, generator=generator)
    images[-1] += 20
    return images


def test_equal_batches_weigh_the_same() -> None:
    batches = inputs(60).split(20)
    (norm,) = recalibrate(nn.Sequential(nn.BatchNorm2d(3)), batches).children()
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))


@pytest.mark.parametrize("rest", [2, 7])
def test_a_rest_weighs_no_more_than_its_inputs(rest: int) -> None:
    images = inputs(40 + rest)
    (norm,) = recalibrate(nn.Sequential(nn.BatchNorm2d(3)), images.split(20)).children()
    torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))


def test_a_rest_of_one_is_left_out() -> None:
    """Of an image of which one pixel reaches a batch norm, torch takes no statistics."""
    images = inputs(41)
    module = recalibrate(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)), images.split(20))
    torch.testing.assert_close(module.get_buffer("1.running_mean"), images[:40].mean((0, 2, 3)))


def test_settings_come_back_and_training_mode_does_not() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3)).train()
    recalibrate(module, inputs(4).split(2))
    assert module[0].momentum == 0.3
    assert not any(m.training for m in module.modules())
