"""Families of some networks of another family have its properties and its matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from supernets.families.captured.captured_family import CapturedFamily
from supernets.families.nested_networks import NestedFamily
from supernets.families.single_network import SingleFamily
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.sharing.base import Family
from supernets.sharing.sorting import importance
from supernets.training.checkpoint import make_supernet
from tests.supernets.families.decoder.test_decoder_family import EXPERTS, GPT2
from tests.supernets.families.encoder.test_encoder_family import FAMILY as ENCODER
from tests.supernets.sharing.families import CNN


@cache
def captured() -> CapturedFamily:
    """A family of a network that makes images smaller, and larger again."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 2, 1))
    network = capture(module.eval(), [torch.randn(2, 3, 8, 8)])
    return CapturedFamily(network.program, SpaceOptions(multiple=4), tensors=network.tensors)


WRAPPERS: list[Callable[[Family], Family]] = [
    NestedFamily,
    lambda family: SingleFamily(family, family.space.largest),
    lambda family: SingleFamily(nested := NestedFamily(family), nested.space.largest),
]


@pytest.mark.parametrize("wrapped", WRAPPERS, ids=["nested", "single", "single nested"])
@pytest.mark.parametrize(
    ("inner", "positions", "has_experts"),
    [
        (CNN, None, False),
        (ENCODER, ENCODER.positions, False),
        (GPT2, GPT2.positions, False),
        (EXPERTS, EXPERTS.positions, True),
    ],
    ids=["images", "sentences", "texts", "experts"],
)
def test_properties_are_those_of_the_inner_family(
    wrapped: Callable[[Family], Family], inner: Family, positions: int | None, *, has_experts: bool
) -> None:
    check_properties(wrapped(inner), inner, positions, has_experts=has_experts)


@pytest.mark.parametrize("wrapped", WRAPPERS, ids=["nested", "single", "single nested"])
def test_properties_are_those_of_an_inner_captured_network(wrapped: Callable[[Family], Family]) -> None:
    check_properties(wrapped(captured()), captured(), None, has_experts=False)


def check_properties(family: Family, inner: Family, positions: int | None, *, has_experts: bool) -> None:
    assert (inner.positions, inner.has_experts) == (positions, has_experts)
    assert (family.positions, family.has_experts) == (positions, has_experts)
    assert inner.matrices
    assert family.matrices == inner.matrices


def test_matrices_of_one_network_are_those_that_it_has() -> None:
    smallest = SingleFamily(CNN, CNN.space.smallest)
    weights = {name for name, tensor in smallest.template().named_parameters() if tensor.ndim > 1}
    assert smallest.matrices == dict.fromkeys(weights, (0, 1))
    assert weights < set(CNN.matrices)


def test_the_importance_of_a_captured_network_is_that_of_its_nested_ones() -> None:
    inner = captured()
    expected, nested = importance(make_supernet(inner)), importance(make_supernet(NestedFamily(inner)))
    assert nested.keys() == expected.keys() == inner.axes.keys()
    for name, values in expected.items():
        torch.testing.assert_close(nested[name], values)
