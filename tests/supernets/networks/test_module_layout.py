"""Layouts of modules: equal for copies and for other values of tensors, different for any other change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from supernets.networks.module_layout import layout_of


def module() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.1))
    net.settings = SimpleNamespace(scale=2.0, sizes=[1, 2], names={"a": 1})  # type: ignore[assignment]
    net.origin = object()  # type: ignore[assignment]
    net.again = nn.ModuleDict({"same": net[2], "first": None, "last": nn.LeakyReLU(0.1)})  # type: ignore[dict-item]
    return net.eval()


def test_copies_and_other_values_have_the_same_layout() -> None:
    net = module()
    before = layout_of(net, "origin")
    for tensor in net.parameters():
        tensor.data.add_(1)
    assert layout_of(net, "origin") == before
    net.origin = object()  # type: ignore[assignment]
    assert layout_of(copy.deepcopy(net), "origin") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net[1], "eps", 1e-3),
        lambda net: setattr(net[2], "negative_slope", 0.2),
        lambda net: setattr(net[0], "bias", None),
        lambda net: setattr(net[0], "weight", nn.Parameter(torch.zeros(4, 3, 1, 1))),
        lambda net: setattr(net.settings, "scale", 3.0),
        lambda net: net.settings.sizes.append(3),
        lambda net: net.settings.names.update(a=2),
        lambda net: setattr(net, "function", torch.relu),
        lambda net: net.register_buffer("more", torch.zeros(1)),
        lambda net: net.append(nn.Identity()),
        lambda net: net.append(net[0]),
        lambda net: setattr(net.again, "same", net[1]),
        lambda net: setattr(net.again, "same", nn.LeakyReLU(0.1).eval()),
        lambda net: setattr(net.again, "same", net.again.last),
        lambda net: net.again.update({"first": net.again.last, "last": None}),
        lambda net: setattr(net.again, "whole", net),
    ],
)
def test_changes(change: Callable[[Any], object]) -> None:
    net = module()
    before = layout_of(net)
    change(net)
    assert layout_of(net) != before


def test_tensors_that_are_attributes_are_followed_in_place() -> None:
    net = module()
    net.scale = torch.ones(3)
    before = layout_of(net)
    net.scale.mul_(2)
    assert layout_of(net) != before
