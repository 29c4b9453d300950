"""Networks of the families are exported, costed and keyed as by an earlier version, to the byte.

``tests/data/network_digests.json.gz`` was recorded before families were lowered by captured programs. Exports of users, their
tables of block latencies and their costs depend on what is compared here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from supernets.sharing.base import Supernet
from supernets.space import Architecture
from tests.data.network_digests import (
    NETWORK,
    NetworkDigests,
    digest_networks,
    read_digests,
    recorded_outputs,
    supernet_from_json,
)

SPACES = read_digests()
N_COMPARED = 3
"""The smallest network, the largest and a random one."""
FAST = (0, 2)
"""Indices of the smallest network and the random one, which take half as long as with the largest."""
STEP = 3
"""Of the further networks, which differ in single options, one of so many is compared."""
OUTPUT_TOLERANCE = 1e-6
"""Relative to the largest output: eight units in the last place of single precision, by which graphs with other fusions differ.
It applies to models whose bytes differ, and only where outputs are recorded (of encoder-decoders)."""


@pytest.mark.parametrize("name", sorted(SPACES))
def test_some_networks_are_as_before(name: str) -> None:
    networks = SPACES[name].networks
    check_networks(name, [networks[i] for i in FAST if i < len(networks)])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SPACES))
def test_the_largest_and_many_recorded_networks_are_as_before(name: str) -> None:
    networks = SPACES[name].networks
    # A single network is its own largest.
    check_networks(name, [*networks[1:2], *networks[N_COMPARED::STEP]] or networks)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_recorded_networks_differ_in_all_that_is_compared(name: str) -> None:
    """Otherwise equality would prove little."""
    for one, other in combinations(SPACES[name].networks[:N_COMPARED], 2):
        assert one.models[NETWORK] != other.models[NETWORK]
        assert one.costs != other.costs
        assert one.block_costs != other.block_costs
        assert one.block_keys is None or one.block_keys != other.block_keys


def check_networks(name: str, recorded: Sequence[NetworkDigests]) -> None:
    """Asserts that networks of a recorded space have their recorded digests."""
    supernet = supernet_from_json(SPACES[name].family)
    check_ends(supernet, name)
    architectures = [Architecture.parse(network.architecture) for network in recorded]
    for before, now in zip(recorded, digest_networks(supernet, architectures), strict=True):
        network = f"{name} {before.architecture}"
        assert now.costs == before.costs, network
        assert now.block_costs == before.block_costs, network
        # A later version may find blocks in networks that an earlier one could not divide.
        assert before.block_keys is None or now.block_keys == before.block_keys, network
        assert now.models.keys() == before.models.keys(), network
        check_models(before, now, network)


def check_ends(supernet: Supernet, name: str) -> None:
    """Asserts that the first recorded networks of a space are its smallest and its largest."""
    ends = [network.architecture for network in SPACES[name].networks[:2]]
    assert ends == [supernet.space.smallest.key, supernet.space.largest.key][: len(ends)]


def check_models(before: NetworkDigests, now: NetworkDigests, network: str) -> None:
    """Asserts that models are equal in bytes or, where outputs are recorded, nearly equal in outputs."""
    outputs_before, outputs_now = recorded_outputs(before), recorded_outputs(now)
    for model, digest in before.models.items():
        if now.models[model] != digest:
            assert model in outputs_before, f"the model {model!r} of {network} differs"
            difference = np.abs(outputs_now[model] - outputs_before[model]).max()
            scale = float(np.abs(outputs_before[model]).max())
            assert difference <= OUTPUT_TOLERANCE * scale, f"outputs of the model {model!r} of {network} differ"
