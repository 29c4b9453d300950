"""torchvision's detectors and segmenters are captured with one output, for the data's classes, and with weights of files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hardware_profiles.runtime import run_calls
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import CapturedModel, capture_model, load_capture, save_capture
from supernets.networks.capture.classifier import with_classes, with_outputs
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.torchvision_dense import ONE_STAGE, SEGMENTERS, TWO_STAGE, DenseModel
from supernets.networks.capture.user_model import UserModel, own_model
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.networks.suppression import detections
from supernets.tasks.detection.boxes import pairwise_iou
from supernets.tasks.detection.heads import head_of
from supernets.training.checkpoint import make_supernet
from tests.benchmarks.any_model import tame
from tests.errors import raises
from tests.supernets.networks.capture.networks import example, network

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed (the extra download)")

LITE, SEGMENTER = "ssdlite320_mobilenet_v3_large", "lraspp_mobilenet_v3_large"
SIZE, CLASSES = 64, 3


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(n))


def opened(name: str) -> UserModel:
    """A model for the classes of the tests, whose outputs depend on everything."""
    model = with_classes(open_model(f"torchvision:{name}"), CLASSES, seed=0)
    assert isinstance(model, UserModel)
    tame(model.module, images)
    return model


def test_all_models_of_torchvision_are_listed() -> None:
    models = torchvision.models
    assert sorted((*ONE_STAGE, *TWO_STAGE)) == models.list_models(models.detection)
    assert sorted(SEGMENTERS) == models.list_models(models.segmentation)


def test_a_model_for_other_classes_keeps_all_other_weights() -> None:
    model = open_model(f"torchvision:{LITE}", {"num_classes": 5})
    assert isinstance(model, UserModel)
    assert model.dense == DenseModel(LITE, 4)
    assert (model.preprocessing.image_size, model.preprocessing.mean) == (320, (0.5, 0.5, 0.5))
    assert with_classes(model, 4, seed=0) is model
    adapted = with_classes(model, 7, seed=0)
    assert isinstance(adapted, UserModel)
    assert adapted.dense == DenseModel(LITE, 7)
    before, after = model.module.state_dict(), adapted.module.state_dict()
    changed = {name for name in after if before[name].shape != after[name].shape}
    classes = [f"head.classification_head.module_list.{i}.1" for i in range(6)]
    assert changed == {f"{layer}.{kind}" for layer in classes for kind in ("weight", "bias")}
    assert all(torch.equal(before[name], after[name]) for name in after if name not in changed)
    assert adapted.fresh == tuple(classes)
    assert "the data 7" in adapted.notes[-1]


def test_the_output_is_that_of_the_segmenter_without_its_auxiliary_part() -> None:
    model = open_model(f"torchvision:{SEGMENTER}", {"num_classes": 4})
    assert isinstance(model, UserModel)
    assert model.dense is not None
    assert not model.dense.is_detector
    assert model.dense.classes == 4
    original = model.dense.build().eval()
    original.load_state_dict(model.module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model.module.eval()(images(2)), original(images(2))["out"])


def test_files_of_weights_have_the_names_of_any_version() -> None:
    state = {
        "backbone.fpn.inner_blocks.0.0.weight": "backbone.fpn.inner_blocks.0.weight",
        "backbone.fpn.layer_blocks.2.0.bias": "backbone.fpn.layer_blocks.2.bias",
        "head.classification_head.conv.3.0.weight": "head.classification_head.conv.6.weight",
        "head.regression_head.conv.0.0.bias": "head.regression_head.conv.0.bias",
        "head.regression_head.bbox_reg.weight": "head.regression_head.bbox_reg.weight",
    }
    dense, tensor = DenseModel("retinanet_resnet50_fpn", 91), torch.zeros(1)
    assert list(dense.renamed(dict.fromkeys(state.values(), tensor), state)) == list(state)
    assert list(dense.renamed(dict.fromkeys(state, tensor), state)) == list(state)


def test_an_auxiliary_classifier_in_a_file_of_weights_is_left_out(tmp_path: Path) -> None:
    model = open_model(f"torchvision:{SEGMENTER}")
    assert isinstance(model, UserModel)
    state = {f"module.{name}": tensor + 1 for name, tensor in model.module.state_dict().items()}
    save_file({**state, "module.aux_classifier.0.weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    loaded = open_model(f"torchvision:{SEGMENTER}", weights=str(tmp_path / "weights.safetensors"))
    assert isinstance(loaded, UserModel)
    assert all(torch.equal(tensor, state[f"module.{name}"]) for name, tensor in loaded.module.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"weights_backbone": "DEFAULT"}, ["weights_backbone", "supernet.weights"]),
        ({"norm_layer": nn.BatchNorm2d}, ["norm_layer"]),
        ({"anchor_generator": {}}, ["anchor_generator"]),
    ],
)
def test_arguments_that_cannot_be_kept_are_rejected(arguments: dict[str, Any], parts: list[str]) -> None:
    with raises("job.conflict", *parts):
        open_model(f"torchvision:{LITE}", arguments)


def test_sides_that_do_not_fit_the_pyramid_are_rejected() -> None:
    dense = DenseModel("retinanet_resnet50_fpn", 2)
    with torch.device("meta"):
        module = dense.module(dense.build())
        with raises("capture.example", "100 x 100", "a multiple of 32", "data.image_size"):
            module(torch.zeros(2, 3, 100, 100))


def dense_capture(tmp_path: Path, dense: DenseModel | None = None) -> Path:
    model = capture_model(own_model(network("resnet")), example("resnet", 2))
    save_capture(tmp_path / "model", replace(model, dense=dense or DenseModel(LITE, 3, {"nms_thresh": 0.4})))
    return tmp_path / "model"


def test_a_file_of_a_captured_detector_has_the_facts_of_its_head(tmp_path: Path) -> None:
    model = load_capture(dense_capture(tmp_path))
    assert model.dense == DenseModel(LITE, 3, {"nms_thresh": 0.4})
    assert model.head is not None
    assert head_of(model.head).suppression.iou == 0.4  # type: ignore[attr-defined]
    assert load_capture(dense_capture(tmp_path, DenseModel(SEGMENTER, 3))).head is None


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "os.system"},
        {"classes": 0},
        {"classes": 10**9},
        {"arguments": {"weights": "DEFAULT"}},
        {"arguments": {"size": {"a": 1}}},
        {"arguments": [1]},
    ],
)
def test_malformed_facts_of_a_head_are_rejected(tmp_path: Path, facts: dict[str, Any]) -> None:
    path = dense_capture(tmp_path)
    with zipfile.ZipFile(path) as file:
        parts = {info.filename: file.read(info) for info in file.infolist()}
    index = json.loads(parts["program.json"])
    index["dense"] |= facts
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {**parts, "program.json": json.dumps(index).encode()}.items():
            file.writestr(name, data)
    with raises("capture.malformed"):
        load_capture(path)


class Maps(nn.Module):
    """A segmenter of a user's: logits of each pixel at half the size, resized."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.classes(self.body(x).relu()), scale_factor=2, mode="bilinear")


