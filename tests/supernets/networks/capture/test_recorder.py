"""The recorder of forwards: what it knows of tensors, modules and places, on each device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from supernets.networks.capture.recorder import Trace, record
from supernets.networks.capture.tracing import capture
from tests.errors import raises


class Constants(nn.Module):
    """Computes with tensors that depend on no input: some that it makes, and one that it keeps and changes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.kept = torch.tensor([1.0, 2.0, 4.0])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        steps = torch.arange(3.0)
        y = self.layer(x) * steps + self.kept
        steps += 1
        self.kept.mul_(2)
        scale = int(torch.ones_like(steps).sum())  # a number of constants
        return (y * steps * self.kept + scale + torch.zeros_like(y),)


class Twice(nn.Module):
    """Has a layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.between, self.second = nn.BatchNorm1d(3), self.first

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.between(self.first(x)).relu_()
        return (self.second(x).clamp(max=x.shape[1]),)


def calls(trace: Trace) -> list[tuple[str, str]]:
    """The operations and the modules that they are called in."""
    return [(str(node.target), node.meta["module"]) for node in trace.graph.nodes if node.op == "call_function"]


@torch.no_grad()
def recorded(module: nn.Module, device: str, *, with_zeros: bool = False) -> Trace:
    example = torch.zeros(2, 3, device="cpu" if with_zeros else device)
    return record(module.eval().to(device), (example,), with_zeros=with_zeros)


def test_constants_keep_their_values_and_the_modules_own_are_left_alone() -> None:
    module, x = Constants(), torch.randn(2, 3)
    captured = capture(module, [x])
    assert module.kept.tolist() == [1.0, 2.0, 4.0]
    values = {name: tensor.tolist() for name, tensor in captured.tensors.items() if name.startswith("constants.")}
    assert sorted(values.values()) == [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [2.0, 4.0, 8.0]]


@pytest.mark.parametrize("with_zeros", [False, True])
def test_graphs_are_the_same_on_every_device(with_zeros: bool) -> None:
    expected = calls(recorded(Twice(), "cpu"))
    assert expected == [
        ("aten.linear.default", "first"),
        ("aten.batch_norm.default", "between"),
        ("aten.relu_.default", ""),
        ("aten.linear.default", "second"),
        ("aten.clamp.default", ""),
    ]
    assert calls(recorded(Twice(), "meta", with_zeros=with_zeros)) == expected


def test_calls_have_the_place_of_the_code_that_is_not_torchs() -> None:
    places = {str(node.target): node.meta.get("place", "") for node in recorded(Twice(), "cpu").graph.nodes}
    assert Path(places["aten.clamp.default"].rpartition(":")[0]) == Path(__file__)
    assert Path(places["aten.linear.default"].rpartition(":")[0]) == Path(__file__)


def test_modules_are_left_as_they_were() -> None:
    module = Twice()
    before = {name: id(tensor) for name, tensor in module.state_dict(keep_vars=True).items()}
    recorded(module, "cpu")
    assert {name: id(tensor) for name, tensor in module.state_dict(keep_vars=True).items()} == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("with_zeros", [False, True])
def test_values_of_the_network_are_not_read(with_zeros: bool) -> None:
    class Reading(Twice):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (x * 2 if self.first.bias.sum() > 0 else x,)

    with raises("capture.data-dependent", "conditions", "torch.where"):
        recorded(Reading(), "meta" if with_zeros else "cpu", with_zeros=with_zeros)
