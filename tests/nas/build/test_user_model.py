"""`nas.supernet_of`: a supernet of a module at hand."""

from __future__ import annotations

import torch

import nas
from supernets.capture.proof import difference
from tests.errors import raises
from tests.supernets.capture.networks import example, network


def test_the_largest_subnet_is_the_module() -> None:
    module, x = network("resnet").eval(), example("resnet", 3, seed=5)
    supernet = nas.supernet_of(module, example("resnet", 2))
    with torch.no_grad():
        found = supernet.extract(supernet.space.largest)(x)
        assert difference([module(x)], [found]) <= 1e-5
    assert supernet.cost(supernet.space.smallest).macs < supernet.cost(supernet.space.largest).macs


def test_options_choose_the_space() -> None:
    whole = nas.supernet_of(network("resnet"), example("resnet", 2), granularity="model", widths=(0.5, 1.0))
    assert {choice.name for choice in whole.space.choices} == {"depth", "width"}
    with raises("capture.nothing-elastic"):
        nas.supernet_of(network("resnet"), example("resnet", 2), keep=("*",))
