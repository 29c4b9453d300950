"""Block keys over a space equal those of lowering each network separately, with few lowerings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernets import blocks
from supernets.axes import Axes, Axis, Dim
from supernets.base import Supernet
from supernets.blocks import BlockKeys
from supernets.families.shared.module_costs import ModuleCosts
from supernets.graph import block_keys, lower_blocks
from supernets.sharing.chain import ChainSharing
from supernets.space import Architecture, Choice, SearchSpace
from tests.errors import raises
from tests.supernets.plain_networks import difference, outputs, run
from tests.supernets.test_graph import architectures, supernet

SHAPE = (1, 28, 28)


def one_by_one(net: Supernet, chosen: Sequence[Architecture], shape: tuple[int, ...]) -> list[list[str]]:
    """The oracle: every network extracted and lowered."""
    found = [block_keys(net.extract(a), shape, net.family.blocks) for a in chosen]
    return [[keys.get(name, "") for name in net.family.blocks] for keys in found]


def test_keys_equal_those_of_each_network_lowered_separately() -> None:
    net = supernet("tiny")
    chosen = architectures(net, 30)
    keys = BlockKeys(net)
    first = keys.of(chosen[:10])  # the second call finds some of them cached
    assert first.shape == (10, len(net.family.blocks))
    assert np.array_equal(first, one_by_one(net, chosen[:10], SHAPE))
    assert np.array_equal(keys.of(chosen), one_by_one(net, chosen, SHAPE))
    assert (keys.of(chosen)[0] == "").any()  # the smallest network lacks blocks
    assert (keys.of([net.space.largest]) != "").all()


def test_no_architectures_give_no_keys() -> None:
    net = supernet("digits")
    assert BlockKeys(net).of([]).shape == (0, len(net.family.blocks))


def test_each_combination_is_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = supernet("tiny")
    lowered = []

    def counted(*args: object) -> dict[str, str]:
        lowered.append(args)
        return block_keys(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(blocks, "block_keys", counted)
    rng = np.random.default_rng(2)
    many = [net.space.sample(rng) for _ in range(1000)]
    keys = BlockKeys(net)
    table = keys.of(many)
    assert len(lowered) < 250
    before = len(lowered)
    assert np.array_equal(keys.of(many[::-1]), table[::-1])
    assert len(lowered) == before


def test_the_model_of_a_key_equals_the_block() -> None:
    net = supernet("tiny")
    rng = np.random.default_rng(4)
    architecture = net.space.sample(rng)
    keys = BlockKeys(net)
    names = [n for n in net.family.blocks if n not in net.family.dropped(architecture)]
    row = [key for key in keys.of([architecture])[0].tolist() if key]
    module = net.extract(architecture)
    for name, key in zip(names, row, strict=True):
        model = keys.model(key)
        assert model.key == key
        (alone,) = lower_blocks(module, SHAPE, [name])
        assert model.inputs == alone.inputs
        x = torch.randn(4, *model.inputs[0].shape, generator=torch.Generator().manual_seed(0))
        if name != "head":  # includes the pooling after it
            assert difference(run(alone.model, x), outputs(module.get_submodule(name), x)) <= 1e-4
        assert run(model.model, x).shape == run(alone.model, x).shape


def test_an_unknown_key_is_rejected() -> None:
    with pytest.raises(KeyError, match="'nothing'"):
        BlockKeys(supernet("digits")).model("nothing")


class Pooled(nn.Module):
    """A layer with an optional part, an optional second layer, and a pooling."""

    def __init__(self, width: int, *, second: bool, part: bool, squared: bool = False) -> None:
        super().__init__()
        first: dict[str, nn.Module] = {"conv": nn.Conv2d(1, width, 3)}
        if part:
            first["part"] = nn.ReLU()
        self.layers = nn.ModuleDict({"first": nn.Sequential()})
        for name, module in first.items():
            self.layers["first"].add_module(name, module)
        if second:
            self.layers["second"] = nn.Sequential(nn.Conv2d(width, width, 1), nn.Sigmoid())
        self.head = nn.Linear(width, 2)
        self.squared = squared

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        x = x * x if self.squared else x
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class PooledFamily(ModuleCosts):
    """A family whose blocks differ by the following block and by dropped parts."""

    name = "pooled"
    blocks = ("layers.first", "layers.second", "head")
    geometry: tuple[str, ...] = ()
    attention: Mapping[str, Dim] = {}

    def __init__(self) -> None:
        self.space = SearchSpace([Choice("width", (4, 8)), Choice("second", (0, 1)), Choice("part", (0, 1))])
        self.axes: Axes = {"width": Axis("width", 8)}

    def template(self, like: Architecture | None = None) -> nn.Module:
        return Pooled(8, second=True, part=True)

    def dims(self) -> Mapping[str, tuple[Dim, ...]]:
        return {
            "layers.first.conv.weight": ("width", 1, 3, 3),
            "layers.first.conv.bias": ("width",),
            "layers.second.0.weight": ("width", "width", 1, 1),
            "layers.second.0.bias": ("width",),
            "head.weight": (2, "width"),
            "head.bias": (2,),
        }

    def sizes(self, architecture: Architecture) -> Mapping[str, int]:
        return {"width": int(self.space.values(architecture)["width"])}

    def dropped(self, architecture: Architecture) -> frozenset[str]:
        values = self.space.values(architecture)
        gone = {"layers.second": not values["second"], "layers.first.part": not values["part"]}
        return frozenset(name for name, absent in gone.items() if absent)

    def build(self, architecture: Architecture) -> nn.Module:
        values = self.space.values(architecture)
        return Pooled(int(values["width"]), second=bool(values["second"]), part=bool(values["part"]))

    def example(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 1, 6, 6)

    def to_json(self) -> dict[str, object]:
        return {}


def test_keys_depend_on_the_following_block_and_on_dropped_parts() -> None:
    family = PooledFamily()
    net = Supernet(family, ChainSharing(family)).eval()  # type: ignore[arg-type]
    every = family.space.enumerate()
    keys = BlockKeys(net).of(every)
    assert np.array_equal(keys, one_by_one(net, every, (1, 6, 6)))
    assert len(set(keys[:, 0].tolist())) == 8  # width, with or without its part, pooled or followed by the second
    assert len(set(keys[:, 2].tolist())) == 2


def test_a_family_with_an_undeclared_axis_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    family = PooledFamily()
    net = Supernet(family, ChainSharing(family)).eval()  # type: ignore[arg-type]
    live = net.subnet

    def hiding(architecture: Architecture) -> nn.Module:
        module = live(architecture)
        module.squared = family.space.values(architecture)["part"] == 1  # type: ignore[assignment]
        return module

    monkeypatch.setattr(net, "subnet", hiding)
    with raises("family.inconsistent", "block layers.second"):
        BlockKeys(net).of(family.space.enumerate())
