"""Blocks of captured networks: together they are the network, and their keys are those of each network lowered alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import nas
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.network import network_of
from supernets.networks.onnx_graph.ir import LENGTH
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture
from tests.errors import raises
from tests.supernets.networks.capture.networks import NETWORKS, example, network
from tests.supernets.networks.plain_networks import difference, run

BLOCKS = {
    "resnet": ("stem", "layer1.0.body", "layer1.1.body", "layer2.0", "layer2.1.body", "fc"),
    "mobile": ("stem", "blocks.0", "blocks.1", "head.1", "head.4"),
    "transformer": ("patch", "attention.0", "mlp.0", "attention.1", "mlp.1", "head"),
    "tokens": ("gate", "head"),
}


@cache
def supernet(name: str) -> Supernet:
    """A supernet that no test changes."""
    return nas.supernet_of(network(name), example(name, 2))


def networks(made: Supernet, n: int = 4) -> list[Architecture]:
    rng = np.random.default_rng(3)
    return [made.space.smallest, made.space.largest, *(made.space.sample(rng) for _ in range(n))]


def divided(name: str) -> Supernet:
    """The supernet of a network, which has several blocks."""
    made = supernet(name)
    assert isinstance(made.family, CapturedFamily)
    assert made.family.divided
    return made


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_named_after_their_modules(name: str) -> None:
    assert supernet(name).family.blocks == BLOCKS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_blocks_one_after_another_are_the_network(name: str) -> None:
    made = divided(name)
    x = example(name, 3)
    for architecture in networks(made):
        module = made.extract(architecture)
        lowered, value = network_of(module, x), x
        for block in lowered.block_models():
            assert len(block.inputs) == 1
            assert block.inputs[0].shape in (value.shape[1:], (LENGTH,))
            value = torch.from_numpy(run(block.model, value))
        with torch.no_grad():
            assert difference(value.numpy(), module(x).numpy()) <= 1e-4
        assert difference(run(lowered.onnx(), x), value.numpy()) <= 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_equal_those_of_each_network_lowered_alone(name: str) -> None:
    made = divided(name)
    chosen = networks(made, 12)
    found = [network_of(made.extract(a), example(name, 2)).block_keys() for a in chosen]
    keys = BlockKeys(made)
    table = keys.of(chosen)
    assert table.tolist() == [[own.get(block, "") for block in made.family.blocks] for own in found]
    for key in set(table.ravel().tolist()) - {""}:
        assert keys.model(key).key == key


def test_equal_layers_have_equal_keys_and_absent_ones_none() -> None:
    (largest,) = BlockKeys(made := supernet("resnet")).of([made.space.largest]).tolist()
    assert largest[1] == largest[2] != largest[4]
    (smallest,) = BlockKeys(made := supernet("mobile")).of([made.space.smallest]).tolist()
    assert [bool(key) for key in smallest] == [True, False, True, True, True]  # the third still flattens


def test_costs_by_block_are_those_of_the_layers() -> None:
    made = supernet("resnet")
    cost = made.cost(made.space.largest)
    module = network("resnet")
    fc = dict(cost.blocks)["fc"]
    assert (fc.macs, fc.parameters) == (32 * 5, 33 * 5)
    assert sum(block.parameters for _, block in cost.blocks) == sum(p.numel() for p in module.parameters())
    stem = dict(cost.blocks)["stem"]
    assert stem.macs == 16 * 3 * 9 * 144


class Entangled(nn.Module):
    """Two paths beside each other up to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(8, 16)
        self.c, self.d = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.c(self.a(x).relu()) + self.d(self.b(x).relu())
        return out


def test_a_network_without_a_single_value_between_its_parts_has_no_blocks_of_its_own() -> None:
    made = nas.supernet_of(Entangled(), torch.randn(2, 8))
    assert isinstance(made.family, CapturedFamily)
    assert not made.family.divided
    assert made.family.blocks == ("a", "b", "c", "d")
    with raises("export.invalid-block", "blocks"):
        BlockKeys(made).of([made.space.largest])


class Called(nn.Module):
    """A layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.both = nn.Linear(8, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.both(self.both(self.first(x).relu()).relu()).relu())
        return out


def test_a_module_that_is_called_twice_has_two_blocks() -> None:
    made = nas.supernet_of(Called(), torch.randn(2, 8))
    assert made.family.blocks == ("first", "both", "both:2", "head")
    keys = BlockKeys(made).of([made.space.largest])[0].tolist()
    assert keys[1] == keys[2]
    cost = made.cost(made.space.largest)
    assert [block.macs for _, block in cost.blocks] == [128, 256, 256, 64]
    assert sum(block.parameters for _, block in cost.blocks) == 9 * 16 + 17 * 16 + 17 * 4