def test_a_users_segmenter_gets_an_output_for_each_class_of_the_data() -> None:
    model = capture_model(own_model(Maps()), torch.randn(2, 3, 16, 16))
    adapted = with_outputs(model, 9, seed=0, of_pixels=True)
    assert adapted.outputs[0].shape == (2, 9, 16, 16)
    assert adapted.fresh == ("classes",)
    with raises("capture.outputs", "2 x 5 x 16 x 16", "batch x classes"):
        with_outputs(model, 9, seed=0)


def check_detections(detected: Tensor, expected: Sequence[Tensor]) -> None:
    """Checks that the first detections, up to 50, of each image are among the expected ones (detections, 6)."""
    for first, others in zip(detected[:, :50], expected, strict=True):
        rows = first[first[:, 4] > 0]
        assert len(rows) > 20
        overlaps = pairwise_iou(rows[:, :4], others[:, :4]) * (rows[:, None, 5] == others[None, :, 5])
        best, partner = overlaps.max(1)
        assert (best >= 0.99).all()
        torch.testing.assert_close(rows[:, 4], others[partner, 4], rtol=0, atol=1e-4)


def check_subnets(model: CapturedModel, decoded: Any) -> nn.Module:
    """Compares a random subnet with ONNX Runtime; the largest one."""
    family = CapturedFamily(model.program, SpaceOptions(), tensors=model.tensors, head=model.head)
    assert CapturedFamily.from_json(json.loads(json.dumps(family.to_json()))).head == family.head
    supernet = make_supernet(family).eval()
    for architecture in (supernet.space.largest, supernet.space.sample(np.random.default_rng(0))):
        subnet = decoded(supernet.extract(architecture).eval()).eval()
        with torch.no_grad():
            expected = subnet(images())
        ((outputs,),) = run_calls(lower(subnet, images()), [{INPUT: images().numpy()}])
        if model.head is None:
            assert relative_difference([expected], [torch.from_numpy(outputs)]) < 1e-4
        else:
            check_detections(torch.from_numpy(outputs), expected)
    return supernet.extract(supernet.space.largest).eval()


