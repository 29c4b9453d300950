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


class Keeping(Twice):
    """Keeps what it computes, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None
        self.by_size: dict[int, Tensor] = {}
        self.calls = 0

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        if self.kept is None:
            self.kept = x.new_ones(3) * self.first.bias
        if 3 not in self.by_size:
            self.by_size[3] = x.new_full((3,), 2.0)
        return (self.first(x) * self.kept + self.by_size[3],)


def test_what_a_forward_keeps_is_dropped() -> None:
    module = Keeping()
    recorded(module, "cpu")
    assert (module.kept, module.by_size, module.calls) == (None, {}, 0)


class Writing(Twice):
    """Writes a result into a tensor that it made."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        steps = torch.arange(1.0, 4.0)
        sums = torch.cumsum(steps, 0, out=torch.empty(3))
        return (x * steps + sums,)


def test_the_argument_that_an_operation_writes_is_the_one_that_changes() -> None:
    captured = capture(Writing(), [torch.randn(2, 3)])
    values = [tensor.tolist() for name, tensor in captured.tensors.items() if name.startswith("constants.")]
    assert sorted(values) == [[1.0, 2.0, 3.0], [1.0, 3.0, 6.0]]


class Mapping(Twice):
    """Makes a mask with torch.vmap."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = torch.arange(3)
        mask = torch.vmap(torch.vmap(lambda i, j: i <= j, (None, 0)), (0, None))(rows, rows)
        return (x @ mask.float(),)


def test_masks_by_vmap_are_constants() -> None:
    captured = capture(Mapping(), [torch.randn(2, 3)])
    (mask,) = [tensor for name, tensor in captured.tensors.items() if name.startswith("constants.")]
    assert torch.equal(mask.float(), torch.ones(3, 3).triu())


class Catching(Twice):
    """Goes another way where a value cannot be read."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        try:
            return (x * x.sum().item(),)
        except Exception:
            return (x * 7,)


def test_an_error_that_the_forward_catches_is_raised() -> None:
    with raises("capture.data-dependent", "item()"):
        recorded(Catching(), "cpu")


def test_the_callers_autocast_is_left_out() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        trace = recorded(Twice(), "cpu")
    assert all(node.meta["val"].dtype is torch.float32 for node in trace.graph.nodes if node.op == "call_function")
