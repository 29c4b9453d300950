"""The invariants of a trained supernet of CNNs (DESIGN §3: I1 to I4), and a handwritten forward."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from supernets.space import Option
from supernets.training.recalibration import recalibrate
from tests.conftest import Trained
from tests.supernets import invariants


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
    """The family's forward in functional calls, from a subnet's tensors by name."""

    def conv_norm(x: Tensor, name: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        w = weights[f"{name}.conv.weight"]
        x = functional.conv2d(x, w, None, stride, w.shape[-1] // 2, groups=w.shape[0] if depthwise else 1)
        norm = {k: weights[f"{name}.norm.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + 1e-5)
        return (x - norm["running_mean"][:, None, None]) * scale[:, None, None] + norm["bias"][:, None, None]

    x = functional.relu(conv_norm(x, "stem"))
    for s in range(2):
        depth = values[f"stage{s}.depth"]
        assert isinstance(depth, int)
        for b in range(depth):
            block = f"stages.{s}.{b}"
            y = functional.relu(conv_norm(x, f"{block}.expand"))
            y = functional.relu(conv_norm(y, f"{block}.filter", stride=2 if s == 1 and b == 0 else 1, depthwise=True))
            y = conv_norm(y, f"{block}.project")
            x = x + y if b > 0 else y
    x = functional.relu(conv_norm(x, "head")).mean(dim=(2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


class TestI1SharedEqualsExtracted:
    def test_extracted_live_and_handwritten_agree(self, trained: Trained) -> None:
        images = trained.data.validation.inputs[:16]
        invariants.check_extracted_live_and_handwritten_agree(
            trained.supernet, images, trained.calibration, handwritten
        )

    def test_live_and_extracted_modules_have_the_same_settings(self, trained: Trained) -> None:
        invariants.check_same_modules(trained.supernet)

    def test_permuting_every_axis_leaves_the_largest_unchanged(self, trained: Trained) -> None:
        images = trained.data.validation.inputs[:16]
        invariants.check_permutations(trained.supernet, images, trained.calibration)

    def test_negative_control_one_tensor_left_unpermuted(self, trained: Trained) -> None:
        invariants.check_control(
            trained.supernet,
            trained.data.validation.inputs[:16],
            trained.calibration,
            axis="stage1.width",
            tensor="head.conv.weight",
        )

    def test_a_forward_in_training_mode_keeps_the_stored_statistics(self, trained: Trained) -> None:
        invariants.check_stored_statistics_stay(trained.supernet, trained.data.train.inputs[:32])

    def test_gradients_of_a_subnet_reach_the_shared_tensors(self, trained: Trained) -> None:
        invariants.check_gradients(trained.supernet, trained.data.train.inputs[:16])


class TestI2Costs:
    def test_costs_equal_those_of_the_extracted_module(self, trained: Trained) -> None:
        invariants.check_costs(trained.supernet, trained.data.validation.inputs)


class TestI3Extraction:
    def test_shares_no_storage_with_the_supernet(self, trained: Trained) -> None:
        invariants.check_shares_no_storage(trained.supernet)

    def test_training_the_extracted_module_leaves_the_supernet_unchanged(self, trained: Trained) -> None:
        invariants.check_training_extracted(trained.supernet, trained.data.train.inputs[:8])


class TestI4Onnx:
    def test_onnx_runtime_agrees_with_torch(self, trained: Trained) -> None:
        invariants.check_onnx(trained.supernet, trained.data.validation.inputs, trained.calibration)


def test_recalibration_matters(trained: Trained) -> None:
    """Without it a subnet uses initial statistics."""
    from supernets.training.trainer import outputs_of

    part, smallest = trained.data.validation, trained.supernet.space.smallest
    raw = trained.supernet.extract(smallest)
    before = (outputs_of(raw, part).argmax(1) == part.labels).float().mean()
    after = (outputs_of(recalibrate(raw, [trained.calibration]), part).argmax(1) == part.labels).float().mean()
    assert after > before + 0.2
