"""Experts that are merged where a network keeps fewer, beside means that are computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.sharing.base import Supernet
from supernets.sharing.chain import ChainSharing
from supernets.sharing.spec import SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import EXPERTS, LLAMA, ONE_ROUTER, SIZES, texts

LAYER = "layers.0.mlp"


def made(**space: Any) -> Supernet:
    """A supernet with random weights, of networks that differ in their experts alone."""
    sizes: dict[str, Any] = {"hidden": (1,), "experts": (2, 3, 5), "active_experts": (1, 2), **space}
    spec = DecoderSpec(head_size=4, depth=(1,), width=(12,), heads=(2,), queries=(1,), **sizes)
    torch.manual_seed(0)
    return invariants.randomised(make_supernet(DecoderFamily(spec, **SIZES), SharingSpec(experts="merged"))).eval()


def fit(supernet: Supernet) -> None:
    merging = cast(ChainSharing, supernet.sharing).merging
    assert merging is not None
    merging.fit(supernet.sharing.template, supernet.extract(supernet.space.largest), [texts(), texts(seed=1)])


def network(supernet: Supernet, experts: int) -> Architecture:
    """The one of so many experts, one for each token."""
    values = {"experts": experts, "active_experts": 1}
    return supernet.space.canonical([c.options.index(values.get(c.kind, c.options[0])) for c in supernet.space.choices])


def routed(supernet: Supernet) -> Tensor:
    """The logits of the largest network's router, (tokens, experts)."""
    found: list[Tensor] = []
    largest = supernet.extract(supernet.space.largest)
    largest.get_submodule(f"{LAYER}.router").register_forward_hook(lambda _, __, output: found.append(output))
    with torch.no_grad():
        largest(torch.cat([texts(), texts(seed=1)]))
    return found[0].flatten(0, -2)


def test_experts_are_means_weighted_by_the_usage_of_one_expert_for_each_token() -> None:
    supernet = made()  # one neuron each: nothing to align
    largest = supernet.weights(supernet.space.largest)
    before = {name: largest[f"{LAYER}.{name}"].clone() for name in ("up", "gate", "down", "router.weight")}
    logits = routed(supernet)
    fit(supernet)
    usage = [float((logits.argmax(1) == i).double().mean()) for i in range(5)]
    leaders = sorted(range(5), key=lambda i: -usage[i])[:3]
    members: list[list[int]] = [[leader] for leader in leaders]
    for i in set(range(5)) - set(leaders):
        own = [float(torch.cosine_similarity(logits[:, i], logits[:, leader], dim=0)) for leader in leaders]
        members[int(np.argmax(own))].append(i)
    came = supernet.weights(network(supernet, 3))
    for name, stored in before.items():
        wanted = []
        for own in members:
            shares = torch.tensor([usage[i] for i in own])
            wanted.append(torch.tensordot(shares / shares.sum(), stored[own], 1))
        torch.testing.assert_close(came[f"{LAYER}.{name}"], torch.stack(wanted))


@torch.no_grad()
def test_copies_with_other_orders_of_neurons_are_merged_into_the_same_expert() -> None:
    supernet, ids = made(hidden=(6,)), texts()
    largest, rng = supernet.weights(supernet.space.largest), torch.Generator().manual_seed(2)
    for i in range(1, 5):
        order = torch.randperm(6, generator=rng)
        for name in ("up", "gate"):
            largest[f"{LAYER}.{name}"][i] = largest[f"{LAYER}.{name}"][0][order]
        largest[f"{LAYER}.down"][i] = largest[f"{LAYER}.down"][0][:, order]
    whole = supernet(ids, supernet.space.largest)
    fit(supernet)
    for architecture in (supernet.space.largest, *(network(supernet, n) for n in (2, 3, 5))):
        assert invariants.relative(supernet(ids, architecture), whole) <= invariants.RELATIVE
    up = largest[f"{LAYER}.up"]
    most = int(routed(supernet).argmax(1).bincount().argmax())
    up[most] = up[most].flip(0)  # and without alignment, they would not be
    assert invariants.relative(supernet(ids, network(supernet, 2)), whole) > 1000 * invariants.RELATIVE


def test_the_largest_network_stays_and_all_experts_learn_from_a_smaller_one() -> None:
    supernet, ids = made(hidden=(4, 6)), texts()
    with torch.no_grad():
        before, few = (supernet(ids, own) for own in (supernet.space.largest, network(supernet, 2)))
        fit(supernet)
        assert invariants.relative(supernet(ids, supernet.space.largest), before) <= invariants.RELATIVE
        assert invariants.relative(supernet(ids, network(supernet, 2)), few) > 1000 * invariants.RELATIVE
    supernet(ids, network(supernet, 2)).square().sum().backward()
    gradient = supernet.sharing.get_parameter(f"stored.{LAYER}.up").grad
    assert gradient is not None
    asked = routed(supernet).argmax(1).bincount(minlength=5) > 0
    assert torch.equal(gradient.abs().sum((1, 2)) > 0, asked)


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        (LLAMA, "space.experts"),
        (DecoderFamily(replace(EXPERTS.spec, experts=(5,)), **SIZES), "space.experts"),
        (DecoderFamily(replace(EXPERTS.spec, gates="equal"), **SIZES), "equal gates"),
        (ONE_ROUTER, "routers of their layers"),
    ],
)
def test_spaces_without_experts_to_merge_are_rejected(family: DecoderFamily, problem: str) -> None:
    with raises("sharing.invalid", "experts: ", problem):
        make_supernet(family, SharingSpec(experts="merged"))