@pytest.mark.slow
def test_a_segmenter_is_captured_extracted_and_equal_in_onnx_runtime() -> None:
    model = opened(SEGMENTER)
    captured = capture_model(model, model.example((3, SIZE, SIZE)))
    assert captured.outputs[0].shape == (2, CLASSES, SIZE, SIZE)
    largest = check_subnets(captured, lambda network: network)
    with torch.no_grad():
        assert relative_difference([model.module.eval()(images())], [largest(images())]) < 1e-5
    adapted = with_classes(captured, 5, seed=0)
    assert isinstance(adapted, CapturedModel)
    assert adapted.outputs[0].shape == (2, 5, SIZE, SIZE)
    assert torch.equal(adapted.tensors["classifier.cbr.0.weight"], captured.tensors["classifier.cbr.0.weight"])


class Decoded(nn.Module):
    """The detections of a detector's network."""

    def __init__(self, network: nn.Module, head: Any) -> None:
        super().__init__()
        self.network, self._head = network, head

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self._head.decoded(self.network(x))
        return detections(boxes, scores, self._head.suppression)


@pytest.mark.slow
@pytest.mark.parametrize("name", [LITE, "retinanet_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_a_detector_finds_and_learns_what_torchvisions_does(name: str) -> None:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    model = opened(name)
    with torch.no_grad():  # so that scores are above torchvision's thresholds
        for layer_name, layer in model.module.named_modules():
            if layer_name.endswith(
                ("cls_logits", "cls_score", *(f"classification_head.module_list.{i}.1" for i in range(6)))
            ):
                layer.weight.mul_(30)
                layer.bias.zero_()
    captured = capture_model(model, model.example((3, SIZE, SIZE)))
    assert captured.head is not None
    assert model.dense is not None
    head = head_of(captured.head)
    largest = check_subnets(captured, lambda network: Decoded(network, head))
    mean, std = model.preprocessing.mean, model.preprocessing.std
    assert mean is not None
    assert std is not None
    original = model.dense.build().eval()
    original.load_state_dict(model.module.state_dict())
    original.transform = GeneralizedRCNNTransform(SIZE, SIZE, mean, std, fixed_size=(SIZE, SIZE))
    bytes_ = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    inputs = (bytes_ - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    background = int(model.dense.has_background)
    with torch.no_grad():
        found = Decoded(largest, head)(inputs)
        expected = original(list(bytes_))
    for image in expected:
        image["labels"] -= background
    columns = ("boxes", "scores", "labels")
    check_detections(found, [torch.column_stack([image[key] for key in columns]) for image in expected])

    if model.dense.has_two_stages:  # torchvision draws examples at random in training, see the test of the head
        return
    boxes = torch.tensor([[3.0, 5, 30, 40], [20, 5, 60, 60]])
    rows = torch.cat([torch.tensor([[2.0], [0.0]]), boxes, torch.zeros(2, 2)], 1)
    targets = torch.stack([rows, rows.flip(0), torch.full_like(rows, -1.0)])
    labels = [{"boxes": r[r[:, 0] >= 0, 1:5], "labels": r[r[:, 0] >= 0, 0].long() + background} for r in targets]
    original.train()
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        losses = original(list(bytes_), labels)
        assert float(head.losses(largest(inputs), targets).mean()) == pytest.approx(
            float(sum(losses.values())), rel=1e-4
        )
