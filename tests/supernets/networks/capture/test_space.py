"""Widths of layers that are left out are no choices: different architectures are different networks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas
from supernets.networks.capture.space import Granularity
from supernets.sharing.base import Supernet
from supernets.space import INACTIVE, Architecture
from tests.errors import raises
from tests.supernets.networks.capture.networks import example, network


def networks_of(made: Supernet) -> set[tuple[object, ...]]:
    """The names and shapes of the tensors of every network, with a gene for each choice, whether it applies or not."""
    found = set()
    for genes in itertools.product(*(range(n) for n in made.space.levels)):
        state = made.family.build(Architecture(genes)).state_dict()
        found.add(tuple((name, *tensor.shape) for name, tensor in state.items() if not name.startswith("axis_sizes")))
    return found


@pytest.mark.parametrize(
    ("name", "granularity"),
    [("resnet", "stage"), ("mobile", "stage"), ("transformer", "stage"), ("transformer", "model"), ("mobile", "model")],
)
def test_a_space_has_each_network_once(name: str, granularity: Granularity) -> None:
    made = nas.supernet_of(network(name), example(name, 2), granularity=granularity, widths=(0.5, 1), sort=False)
    assert len(networks_of(made)) == made.space.size


@pytest.mark.parametrize(("name", "kept"), [("resnet", "layer2*"), ("mobile", "head*")])
def test_a_space_of_single_layers_has_each_network_once(name: str, kept: str) -> None:
    made = nas.supernet_of(
        network(name), example(name, 2), granularity="layer", widths=(0.5, 1), sort=False, keep=("stem*", kept)
    )
    assert len(networks_of(made)) == made.space.size


class Two(nn.Module):
    """Two branches of different widths."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.one, self.other = (nn.Sequential(nn.Linear(16, n), nn.ReLU(), nn.Linear(n, 16)) for n in widths)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x)
        return x + self.other(x)


class Layers(nn.Module):
    """Three layers between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.layers = nn.Sequential(Two(32, 48), Two(32, 48), Two(32, 64))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(self.first(x)))
        return out


def test_the_width_of_a_layer_applies_where_enough_layers_are_kept() -> None:
    made = nas.supernet_of(Layers(), torch.randn(2, 8), widths=(0.5, 1))
    needed = {choice.name: choice.requires for choice in made.space.choices}
    assert needed == {
        "layers.depth": None,
        "first.out.16.width": None,
        "layers.*.one.*.out.32.width": ("layers.depth", 1),
        "layers.*.other.*.out.48.width": ("layers.depth", 1),
        "layers.*.other.*.out.64.width": ("layers.depth", 2),  # the last layer is the second to be kept
    }
    assert len(networks_of(made)) == made.space.size
    one = made.space.canonical([1, 1, 0, 0, 0])
    assert one.genes[-1] == INACTIVE
    x = torch.randn(3, 8)
    with torch.no_grad():
        torch.testing.assert_close(made.extract(one)(x), made(x, one))


@pytest.mark.parametrize(
    ("module", "x", "changes", "code", "words"),
    [
        (nn.Linear(4, 4), torch.randn(2, 4), {"granularity": "fine"}, "space.invalid", "layer, stage, model"),
        (nn.Linear, torch.randn(2, 4), {}, "capture.failed", "class Linear"),
        (nn.Linear(4, 4), [torch.randn(2, 4)], {}, "capture.example", "list of 1"),
    ],
)
def test_wrong_arguments_of_a_supernet_are_named(
    module: Any, x: Any, changes: dict[str, Any], code: str, words: str
) -> None:
    with raises(code, words):
        nas.supernet_of(module, x, **changes)
