"""The check between torch and the exported file: it fails when the two differ, and when agreement would prove nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas.errors import ExportFailedError
from nas.export.bundle import MAX_PARITY, compare
from supernets.onnx_export import onnx_model
from supernets.recalibration import recalibrate
from tests.conftest import Trained


def largest(trained: Trained) -> nn.Module:
    return recalibrate(trained.supernet.extract(trained.supernet.space.largest), [trained.calibration])


@pytest.mark.parametrize("batch", [1, 8])
def test_the_same_network_agrees(trained: Trained, batch: int) -> None:
    images = trained.data.validation.images
    module = largest(trained)
    assert 0 <= compare(module, onnx_model(module, images[:2]), images[:batch].numpy()) <= MAX_PARITY


@pytest.mark.parametrize("name", ["stem.conv.weight", "head.norm.running_var", "classifier.bias"])
def test_a_single_changed_tensor_is_found(trained: Trained, name: str) -> None:
    images = trained.data.validation.images
    module = largest(trained)
    model = onnx_model(module, images[:2])
    with torch.no_grad():
        module.state_dict()[name].mul_(1.01).add_(0.001)
    with pytest.raises(ExportFailedError, match="differs from torch"):
        compare(module, model, images[:8].numpy())


def test_outputs_of_another_shape_are_found(trained: Trained) -> None:
    images = trained.data.validation.images
    module = largest(trained)
    model = onnx_model(nn.Sequential(module, nn.Unflatten(1, (1, 10))).eval(), images[:2])
    with pytest.raises(ExportFailedError, match="shape"):
        compare(module, model, images[:8].numpy())


def test_outputs_that_do_not_depend_on_the_image_are_found(trained: Trained) -> None:
    images = trained.data.validation.images
    module = largest(trained)
    with torch.no_grad():
        module.get_parameter("classifier.weight").zero_()
    model = onnx_model(module, images[:2])
    with pytest.raises(ExportFailedError, match="same outputs for every image"):
        compare(module, model, images[:8].numpy())
