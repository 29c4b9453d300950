"""The check between torch and the exported file: it fails when the two differ, and when agreement would prove nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.runtime import run_model
from nas.jobs.evaluation.parity import MAX_PARITY
from nas.results.export.model_checks import as_measured, parity, torch_outputs
from nas.search.problem.objectives import Measurement, Request, Status
from supernets.networks.module_to_onnx import onnx_model
from supernets.training.recalibration import recalibrate
from tests.conftest import Trained
from tests.errors import raises


def largest(trained: Trained) -> nn.Module:
    return recalibrate(trained.supernet.extract(trained.supernet.space.largest), [trained.calibration])


@pytest.mark.parametrize("batch", [1, 8])
def test_the_same_network_agrees(trained: Trained, batch: int) -> None:
    images = trained.data.validation.inputs
    module = largest(trained)
    assert (
        0
        <= parity(onnx_model(module, images[:2]), images[:batch].numpy(), torch_outputs(module, images[:batch].numpy()))
        <= MAX_PARITY
    )


@pytest.mark.parametrize("name", ["stem.conv.weight", "head.norm.running_var", "classifier.bias"])
def test_a_single_changed_tensor_is_found(trained: Trained, name: str) -> None:
    images = trained.data.validation.inputs
    module = largest(trained)
    model = onnx_model(module, images[:2])
    with torch.no_grad():
        module.state_dict()[name].mul_(1.01).add_(0.001)
    with raises("export.outputs-differ"):
        parity(model, images[:8].numpy(), torch_outputs(module, images[:8].numpy()))


def test_outputs_of_another_shape_are_found(trained: Trained) -> None:
    images = trained.data.validation.inputs
    module = largest(trained)
    model = onnx_model(nn.Sequential(module, nn.Unflatten(1, (1, 10))).eval(), images[:2])
    with raises("export.outputs-differ", "(8, 1, 10)", "(8, 10)"):
        parity(model, images[:8].numpy(), torch_outputs(module, images[:8].numpy()))


def test_outputs_that_do_not_depend_on_the_image_are_found(trained: Trained) -> None:
    images = trained.data.validation.inputs
    module = largest(trained)
    with torch.no_grad():
        module.get_parameter("classifier.weight").zero_()
    model = onnx_model(module, images[:2])
    with raises("export.constant-outputs"):
        parity(model, images[:8].numpy(), torch_outputs(module, images[:8].numpy()))


def test_a_model_that_classifies_differently_from_the_measured_one_is_rejected(trained: Trained) -> None:
    part, module = trained.data.validation, largest(trained)
    model = onnx_model(module, part.inputs[:2])
    logits = run_model(model, {"input": part.inputs.numpy()})[0]
    right = logits.argmax(axis=1) == part.labels.numpy()
    assert 0.5 < right.mean() < 1

    def scored(answers: NDArray[np.bool_]) -> Measurement:
        request = Request(trained.supernet.space.largest, "accuracy")
        bits = np.packbits(answers).tobytes()
        return Measurement(
            request, Status.OK, 0.9, 0.01, samples=bits, environment={"torch": "2.6", "onnxruntime": "1.9"}
        )

    assert as_measured(model, part, None) is None
    assert as_measured(model, part, scored(right)) == 1
    few, many = right.copy(), right.copy()
    few[: len(right) // 200] ^= True
    many[: len(right) // 20] ^= True
    assert 0.99 <= (as_measured(model, part, scored(few)) or 0) < 1
    with raises("export.not-as-measured", f"{(len(right) // 20) / len(right):.1%}", "torch 2.6", "onnxruntime 1.9"):
        as_measured(model, part, scored(many))
