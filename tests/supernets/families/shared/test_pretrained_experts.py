"""Experts made of the MLPs of a network: all of them compute what it did, in every family and by every partition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.families.shared.pretrained_experts import (
    Partition,
    check_experts,
    dense_family,
    experts_of_dense,
    with_attention_copies,
)
from supernets.families.shared.transformer_family import TransformerFamily
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families.decoder import test_decoder_family as test_decoder
from tests.supernets.families.encoder import test_encoder_family as test_encoder
from tests.supernets.families.vision_transformer import test_vit_encoder_family as test_vit

HIDDEN = 28
PARTS: dict[str, Any] = {"experts": (2, 4), "active_experts": (1, 2, 4), "hidden": (3, 7), "gates": "equal"}
COPIES: dict[str, Any] = {"experts": (2, 3), "active_experts": (1, 3), "hidden": (10, 28), "gates": "softmax"}
DENSE: dict[str, tuple[Any, Tensor]] = {
    "llama": (test_decoder.LLAMA, test_decoder.texts()),
    "gpt2": (test_decoder.GPT2, test_decoder.texts()),
    "encoder": (test_encoder.FAMILY, test_encoder.sentences()),
    "vit-encoder": (test_vit.FAMILY, test_vit.noise(16)),
}


def with_experts(dense: Any, options: dict[str, Any]) -> TransformerFamily:
    found: TransformerFamily = type(dense)(
        replace(dense.spec, **options), **{name: getattr(dense, name) for name in dense.numbers}
    )
    return found


def converted(
    dense: Any, options: dict[str, Any], inputs: Tensor, partition: Partition = "co-activation"
) -> tuple[Supernet, Supernet]:
    """A dense supernet, and one of experts made of its largest network."""
    family = with_experts(dense, options)
    plain = dense_family(family, HIDDEN)
    net = invariants.randomised(make_supernet(plain))  # type: ignore[arg-type]
    tensors = net.weights(net.space.largest)
    rng = np.random.default_rng(0)
    own = experts_of_dense(family, plain, tensors, partition, [inputs], rng)
    return net, make_supernet(family, pretrained=own)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [PARTS, COPIES], ids=["parts", "copies"])
@pytest.mark.parametrize("name", DENSE)
@torch.no_grad()
def test_with_all_experts_active_the_network_is_the_dense_one(name: str, options: dict[str, Any]) -> None:
    dense, inputs = DENSE[name]
    net, experts = converted(dense, options, inputs)
    expected = net.extract(net.space.largest)(inputs)
    assert invariants.relative(experts(inputs, experts.space.largest), expected) <= invariants.RELATIVE


@pytest.mark.parametrize("options", [{}, PARTS, COPIES], ids=["attention", "attention-and-parts", "both-copies"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_attention_experts_are_copies_that_compute_what_one_attention_did(name: str, options: dict[str, Any]) -> None:
    dense, inputs = DENSE[name]
    family = with_experts(dense, {**options, "attention_experts": (1, 3)})
    plain: Any = dense_family(family, HIDDEN if options else None)
    net = invariants.randomised(make_supernet(plain))
    assert plain.spec.attention_experts is None
    tensors = net.weights(net.space.largest)
    if options:
        tensors = experts_of_dense(family, plain, tensors, "co-activation", [inputs], np.random.default_rng(0))
    else:
        tensors = family.template().state_dict() | tensors
    experts = make_supernet(family, pretrained=with_attention_copies(family, tensors))  # type: ignore[arg-type]
    expected = net.extract(net.space.largest)(inputs)
    names, largest = [choice.name for choice in experts.space.choices], experts.space.largest
    genes = [0 if "attention" in name else gene for name, gene in zip(names, largest.genes, strict=True)]
    for architecture in (largest, experts.space.canonical(genes)):
        assert invariants.relative(experts(inputs, architecture), expected) <= invariants.RELATIVE


@torch.no_grad()
def test_the_same_with_one_router_for_all_layers() -> None:
    dense, inputs = DENSE["llama"]
    net, experts = converted(dense, PARTS | {"routers": "shared"}, inputs)
    expected = net.extract(net.space.largest)(inputs)
    assert invariants.relative(experts(inputs, experts.space.largest), expected) <= invariants.RELATIVE


@pytest.mark.parametrize("partition", get_args(Partition))
@torch.no_grad()
def test_every_partition_is_of_all_neurons(partition: Partition) -> None:
    dense, inputs = DENSE["llama"]
    net, experts = converted(dense, PARTS, inputs, partition)
    up = experts.weights(experts.space.largest)["layers.1.mlp.up"].flatten(0, 1)
    own = net.weights(net.space.largest)["layers.1.mlp.up.weight"]
    assert torch.equal(up.sort(dim=0).values, own.sort(dim=0).values)
    largest, fewer = experts.space.largest, list(experts.space.largest.genes)
    for i in experts.space.kinds["active_experts"]:
        fewer[i] = 1
    expected = net(inputs, net.space.largest)
    error = (experts(inputs, experts.space.canonical(fewer)) - expected).std() / expected.std()
    assert 1e-3 < error < 1
    assert invariants.relative(experts(inputs, largest), expected) <= invariants.RELATIVE


@torch.no_grad()
def test_routers_choose_better_than_chance() -> None:
    dense, inputs = DENSE["llama"]
    net, experts = converted(dense, PARTS, inputs)
    expected = net(inputs, net.space.largest)
    half = experts.space.canonical(
        [1 if c.kind == "active_experts" else len(c.options) - 1 for c in experts.space.choices]
    )
    fitted = (experts(inputs, half) - expected).std()
    errors = []
    for seed in range(5):
        torch.manual_seed(seed)
        for name, parameter in experts.sharing.named_parameters():
            if "router" in name:
                parameter.normal_()
        errors.append((experts(inputs, half) - expected).std())
    assert fitted < min(errors)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"experts": (3,)}, "experts: 3 experts do not divide MLPs of 28 channels | 2, 4, 7, 14, 28"),
        (
            {"hidden": (3, 6)},
            "hidden: 4 experts of an MLP of 28 channels have 7 each | end it in 7, or in 28 for copies",
        ),
        ({"gates": "softmax"}, "gates: | got softmax | equal"),
        ({"hidden": (7, 28)}, "gates: factors of copies"),
        ({"shared_hidden": 4}, "shared_hidden: "),
    ],
)
def test_experts_that_cannot_be_made_of_mlps(changes: dict[str, Any], error: str) -> None:
    active = {"active_experts": (1,)} if "experts" in changes else {}
    with raises("space.invalid", *error.split(" | ")):
        check_experts(replace(test_decoder.SPEC, **{**PARTS, **active, **changes}), HIDDEN)
