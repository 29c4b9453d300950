"""Recalibrated statistics of norms are averages over all inputs, for any division into batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nas
from supernets.sharing.base import Supernet
from supernets.sharing.spec import SharingSpec
from supernets.training.checkpoint import make_supernet
from supernets.training.recalibration import Extraction, recalibrate
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import LLAMA, texts
from tests.supernets.networks.capture.networks import example, network


def inputs(n: int) -> Tensor:
    """Images with different means; the last one is an outlier."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, 4, 4, generator=generator) + torch.randn(n, 3, 1, 1, generator=generator)
    images[-1] += 20
    return images


def test_equal_batches_have_equal_weights() -> None:
    batches = inputs(60).split(20)
    (norm,) = recalibrate(nn.Sequential(nn.BatchNorm2d(3)), batches).children()
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))


@pytest.mark.parametrize("n_last", [2, 7])
def test_a_small_last_batch_is_weighted_by_its_size(n_last: int) -> None:
    images = inputs(40 + n_last)
    (norm,) = recalibrate(nn.Sequential(nn.BatchNorm2d(3)), images.split(20)).children()
    torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))


def test_a_last_batch_of_one_is_skipped() -> None:
    """Torch rejects one input with one pixel in a batch norm."""
    images = inputs(41)
    module = recalibrate(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)), images.split(20))
    torch.testing.assert_close(module.get_buffer("1.running_mean"), images[:40].mean((0, 2, 3)))


def test_statistics_of_instance_norms_are_averages_over_images() -> None:
    images = inputs(27)
    (norm,) = recalibrate(nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)), images.split(20)).children()
    torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, images.flatten(2).var(2).mean(0))
    assert not norm.training


def test_norms_without_running_statistics_stay_as_they_are() -> None:
    module = nn.Sequential(nn.InstanceNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
    assert not any(m.training for m in recalibrate(module, inputs(4).split(2)).modules())
    assert not module.state_dict().keys() - {"1.weight", "1.bias"}


def test_momentum_is_restored_and_the_module_ends_in_eval_mode() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3)).train()
    recalibrate(module, inputs(4).split(2))
    assert module[0].momentum == 0.3
    assert not any(m.training for m in module.modules())


def language_models() -> tuple[Supernet, Tensor]:
    return invariants.randomised(make_supernet(LLAMA, SharingSpec(correction="least-squares"))), texts(40)


def convolutions() -> tuple[Supernet, Tensor]:
    torch.manual_seed(0)
    plain = nas.supernet_of(network("resnet"), example("resnet", 2), widths=(0.5, 1.0), granularity="layer")
    supernet = make_supernet(plain.family, SharingSpec(correction="least-squares"))
    return invariants.randomised(supernet), example("resnet", 64, seed=3)


@pytest.mark.parametrize("made", [language_models, convolutions])
def test_a_corrected_network_is_extracted_again_as_it_was(made: Callable[[], tuple[Supernet, Tensor]]) -> None:
    """Only the weights that were changed are kept; the others are the supernet's."""
    supernet, examples = made()
    extraction = Extraction(supernet.eval(), examples.split(20), keeps_corrected=True)
    for architecture in (supernet.space.smallest, supernet.space.sample(np.random.default_rng(0))):
        first, plain = extraction(architecture).state_dict(), supernet.extract(architecture).state_dict()
        assert any(not torch.equal(tensor, plain[name]) for name, tensor in first.items())
        again = extraction(architecture).state_dict()
        assert first.keys() == again.keys()
        assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
        assert 0 < len(extraction._corrected[architecture]) < len(first)
