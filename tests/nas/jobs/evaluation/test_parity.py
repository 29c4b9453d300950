"""Networks as ONNX models before the training: one that would be measured as another network is named with its operation."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nas
from nas.jobs.evaluation.parity import MAX_PARITY, accepted_difference, check_as_onnx, difference_of, rounding_of
from nas.jobs.run.preparation import check_as_models
from supernets.networks.capture.program import Call
from supernets.networks.lowering.state import Lowering
from supernets.networks.onnx_graph.ir import Value
from supernets.networks.operations.registry import LOWERED
from tests.errors import raises
from tests.nas.jobs.build.jobs import prepared


class Bounded(nn.Module):
    """Two convolutions with a tanh between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.first(x)))
        outputs: Tensor = self.head(torch.relu(self.second(x)).mean((2, 3)))
        return outputs


def _as_sigmoid(low: Lowering, call: Call) -> Value:
    """The ONNX of another operation."""
    return low.add("Sigmoid", low.value(next(call.reads())))


@pytest.fixture
def wrong_tanh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes the operation tanh as another one."""
    monkeypatch.setitem(LOWERED, "tanh", _as_sigmoid)


def network() -> nn.Module:
    torch.manual_seed(0)
    supernet = nas.supernet_of(Bounded(), torch.randn(2, 1, 8, 8))
    return supernet.extract(supernet.space.smallest)


def test_a_network_that_is_written_as_it_computes_passes() -> None:
    check_as_onnx(network(), torch.randn(3, 1, 8, 8))


@pytest.mark.usefixtures("wrong_tanh")
def test_a_wrong_operation_is_named_with_its_place() -> None:
    with raises("export.outputs-differ", "in onnxruntime differ from torch's", "begins with tanh", "test_parity.py:"):
        check_as_onnx(network(), torch.randn(3, 1, 8, 8))


def test_fresh_weights_do_not_hide_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed gate multiplies what it gates by zero: whatever is written there would pass."""
    module = network()
    with torch.no_grad():
        module.get_parameter("head.weight").zero_()
    check_as_onnx(module, torch.randn(3, 1, 8, 8))
    monkeypatch.setitem(LOWERED, "tanh", _as_sigmoid)
    with raises("export.outputs-differ"):
        check_as_onnx(module, torch.randn(3, 1, 8, 8))


def test_a_job_says_so_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_as_models(prepared(tmp_path, ""))
    monkeypatch.setitem(LOWERED, "relu", _as_sigmoid)
    with raises(
        "export.outputs-differ",
        "job.yaml: the smallest network",
        "begins with relu of stem.act (convolutional/mobile_cnn_family.py:",
        "other operations",
    ):
        check_as_models(prepared(tmp_path, ""))


def test_roundings_of_equal_rows_are_no_difference() -> None:
    expected = np.full((3, 1), 0.089, dtype=np.float32)
    rounded = np.nextafter(np.nextafter(expected, np.float32(1)), np.float32(1))
    assert difference_of(rounded, expected) <= MAX_PARITY < difference_of(expected * np.float32(1 + 1e-5), expected)


class Cancelling(nn.Module):
    """A network in which large values cancel each other, so that single precision keeps few digits of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 512), nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        large = 3e3 * hidden.exp()
        zero = large.mean(1, keepdim=True) - (3 * large).mean(1, keepdim=True) / 3
        outputs: Tensor = self.last(torch.tanh(hidden + zero))
        return outputs


class Mixed(nn.Module):
    """A layer whose forward names the precision of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(x.float())
        return outputs


def cancelling() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    inputs = torch.randn(3, 64)
    supernet = nas.supernet_of(Cancelling(), inputs)
    return supernet.extract(supernet.space.smallest), inputs


def test_outputs_may_differ_by_as_much_as_single_precision_rounds() -> None:
    module, inputs = cancelling()
    assert accepted_difference(rounding_of(copy.deepcopy(module), inputs)) > 5 * MAX_PARITY
    check_as_onnx(module, inputs)
    assert all(p.dtype == torch.float32 for p in module.parameters())


@pytest.mark.usefixtures("wrong_tanh")
def test_a_wrong_operation_of_a_network_that_rounds_is_rejected() -> None:
    with raises("export.outputs-differ", "(at most 0.0"):
        check_as_onnx(*cancelling())


def test_the_difference_that_is_accepted_has_limits() -> None:
    assert accepted_difference(0.0) == accepted_difference(1e-6) == MAX_PARITY
    assert accepted_difference(2e-4) == pytest.approx(2e-3)
    assert accepted_difference(1.0) == 1e-2


def test_a_network_that_names_a_precision_is_held_to_the_smallest_difference() -> None:
    assert rounding_of(Mixed(), torch.randn(2, 4)) == 0
    assert 0 < rounding_of(Mixed().layer, torch.randn(2, 4)) < 1e-6
