"""`supernets.families.dense.segmenter_family`: its forward by hand, and the ONNX of its enlarged logits."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import pytest
import torch
from torch import Tensor

from nas.plugins.testing import FamilyContract
from supernets.families.dense.segmenter_family import SegmenterFamily
from supernets.families.dense.segmenter_spec import SEGMENTER, SegmenterSpec
from supernets.networks.module_to_onnx import onnx_model
from supernets.space import Option
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families import by_hand
from tests.supernets.families.dense.small_pyramids import (
    CLASSES,
    DIMENSIONS,
    SIDE,
    STAGES,
    head_layers,
    levels,
)

FAMILY = SegmenterFamily(SegmenterSpec(**DIMENSIONS, stages=STAGES), image_size=SIDE, channels=1, n_classes=CLASSES)


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
    """The forward of `FAMILY` by functional calls alone."""
    finest, _ = levels(weights, values, x)
    y = head_layers(weights, values, by_hand.hard_swish(by_hand.conv_norm(weights, "head.stem", finest)))
    logits = torch.einsum("oc,nchw->nohw", weights["head.classifier.weight"][:, :, 0, 0], y)
    logits = logits + weights["head.classifier.bias"][:, None, None]
    n, classes, _, _ = logits.shape
    return by_hand.resized(logits.flatten(0, 1), SIDE).reshape(n, classes, SIDE, SIDE)


class TestSegmenter(FamilyContract):
    @staticmethod
    def make() -> SegmenterFamily:
        return FAMILY


def test_logits_are_enlarged_by_one_node() -> None:
    supernet = make_supernet(FAMILY)
    for architecture in invariants.architectures(supernet, n=2):
        graph = onnx.load_from_string(onnx_model(supernet.extract(architecture), FAMILY.example(2))).graph
        resizes = [node for node in graph.node if node.op_type == "Resize"]
        assert [next(a.s for a in node.attribute if a.name == "mode") for node in resizes] == [b"nearest", b"linear"]


@pytest.mark.parametrize(
    ("preset", "side", "channels"),
    [
        ("tiny", 128, 1),
        pytest.param("tiny-resnet", 128, 1, marks=pytest.mark.slow),
        pytest.param("mobile", 320, 3, marks=pytest.mark.slow),
    ],
)
def test_presets_have_many_networks_of_a_wide_range(preset: str, side: int, channels: int) -> None:
    with torch.device("meta"):
        net = make_supernet(SegmenterFamily(SEGMENTER[preset], image_size=side, channels=channels, n_classes=10))
        smallest, largest = (net.cost(a) for a in (net.space.smallest, net.space.largest))
    assert net.space.size > 1e8
    assert largest.macs >= 10 * smallest.macs
