"""Differentiable widths and depths: networks between those of a space, their costs, and the network that is found."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.data import DataSet, head
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import CNNSpec, StageSpec
from supernets.families.convolutional.resnet_family import ResNetFamily
from supernets.families.convolutional.resnet_spec import BottleneckStage, ResNetSpec
from supernets.families.nested_networks import NestedFamily
from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT
from supernets.sharing.base import Family
from supernets.space import Architecture
from supernets.training.checkpoint import FOUND, load_checkpoint, make_supernet
from supernets.training.gradients import ALONE, CPU, StepGradients, StepOptions
from supernets.training.strategies.differentiable import DifferentiableStrategy
from supernets.training.strategies.relaxation import Relaxation
from supernets.training.trainer import Epoch, train
from supernets.training.training_loop import TrainingSettings
from tests.errors import raises
from tests.supernets.invariants import RELATIVE, randomised, relative

SIZES = {"image_size": 8, "channels": 1, "n_classes": 10}
CNN = MobileCNNFamily(
    CNNSpec(
        stem=4,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1, 2), width=(4, 8), kernel=(3, 5), expand=(1, 2, 3)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(8, 12, 16), kernel=(3,), expand=(1, 2), squeeze=True),
        ),
        head=16,
    ),
    **SIZES,
)
RESNET = ResNetFamily(
    ResNetSpec(
        stem=(8, 16),
        stem_stride=1,
        stages=(BottleneckStage(stride=2, depth=(1, 2), width=(16, 24, 32), expand=(0.5, 1)),),
        resolution=(6, 8),
    ),
    **SIZES,
)


@cache
def relaxation_of(family: Family) -> Relaxation:
    return Relaxation(make_supernet(family))


def relaxed(family: Family, seed: int = 0) -> Relaxation:
    """With random logits."""
    found, generator = relaxation_of(family), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for own in found.parameters():
            own.copy_(torch.randn(own.shape, generator=generator))
    return found


def certain(family: Family, network: Architecture) -> list[Tensor]:
    """Probabilities of this network alone."""
    return [torch.eye(int(n))[max(gene, 0)] for n, gene in zip(family.space.levels, network.genes, strict=True)]


@pytest.mark.parametrize("family", [CNN, RESNET], ids=["mobile-cnn", "resnet"])
def test_certain_levels_are_the_subnet_whatever_the_widths_that_are_computed(family: Family) -> None:
    supernet, relaxation, space = randomised(make_supernet(family)), relaxed(family), family.space
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for _ in range(6):
            network = space.sample(rng)
            if space.choices[0].name == "resolution":  # which stays the largest
                network = Architecture((1, *network.genes[1:]))
            wanted = supernet(x, network)
            for computed in (network, space.largest):
                between = relaxation.subnet(supernet, computed, certain(family, network))
                assert relative(between(x), wanted) <= RELATIVE
            other = relaxation.subnet(supernet, space.largest, relaxation.probabilities)  # a negative control
            assert relative(other(x), wanted) > 100 * RELATIVE


def test_two_widths_are_weighed_by_their_probabilities() -> None:
    """Of one stage of one block, whose width is read by the head alone: its outputs, by hand."""
    family = MobileCNNFamily(CNNSpec(4, 2, (StageSpec(1, (1,), (4, 8), (3,), (1,)),), 16), **SIZES)
    supernet, relaxation = randomised(make_supernet(family)), Relaxation(make_supernet(family))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    probabilities = [torch.ones(1), torch.tensor([0.25, 0.75]), torch.ones(1), torch.ones(1)]
    with torch.no_grad():
        whole = supernet.subnet(family.space.largest)
        features = whole.stages(whole.stem(x))
        features[:, 4:] *= 0.75
        by_hand = whole.classifier(whole.head(features).mean((2, 3)))
        between = relaxation.subnet(supernet, family.space.largest, probabilities)(x)
    assert relative(between, by_hand) <= RELATIVE


@pytest.mark.parametrize("family", [CNN, RESNET], ids=["mobile-cnn", "resnet"])
def test_the_expected_cost_is_the_mean_over_networks(family: Family) -> None:
    relaxation, space = relaxed(family), family.space
    rng, levels = np.random.default_rng(0), [p.detach().double().numpy() for p in relaxation.probabilities]
    drawn = np.stack([rng.choice(len(p), 4000, p=p / p.sum()) for p in levels], axis=1)
    shares = relaxation.shares([space.canonical(genes) for genes in drawn])
    error = shares.std() / len(shares) ** 0.5
    assert relaxation.expected_share().item() == pytest.approx(shares.mean(), abs=4 * error)


def test_a_loss_has_gradients_of_the_logits() -> None:
    supernet, relaxation = make_supernet(CNN), Relaxation(make_supernet(CNN))
    network, probabilities = relaxation.sample(1.0, np.random.default_rng(0))
    relaxation.subnet(supernet, network, probabilities)(torch.randn(4, 1, 8, 8)).square().sum().backward()
    active = [i for i in relaxation.learned if network.genes[i] >= 0]
    grads = [relaxation.logits[str(i)].grad for i in active]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)
    assert all((p > 0).sum() <= 2 for p in probabilities)


def test_parts_of_a_batch_add_up_the_gradients_of_the_logits() -> None:
    supernet, strategy = randomised(make_supernet(CNN)), DifferentiableStrategy(CNN.space, relaxed(CNN), 0.5)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 1, 8, 8, generator=generator), torch.randint(10, (8,), generator=generator)

    def gradients(part: slice, accumulate: int) -> list[Tensor]:
        strategy.relaxation.zero_grad()
        options = StepOptions(accumulate=accumulate)
        step = StepGradients(supernet, options, teacher=None, device=CPU, workers=ALONE)
        passes = strategy.plan(0, np.random.default_rng(0), lambda network: 0.0)
        step.backward(passes, x[part], y[part], n=len(x[part]))
        return [own.grad.clone() for own in strategy.relaxation.parameters() if own.grad is not None]

    halves = [gradients(part, 1) for part in (slice(4), slice(4, 8))]
    for whole, first, second in zip(gradients(slice(8), 2), *halves, strict=True):
        torch.testing.assert_close(whole, (first + second) / 2)


@pytest.mark.parametrize("target", [0.25, 0.6])
def test_the_penalty_leads_to_the_target(target: float) -> None:
    strategy = DifferentiableStrategy(CNN.space, relaxed(CNN), target)
    optimizer = strategy.optimizer(40)
    shares = []
    for _ in range(40):
        shares.append(float(strategy.relaxation.shares([CNN.space.canonical(strategy.relaxation.likeliest)])[0]))
        optimizer.zero_grad()
        strategy.penalty().backward()
        optimizer.step()
    assert abs(shares[0] - target) > 0.1 * target
    assert min(abs(share - target) for share in shares[20:]) < 0.1 * target


def test_the_network_that_is_found_is_on_target() -> None:
    for seed, target in enumerate((0.15, 0.3, 0.5, 0.9)):
        strategy = DifferentiableStrategy(CNN.space, relaxed(CNN, seed), target)
        found = strategy.chosen_architecture()
        CNN.space.check(found)
        assert 0.95 * target <= strategy.relaxation.shares([found])[0] <= target


def test_the_likeliest_network_is_found_if_it_is_on_target() -> None:
    relaxation = relaxed(CNN)
    likeliest = CNN.space.canonical(relaxation.likeliest)
    strategy = DifferentiableStrategy(CNN.space, relaxation, float(relaxation.shares([likeliest])[0]) + 1e-6)
    assert strategy.chosen_architecture() == likeliest


def test_a_resumed_training_finds_the_same_network(digits: DataSet, tmp_path: Path) -> None:
    data = replace(digits, train=head(digits.train, 70), validation=head(digits.validation, 40))
    settings = TrainingSettings(epochs=2, batch_size=32, shift=1, calibration_images=40)

    def run(folder: Path, *, stop: bool = False) -> tuple[str, list[Tensor]]:
        torch.manual_seed(0)
        supernet = make_supernet(CNN)
        strategy = DifferentiableStrategy(CNN.space, Relaxation(supernet), 0.4)

        def on_epoch(epoch: Epoch) -> None:
            if stop:
                raise KeyboardInterrupt

        digest = train(supernet, data, strategy, settings, folder, on_epoch=on_epoch)
        return digest, [own.detach().clone() for own in strategy.relaxation.parameters()]

    digest, logits = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop=True)
    again, resumed = run(tmp_path / "stopped")
    assert again == digest
    assert all(map(torch.equal, logits, resumed))
    records = [load_checkpoint(tmp_path / folder).progress for folder in ("whole", "stopped")]
    assert records[0][FOUND] == records[1][FOUND]
    CNN.space.check(Architecture.parse(records[0][FOUND]))


def test_a_cost_that_no_network_has_is_rejected() -> None:
    relaxation = Relaxation(make_supernet(CNN))
    with raises("training.target-outside", "training.target", "0.01", " to 1") as caught:
        DifferentiableStrategy(CNN.space, relaxation, 0.01)
    least = float(re.findall(r"([0-9.]+) to 1", str(caught.value))[0])
    assert relaxation.min_share <= least < relaxation.min_share + 0.001
    DifferentiableStrategy(CNN.space, relaxation, least)


@pytest.mark.parametrize(
    "family", [ViTFamily(VIT["digits"], **SIZES), NestedFamily(CNN)], ids=lambda family: str(family.name)
)
def test_families_without_widths_to_learn_are_rejected(family: Family) -> None:
    with raises("training.unsupported-family", family.name, "mobile-cnn"):
        Relaxation(make_supernet(family))
