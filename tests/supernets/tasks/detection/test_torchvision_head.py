"""Losses, boxes and scores of captured detectors are those of torchvision's own modules."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supernets.networks.capture.torchvision_dense import ONE_STAGE
from supernets.networks.suppression import detections
from supernets.tasks.detection.boxes import DETECTED_CLASS, NO_BOX, SCORE
from supernets.tasks.detection.heads import head_of
from supernets.tasks.detection.torchvision_head import RebuiltHead, TorchvisionHead

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed (the extra download)")

SIZE, CLASSES = 64, 3
FACTS = {"classes": CLASSES, "arguments": {}, "image_size": SIZE}
COMPARED = 40
"""The number of detections of an image that are compared: fewer than any limit on their number."""


def head(name: str) -> TorchvisionHead:
    size = 300 if name == "ssd300_vgg16" else SIZE  # its maps have no pixels left for smaller images
    made = head_of({"kind": "torchvision", **FACTS, "name": name, "image_size": size})
    assert isinstance(made, TorchvisionHead)
    return made


def raw_outputs(of: TorchvisionHead, n: int, seed: int = 0) -> Tensor:
    numbers = 4 + CLASSES + of.dense.has_background + of.dense.name.startswith("fcos")
    outputs = torch.randn(n, len(of.anchors), numbers, generator=torch.Generator().manual_seed(seed))
    outputs[..., :4] *= 0.5
    outputs[..., 4:] *= 2
    return outputs


def labels() -> Tensor:
    """Two boxes and a region of a crowd, one box and one without area, and no box."""
    rows = torch.zeros(3, 4, 7)
    rows[..., 0] = NO_BOX
    rows[0, 0] = torch.tensor([2, 3.0, 5.0, 30.0, 40.0, 900.0, 0.0])
    rows[0, 1] = torch.tensor([0, 20.0, 5.0, 60.0, 60.0, 900.0, 0.0])
    rows[0, 2] = torch.tensor([1, 0.0, 0.0, 64.0, 64.0, 900.0, 1.0])
    rows[1, 0] = torch.tensor([1, 10.0, 10.0, 29.0, 24.0, 100.0, 0.0])
    rows[1, 1] = torch.tensor([1, 10.0, 10.0, 10.0, 24.0, 0.0, 0.0])
    return rows


def as_torchvision_has_them(of: RebuiltHead) -> list[dict[str, Tensor]]:
    background = int(of.dense.has_background)
    return [
        {
            "boxes": torch.tensor([[3.0, 5, 30, 40], [20, 5, 60, 60]]),
            "labels": torch.tensor([2, 0]) + background,
        },
        {"boxes": torch.tensor([[10.0, 10, 29, 24]]), "labels": torch.tensor([1]) + background},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    ]


def parts(of: TorchvisionHead, outputs: Tensor) -> dict[str, Tensor]:
    if of.dense.name.startswith("fcos"):
        return {
            "bbox_regression": outputs[..., :4],
            "bbox_ctrness": outputs[..., 4:5],
            "cls_logits": outputs[..., 5:],
        }
    return {"bbox_regression": outputs[..., :4], "cls_logits": outputs[..., 4:]}


def detector(of: RebuiltHead) -> Any:
    with torch.device("meta"):
        return of.dense.build().eval()


@pytest.mark.parametrize("name", ONE_STAGE)
def test_losses_are_those_of_torchvision(name: str) -> None:
    of = head(name)
    outputs, targets, module = raw_outputs(of, 3).requires_grad_(), as_torchvision_has_them(of), detector(of)
    anchors = [of.anchors] * 3
    if name.startswith("ssd"):
        matches = [
            module.proposal_matcher(torchvision.ops.box_iou(target["boxes"], of.anchors))
            if len(target["boxes"])
            else torch.full((len(of.anchors),), -1)
            for target in targets
        ]
        expected = module.compute_loss(targets, parts(of, outputs), anchors, matches)
    elif name.startswith("fcos"):
        expected = module.compute_loss(targets, parts(of, outputs), anchors, [h * w for h, w in of.levels])
    else:
        expected = module.compute_loss(targets, parts(of, outputs), anchors)
    losses = of.losses(outputs, labels())
    torch.testing.assert_close(losses.mean(), sum(expected.values()), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    assert losses.shape == (3,)
    assert gradient.isfinite().all()
    assert gradient[:2].abs().sum() > 0


@pytest.mark.parametrize("name", ONE_STAGE)
def test_detections_are_those_of_torchvision(name: str) -> None:
    of = head(name)
    outputs, module = raw_outputs(of, 2, seed=1), detector(of)
    arguments: tuple[Any, ...]
    outputs[..., of._first_class :] -= 3  # so that few are above the threshold
    if name.startswith("ssd"):
        outputs[..., 4] += 4
        arguments = parts(of, outputs), [of.anchors] * 2
    else:
        sizes = [h * w * (len(of.anchors) // sum(h * w for h, w in of.levels)) for h, w in of.levels]
        by_level = {key: list(part.split(sizes, 1)) for key, part in parts(of, outputs).items()}
        arguments = by_level, [list(of.anchors.split(sizes))] * 2
    expected = module.postprocess_detections(*arguments, [(of.image_size, of.image_size)] * 2)
    found = detections(*of.decoded(outputs), of.suppression)
    first = slice(COMPARED)
    for image, rows in zip(expected, found, strict=True):
        torch.testing.assert_close(rows[first, :4], image["boxes"][first], rtol=0, atol=1e-4)
        torch.testing.assert_close(rows[first, SCORE], image["scores"][first], rtol=0, atol=1e-6)
        classes = image["labels"][first] - int(of.dense.has_background)
        assert rows[first, DETECTED_CLASS].tolist() == classes.tolist()


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn"])
def test_the_distance_is_zero_for_equal_outputs_and_grows_with_confident_differences(name: str) -> None:
    of = head(name)
    teacher = raw_outputs(of, 2)
    assert of.distance(teacher, teacher) == pytest.approx(0.0, abs=1e-5)
    confidence = of.decoded(teacher)[1].amax(-1)
    changed = [teacher.clone() for _ in range(2)]
    for outputs, location in zip(changed, (confidence[0].argmax(), confidence[0].argmin()), strict=True):
        outputs[0, location, :4] += 1
    sure, unsure = (float(of.distance(outputs, teacher)) for outputs in changed)
    assert sure > 10 * unsure > 0


class Decoded(nn.Module):
    def __init__(self, of: TorchvisionHead) -> None:
        super().__init__()
        self._head = of

    def forward(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return self._head.decoded(outputs)


def test_a_new_head_can_be_traced_before_it_is_called() -> None:
    of = head("fcos_resnet50_fpn")
    outputs = torch.randn(2, len(of.anchors), 4 + 1 + CLASSES)
    traced = torch.export.export(Decoded(head("fcos_resnet50_fpn")), (outputs,), strict=False).module()
    for expected, same in zip(of.decoded(outputs), traced(outputs), strict=True):
        torch.testing.assert_close(expected, same)


def test_a_head_is_built_again_from_its_facts_and_by_other_processes() -> None:
    of = head("retinanet_resnet50_fpn")
    outputs = raw_outputs(of, 2)
    for again in (head_of(of.to_json()), pickle.loads(pickle.dumps(of))):
        for expected, same in zip(of.decoded(outputs), again.decoded(outputs), strict=True):
            assert torch.equal(expected, same)
