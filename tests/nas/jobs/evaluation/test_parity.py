"""Networks as ONNX models before the training: one that would be measured as another network is named with its operation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nas
from nas.jobs.evaluation.parity import MAX_PARITY, check_as_onnx, difference_of
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
