"""`onnx_model` uses `lower` where it can, and torch's exporter otherwise."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from nas import supernet_of
from supernets.networks import module_to_onnx
from supernets.networks.module_to_onnx import INPUT, OUTPUT, lower, onnx_model
from tests.errors import raises
from tests.supernets.networks.plain_networks import difference, mobilenet, outputs, prepared, run


class Spectrum(nn.Module):
    """An operation that torch's exporter supports and `lower` does not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.fft.rfft(x, dim=1).abs())


class Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


def test_known_operations_need_no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*_: object) -> bytes:
        raise AssertionError("torch's exporter was called")

    monkeypatch.setattr(module_to_onnx, "to_onnx", reject)
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    module = prepared(mobilenet(gated=False), x)
    model = onnx_model(module, x[:2])
    assert model == lower(module, x)
    assert difference(run(model, x), outputs(module, x)) <= 1e-4


def test_unknown_operations_go_to_torchs_exporter() -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    module = Spectrum().eval()
    with raises("export.unknown-operation", "fft_rfft"):
        lower(module, x)
    model = onnx_model(module, x[:2])
    onnx.checker.check_model(model, full_check=True)
    graph = onnx.load_model_from_string(model).graph
    assert [graph.input[0].name, graph.output[0].name] == [INPUT, OUTPUT]
    for batch in (1, 2, 5):
        assert difference(run(model, x[:batch]), outputs(module, x)[:batch]) <= 1e-5


def test_unknown_operations_of_captured_networks_go_to_torchs_exporter() -> None:
    class Windowed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x.reshape(x.shape[0] * 2, 4))
            y = torch.xlogy(y, y.abs() + 1)
            return self.last(y.view(x.shape[0], 2, 16).mean(dim=1))

    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    supernet = supernet_of(Windowed(), x[:2])
    module = supernet.extract(supernet.space.smallest).eval()
    with raises("export.unknown-operation", "xlogy"):
        lower(module, x)
    model = onnx_model(module, x[:2])
    for batch in (1, 2, 5):
        assert difference(run(model, x[:batch]), outputs(module, x)[:batch]) <= 1e-5


def test_an_operation_in_place_on_a_tensor_read_again_goes_to_torchs_exporter() -> None:
    class Preactivated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.act = nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.first(x)
            z: Tensor = self.second(self.act(y))
            return y + z

    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    module = Preactivated().eval()
    assert difference(run(onnx_model(module, x[:2]), x), outputs(module, x)) <= 1e-5


def test_a_module_that_both_reject_is_reported_with_both_reasons() -> None:
    with raises("export.unsupported", "torch's exporter rejected", "values of its input"):
        onnx_model(Untraceable().eval(), torch.zeros(2, 3))


def test_torchs_exporter_without_the_package_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_to_onnx, "find_spec", lambda name: None)
    with raises("part.missing", "onnxscript", "pip install 'subnet-nas[onnx-dynamo]'"):
        onnx_model(Spectrum().eval(), torch.zeros(2, 6))
