"""One network as a family of its own; its invariants are tested with those of all families (`sharing/test_chain.py`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supernets.families.nested_networks import NestedFamily
from supernets.families.single_network import SingleFamily
from supernets.space import Architecture
from supernets.training.checkpoint import family_from_json, make_supernet
from tests.errors import raises
from tests.supernets.families.encoder.test_encoder_family import FAMILY, sentences
from tests.supernets.invariants import randomised


@pytest.mark.parametrize("nested", [False, True])
@torch.no_grad()
def test_it_is_the_network_of_the_supernet_and_costs_what_that_does(nested: bool) -> None:
    family = NestedFamily(FAMILY) if nested else FAMILY
    supernet = randomised(make_supernet(family)).eval()
    network = family.space.sample(np.random.default_rng(1))
    single = SingleFamily(family, network)
    alone = make_supernet(single, pretrained=supernet.extract(network).state_dict()).eval()
    (only,) = single.space.enumerate()
    assert single.space.values(only) == family.space.values(network)
    assert torch.equal(alone.extract(only)(sentences()), supernet.extract(network)(sentences()))
    assert alone.cost(only).macs == supernet.cost(network).macs
    assert alone.cost(only).parameters == supernet.cost(network).parameters
    assert [name for name, _ in alone.cost(only).blocks] == [name for name, _ in supernet.cost(network).blocks]
    assert family_from_json(single.to_json()).to_json() == single.to_json()


def test_a_network_of_another_space_is_refused() -> None:
    with raises("architecture.invalid", "1 genes", "8"):
        SingleFamily(FAMILY, Architecture((0,)))
