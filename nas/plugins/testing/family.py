"""The contract of families of networks: a class to subclass as `Test...` with a `make`."""

from __future__ import annotations

import json
from abc import abstractmethod

import numpy as np
import pytest
import torch
from torch import Tensor

from hardware_profiles.runtime import run_model
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.sharing.base import Family, Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import family_from_json, make_supernet
from supernets.training.recalibration import recalibrate

_RELATIVE = 1e-4
"""Largest difference of outputs, relative to their standard deviation: single precision through some twenty layers."""


def small_supernet() -> Supernet:
    """An untrained supernet of small CNNs for grey images of 8 x 8 pixels."""
    torch.manual_seed(0)
    return make_supernet(MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=10))


@torch.no_grad()
def randomised(supernet: Supernet) -> Supernet:
    """The supernet with random weights, so that outputs depend on inputs and on every tensor."""
    generator = torch.Generator().manual_seed(5)
    for parameter in supernet.sharing.parameters():
        scale = 1.0 if parameter.ndim < 2 else float(parameter[0].numel()) ** -0.5
        parameter.copy_(
            scale * (0.5 + torch.rand(parameter.shape, generator=generator))
            if parameter.ndim < 2
            else scale * torch.randn(parameter.shape, generator=generator)
        )
    return supernet


class FamilyContract:
    """Inherit and give `make`; `examples` for inputs other than its `example`'s floats."""

    @staticmethod
    @abstractmethod
    def make() -> Family:
        """A small family."""

    def examples(self, family: Family) -> Tensor:
        """16 inputs.

        Args:
            family: Family under test, whose `example` gives the shape of the inputs.
        """
        return torch.randn(family.example(16).shape, generator=torch.Generator().manual_seed(1))

    @pytest.fixture
    def family(self) -> Family:
        """The family under test."""
        return self.make()

    @pytest.fixture
    def supernet(self, family: Family) -> Supernet:
        """Its supernet, with random weights, which checks its dimensions."""
        torch.manual_seed(3)
        return randomised(make_supernet(family)).eval()

    def architectures(self, family: Family) -> list[Architecture]:
        """The smallest, the largest and ten random ones.

        Args:
            family: Family under test.
        """
        rng, space = np.random.default_rng(7), family.space
        return list(dict.fromkeys([space.smallest, space.largest, *(space.sample(rng) for _ in range(10))]))

    def test_a_checkpoint_can_describe_it(self, family: Family) -> None:
        """The family that is read from the JSON of a checkpoint is equal to the one that was written.

        Args:
            family: Family under test.
        """
        again = family_from_json(json.loads(json.dumps(family.to_json())))
        assert type(again) is type(family)
        assert again.to_json() == family.to_json()
        assert again.space == family.space

    @torch.no_grad()
    def test_live_and_extracted_networks_agree(self, family: Family, supernet: Supernet) -> None:
        """A network gives the same outputs within its supernet as after its extraction, and they depend on the inputs.

        Args:
            family: Family under test.
            supernet: Its supernet with random weights, in evaluation mode.
        """
        inputs = self.examples(family)
        for architecture in self.architectures(family):
            live, extracted = supernet(inputs, architecture), supernet.extract(architecture)(inputs)
            assert (live - extracted).abs().max() <= _RELATIVE * extracted.std()
            assert (extracted.std(dim=0) > 1e-3 * extracted.std()).any(), "the outputs do not depend on the inputs"

    def test_live_and_extracted_networks_have_the_same_modules(self, family: Family, supernet: Supernet) -> None:
        """A network has modules of the same names and classes within its supernet as after its extraction.

        Args:
            family: Family under test.
            supernet: Its supernet with random weights, in evaluation mode.
        """
        for architecture in self.architectures(family):
            live, plain = supernet.subnet(architecture), supernet.extract(architecture)
            assert {n: type(m) for n, m in live.named_modules()} == {n: type(m) for n, m in plain.named_modules()}

    def test_costs_are_those_of_the_extracted_network(self, family: Family, supernet: Supernet) -> None:
        """The cost of an architecture counts the parameters of the extracted network, and its MACs are the sum over the blocks.

        Args:
            family: Family under test.
            supernet: Its supernet with random weights, in evaluation mode.
        """
        for architecture in self.architectures(family):
            cost, module = supernet.cost(architecture), supernet.extract(architecture)
            assert cost.parameters == sum(parameter.numel() for parameter in module.parameters())
            assert cost.macs == sum(block.macs for _, block in cost.blocks) > 0

    @torch.no_grad()
    def test_a_permuted_axis_leaves_the_largest_network_as_it_is(self, family: Family, supernet: Supernet) -> None:
        """The outputs of the largest network stay the same when an axis is sorted, as by importance during a training.

        Args:
            family: Family under test, whose axes that are cut to a prefix are reversed.
            supernet: Its supernet with random weights, in evaluation mode.
        """
        inputs, largest = self.examples(family), family.space.largest
        before = supernet(inputs, largest)
        for name, axis in family.axes.items():
            if axis.slice == "prefix" and axis.size > 1:
                supernet.sort({name: torch.arange(axis.size).flip(0)})
        assert (supernet(inputs, largest) - before).abs().max() <= _RELATIVE * before.std()

    @torch.no_grad()
    def test_onnx_runtime_agrees_with_torch(self, family: Family, supernet: Supernet) -> None:
        """An exported network gives the same outputs in ONNX Runtime as in torch.

        Args:
            family: Family under test.
            supernet: Its supernet with random weights, in evaluation mode.
        """
        inputs = self.examples(family)
        for architecture in self.architectures(family)[:4]:
            module = recalibrate(supernet.extract(architecture), [inputs])
            (came,) = run_model(onnx_model(module, inputs[:2]), {INPUT: inputs.numpy()})
            expected = module(inputs)
            assert (torch.from_numpy(came) - expected).abs().max() <= _RELATIVE * expected.std()

    def test_gradients_reach_every_tensor_of_the_largest_network(self, family: Family, supernet: Supernet) -> None:
        """Each stored tensor of the supernet gets a gradient when the largest network is trained.

        Args:
            family: Family under test.
            supernet: Its supernet with random weights, which is put into training mode.
        """
        supernet.train()
        supernet(self.examples(family), family.space.largest).square().sum().backward()
        lacking = [name for name, p in supernet.sharing.named_parameters() if p.grad is None]
        assert lacking == []
