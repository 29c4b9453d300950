"""`supernets.families.convolutional.resnet_family`: its forward by hand, its resolutions, and what makes no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from supernets.errors import CheckpointError, SpaceError
from supernets.families.convolutional.resnet_family import ResNetFamily
from supernets.families.convolutional.resnet_spec import RESNET, BottleneckStage, ResNetSpec
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Option
from supernets.training.checkpoint import load_checkpoint, make_supernet, save_checkpoint
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families import by_hand
from tests.supernets.sharing.test_blocks import one_by_one

ELASTIC = ResNetSpec(
    stem=(8, 24),
    stem_stride=1,
    stem_pool=True,
    stages=(
        BottleneckStage(1, (1, 2), (16, 32), (0.5, 1)),
        BottleneckStage(2, (1, 2), (32, 40), (0.25, 0.5)),
    ),
    resolution=(8, 12),
)
"""With all that a space can have: a pooling stem, and a resolution that is not the data's."""
FAMILIES = {
    "digits": ResNetFamily(RESNET["digits"], image_size=8, channels=1, n_classes=10),
    "elastic": ResNetFamily(ELASTIC, image_size=12, channels=1, n_classes=10),
}


def images(n: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, side, side, generator=generator) + torch.randn(n, 1, 1, 1, generator=generator)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return invariants.randomised(make_supernet(FAMILIES[request.param]))


@pytest.fixture(scope="module")
def elastic() -> Supernet:
    return invariants.randomised(make_supernet(FAMILIES["elastic"]))


def side_of(supernet: Supernet) -> int:
    return int(supernet.family.example().shape[-1])


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
    """The forward of both spaces by functional calls alone; that of elastic resolution has the pooling stem."""
    if "resolution" in values:
        x = by_hand.resized(x, int(values["resolution"]))
    for name in ("first", "second", "third"):
        x = torch.relu(by_hand.conv_norm(weights, f"stem.{name}", x))
    if "resolution" in values:
        padded = functional.pad(x, (1, 1, 1, 1), value=-torch.inf)
        x = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
    for s in range(2):
        for b in range(int(values[f"stage{s}.depth"])):
            block, stride = f"stages.{s}.{b}", 2 if s == 1 and b == 0 else 1
            y = torch.relu(by_hand.conv_norm(weights, f"{block}.reduce", x))
            y = torch.relu(by_hand.conv_norm(weights, f"{block}.filter", y, stride=stride))
            y = by_hand.conv_norm(weights, f"{block}.expand", y)
            if b == 0:
                n, c, side, _ = x.shape
                pooled = x.reshape(n, c, side // stride, stride, side // stride, stride).mean((3, 5))
                x = by_hand.conv_norm(weights, f"{block}.shortcut", pooled)
            x = torch.relu(x + y)
    return x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]


def test_keys_of_blocks_are_those_of_each_network_by_itself(elastic: Supernet) -> None:
    chosen = invariants.architectures(elastic)
    found = BlockKeys(elastic.eval()).of(chosen)
    assert np.array_equal(found, one_by_one(elastic, chosen))


def test_a_checkpoint_keeps_a_teacher_whose_kernels_are_laid_out_channels_last(
    elastic: Supernet, tmp_path: Path
) -> None:
    teacher = elastic.extract(elastic.space.smallest).state_dict()
    assert not all(tensor.is_contiguous() for tensor in teacher.values())
    save_checkpoint(tmp_path, elastic, progress={"epoch": 1, "epochs": 2}, optimizer={}, teacher=teacher)
    came = load_checkpoint(tmp_path)
    assert came.supernet.family.to_json() == elastic.family.to_json()
    assert all(torch.equal(came.teacher[name], tensor) for name, tensor in teacher.items())


@pytest.mark.parametrize("damage", [{"spec": 3}, {"image_size": None}, {"spec": {}}])
def test_damaged_json_is_refused(damage: dict[str, object]) -> None:
    data = ResNetFamily(ELASTIC, image_size=12, channels=1, n_classes=10).to_json()
    with pytest.raises((CheckpointError, SpaceError), match="malformed"):
        ResNetFamily.from_json({**data, **damage})


def test_images_that_a_stride_does_not_divide_are_refused() -> None:
    fixed = replace(ELASTIC, resolution=None)
    with raises("space.invalid", "10 pixels", "5 pixels", "stage 1", "2"):
        ResNetFamily(fixed, image_size=10, channels=1, n_classes=10)
    ResNetFamily(fixed, image_size=11, channels=1, n_classes=10)  # the stem rounds up
