"""`supernets.families.dense.detector_family`: its forward by hand, its spaces, and how a fresh network begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from hardware_profiles.runtime import run_model
from nas.plugins.testing import FamilyContract
from supernets.families.dense.detector_family import DetectorFamily
from supernets.families.dense.detector_spec import DETECTOR, DetectorSpec
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Option
from supernets.tasks.detection.detection import Detection
from supernets.tasks.detection.heads import head_of
from supernets.training.checkpoint import make_supernet
from supernets.training.recalibration import recalibrate
from tests.supernets import invariants
from tests.supernets.families import by_hand
from tests.supernets.families.dense.small_pyramids import (
    BOTTLENECKS,
    CLASSES,
    DIMENSIONS,
    SIDE,
    STAGES,
    head_layers,
    levels,
)
from tests.supernets.sharing.test_blocks import one_by_one


def family(**changes: Any) -> DetectorFamily:
    spec = DetectorSpec(**{**DIMENSIONS, "stages": STAGES, **changes})
    return DetectorFamily(spec, image_size=SIDE, channels=1, n_classes=CLASSES)


SHARED, SEPARATE = family(), family(head_shared=False)
RESNET = family(stages=None, bottlenecks=BOTTLENECKS, activation="relu")


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
    """The forward of `SHARED` and `SEPARATE` by functional calls alone."""
    separate = "head.predictors.1.weight" in weights
    outputs = []
    for i, level in enumerate(levels(weights, values, x)):
        y = by_hand.hard_swish(by_hand.conv_norm(weights, f"head.stems.{i}", level))
        y = head_layers(weights, values, y, convolution=i if separate else 0, level=i)
        predictor = f"head.predictors.{i if separate else 0}"
        matrix = weights[f"{predictor}.weight"][:, :, 0, 0]
        pixels = y.movedim(1, -1).flatten(1, 2)  # row by row
        outputs.append(pixels @ matrix.T + weights[f"{predictor}.bias"])
    return torch.cat(outputs, 1)


class TestShared(FamilyContract):
    @staticmethod
    def make() -> DetectorFamily:
        return SHARED


class TestSeparate(FamilyContract):
    @staticmethod
    def make() -> DetectorFamily:
        return SEPARATE


class TestResNet(FamilyContract):
    @staticmethod
    def make() -> DetectorFamily:
        return RESNET


@pytest.fixture(scope="module", params=[SHARED, SEPARATE, RESNET], ids=["shared", "separate", "resnet"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(request.param)).eval()


def test_every_network_has_the_locations_of_its_head(supernet: Supernet) -> None:
    facts = supernet.family.head
    assert facts is not None
    head = head_of(facts)
    assert head.to_json() == facts
    for architecture in invariants.architectures(supernet, n=5):
        outputs = supernet(torch.randn(2, 1, SIDE, SIDE), architecture)
        assert outputs.shape == (2, 4 * 4 + 2 * 2, 4 + CLASSES)
        boxes, scores = head.decoded(outputs)
        assert (boxes.shape, scores.shape) == ((2, 20, 4), (2, 20, CLASSES))


@torch.no_grad()
def test_detections_in_onnx_are_those_of_torch(supernet: Supernet) -> None:
    task = Detection(image=(1, SIDE)).with_head(supernet.family.head)
    images = torch.randn(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    for architecture in invariants.architectures(supernet):
        network = task.scored(recalibrate(supernet.extract(architecture), [images]))
        (came,) = run_model(onnx_model(network, images[:2]), {INPUT: images.numpy()})
        expected = network(images)
        assert (expected[..., 4] > 0).any()
        torch.testing.assert_close(torch.from_numpy(came), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_keys_of_blocks_are_those_of_each_network_by_itself(supernet: Supernet) -> None:
    chosen = invariants.architectures(supernet)
    assert (BlockKeys(supernet).of(chosen) == one_by_one(supernet, chosen)).all()


def test_a_fresh_network_sees_background_and_boxes_around_each_location() -> None:
    network = make_supernet(SHARED).extract(SHARED.space.largest)
    with torch.no_grad():
        outputs = network(torch.randn(4, 1, SIDE, SIDE))
    assert torch.allclose(outputs[..., 4:].sigmoid(), torch.tensor(0.01), atol=0.01)
    distances = torch.nn.functional.softplus(outputs[..., :4])
    assert torch.allclose(distances, torch.tensor(2.0), atol=0.2)


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
        net = make_supernet(DetectorFamily(DETECTOR[preset], image_size=side, channels=channels, n_classes=10))
        smallest, largest = (net.cost(a) for a in (net.space.smallest, net.space.largest))
    assert net.space.size > 1e8
    assert largest.macs >= 10 * smallest.macs
