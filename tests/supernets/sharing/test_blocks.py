"""Block keys over a space equal those of lowering each network separately, with few lowerings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernets.networks.network import Network, network_of
from supernets.sharing.base import Family, Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.sharing.chain import ChainSharing
from supernets.space import Architecture, Choice, SearchSpace
from supernets.space.axes import NamedDims
from tests.supernets.networks.plain_networks import difference, outputs, run
from tests.supernets.networks.test_network import architectures, supernet, traced


def one_by_one(net: Supernet, architectures: Sequence[Architecture]) -> list[list[str]]:
    """The oracle: every network traced by itself."""
    example, blocks = net.family.example(2), net.family.blocks
    keys = [network_of(traced(net, architecture), example, blocks).block_keys() for architecture in architectures]
    return [[keys_of_network.get(name, "") for name in blocks] for keys_of_network in keys]


@pytest.mark.slow
def test_keys_equal_those_of_each_network_lowered_separately() -> None:
    net = supernet("tiny")
    chosen = architectures(net, 4)
    keys, separate_keys = BlockKeys(net), one_by_one(net, chosen)
    first = keys.of(chosen[:4])  # the second call finds some of them cached
    assert first.shape == (4, len(net.family.blocks))
    assert np.array_equal(first, separate_keys[:4])
    assert np.array_equal(keys.of(chosen), separate_keys)
    assert (keys.of(chosen)[0] == "").any()  # the smallest network lacks blocks
    assert (keys.of([net.space.largest]) != "").all()


def test_no_architectures_give_no_keys() -> None:
    net = supernet("digits")
    assert BlockKeys(net).of([]).shape == (0, len(net.family.blocks))


def test_each_combination_is_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = supernet("tiny")
    lowered, block_keys = [], Network.block_keys

    def counted(network: Network) -> dict[str, str]:
        lowered.append(network)
        return block_keys(network)

    monkeypatch.setattr(Network, "block_keys", counted)
    rng = np.random.default_rng(2)
    many = [net.space.sample(rng) for _ in range(1000)]
    keys = BlockKeys(net)
    table = keys.of(many)
    assert len(lowered) < 250
    before = len(lowered)
    assert np.array_equal(keys.of(many[::-1]), table[::-1])
    assert len(lowered) == before


def test_the_model_of_a_key_equals_the_block() -> None:
    net = supernet("digits")
    rng = np.random.default_rng(4)
    architecture = net.space.sample(rng)
    keys = BlockKeys(net)
    names = [n for n in net.family.blocks if n not in net.family.dropped(architecture)]
    row = [key for key in keys.of([architecture])[0].tolist() if key]
    module = net.extract(architecture)
    for name, key in zip(names, row, strict=True):
        model = keys.model(key)
        assert model.key == key
        (alone,) = network_of(traced(net, architecture), net.family.example(2), [name]).block_models()
        assert model.inputs == alone.inputs
        x = torch.randn(4, *model.inputs[0].shape, generator=torch.Generator().manual_seed(0))
        if name != "head":  # includes the pooling after it
            assert difference(run(alone.model, x), outputs(module.get_submodule(name), x)) <= 1e-4
        assert run(model.model, x).shape == run(alone.model, x).shape


def test_an_unknown_key_is_rejected() -> None:
    with pytest.raises(KeyError, match="'nothing'"):
        BlockKeys(supernet("digits")).model("nothing")


class Pooled(nn.Module):
    """A layer with an optional part, an optional second layer, an activation outside of layers, and a pooling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"first": nn.Sequential(OrderedDict(conv=nn.Conv2d(1, width, 3), part=nn.ReLU()))})
        self.layers["second"] = nn.Sequential(nn.Conv2d(width, width, 1), nn.Sigmoid())
        self.activation, self.head = nn.Tanh(), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        if hasattr(self, "activation"):
            x = self.activation(x)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class PooledFamily(Family):
    """A family whose blocks differ by the following block and by dropped parts."""

    name = "pooled"
    blocks = ("layers.first", "layers.second", "head")

    def __init__(self, optional: Mapping[str, str]) -> None:
        """A family in which the modules with these names are left out if the choice is 0."""
        self.optional = optional
        self.space = SearchSpace([Choice("width", (4, 8)), Choice("second", (0, 1)), Choice("part", (0, 1))])

    def template(self) -> nn.Module:
        return Pooled(8)

    def named_dims(self) -> Mapping[str, NamedDims]:
        return {"layers.first.conv.weight": ("width", ...), "layers.second.0.weight": ("width", ...)}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        values = self.space.values(architecture)
        return frozenset(module for choice, module in self.optional.items() if not values[choice])

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 1, 6, 6)

    def to_json(self) -> dict[str, object]:
        return {"family": self.name, **self.optional}


@pytest.mark.parametrize(("part", "n_keys"), [("layers.first.part", 8), ("activation", 6)])
def test_keys_depend_on_the_following_block_and_on_dropped_parts(part: str, n_keys: int) -> None:
    family = PooledFamily({"second": "layers.second", "part": part})
    net = Supernet(family, ChainSharing(family)).eval()
    architectures = family.space.enumerate()
    keys = BlockKeys(net).of(architectures)
    assert np.array_equal(keys, one_by_one(net, architectures))
    # Width, with or without its part, pooled or followed by the second, which the activation then belongs to.
    assert len(set(keys[:, 0].tolist())) == n_keys
    assert len(set(keys[:, 2].tolist())) == 2
