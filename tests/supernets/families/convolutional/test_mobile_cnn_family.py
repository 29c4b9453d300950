"""`mobile-cnn` in the style of MobileNetV3: its forward by hand, its resolutions, and what older spaces keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from supernets.families.convolutional.convolutional_family import Resize
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN, CNNSpec, StageSpec
from supernets.sharing.base import Supernet
from supernets.sharing.blocks import BlockKeys
from supernets.space import Option
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants
from tests.supernets.families import by_hand
from tests.supernets.sharing.test_blocks import one_by_one

SPEC = CNNSpec(
    stem=8,
    stem_stride=1,
    stages=(
        StageSpec(1, (1, 2), (8, 16), (3,), (1, 2)),
        StageSpec(2, (1, 2), (16, 24), (3, 5), (2, 4), squeeze=True, activation="hardswish"),
    ),
    head=32,
    activation="hardswish",
    mix=24,
    resolution=(6, 8),
)
SIDE = 8
FAMILY = MobileCNNFamily(SPEC, image_size=SIDE, channels=1, n_classes=10)


def images(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, SIDE, SIDE, generator=generator) + torch.randn(n, 1, 1, 1, generator=generator)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(0)
    return invariants.randomised(make_supernet(FAMILY))


def handwritten(weights: Mapping[str, Tensor], values: Mapping[str, Option], x: Tensor) -> Tensor:
    """The forward of `SPEC` by functional calls alone."""
    x = by_hand.resized(x, int(values["resolution"]))
    x = by_hand.hard_swish(by_hand.conv_norm(weights, "stem", x))
    for s in range(2):
        act = by_hand.hard_swish if s == 1 else torch.relu
        for b in range(int(values[f"stage{s}.depth"])):
            block = f"stages.{s}.{b}"
            y = act(by_hand.conv_norm(weights, f"{block}.expand", x))
            stride = 2 if s == 1 and b == 0 else 1
            y = act(by_hand.conv_norm(weights, f"{block}.filter", y, stride=stride, depthwise=True))
            if s == 1:
                gates = y.mean((2, 3))
                for layer, function in (("reduce", torch.relu), ("expand", by_hand.hard_sigmoid)):
                    name = f"{block}.squeeze.{layer}"
                    gates = function(gates @ weights[f"{name}.weight"][:, :, 0, 0].T + weights[f"{name}.bias"])
                y = y * gates[:, :, None, None]
            y = by_hand.conv_norm(weights, f"{block}.project", y)
            x = x + y if b > 0 else y
    x = by_hand.hard_swish(by_hand.conv_norm(weights, "head", x)).mean((2, 3))
    x = by_hand.hard_swish(x @ weights["mix.linear.weight"].T + weights["mix.linear.bias"])
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


def test_the_resolution_is_the_first_choice_and_networks_take_images_of_the_datas_size(supernet: Supernet) -> None:
    assert supernet.space.choices[0].options == (6, 8)
    for gene, side in enumerate((6, 8)):
        module = supernet.extract(supernet.space.canonical([gene, *supernet.space.largest.genes[1:]]))
        resize = module.get_submodule("stem.resize")
        assert isinstance(resize, Resize)
        assert resize.resolution == side
        assert module(images(2)).shape == (2, 10)


def test_keys_of_blocks_are_those_of_each_network_by_itself(supernet: Supernet) -> None:
    chosen = invariants.architectures(supernet)
    keys = BlockKeys(supernet.eval())
    found = keys.of(chosen)
    assert np.array_equal(found, one_by_one(supernet, chosen))
    small, large = (supernet.space.canonical([gene, *supernet.space.largest.genes[1:]]) for gene in (0, 1))
    both = keys.of([small, large])
    after = [i for i, block in enumerate(supernet.family.blocks) if block in ("mix", "classifier")]
    assert np.flatnonzero(both[0] == both[1]).tolist() == after  # all others work on images, whose size differs


@pytest.mark.parametrize(
    ("preset", "size", "channels", "digest"),
    [("tiny", 28, 1, "832caff2654f"), ("digits", 8, 1, "e55dc543db0a"), ("mobile", 224, 3, "e48c3d4f0cfb")],
)
def test_spaces_of_the_first_version_keep_their_digests(preset: str, size: int, channels: int, digest: str) -> None:
    family = MobileCNNFamily(MOBILE_CNN[preset], image_size=size, channels=channels, n_classes=10)
    text = json.dumps(family.to_json(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == digest
    assert not [name for name in family.dims() if "squeeze" in name or "mix" in name or "resize" in name]


def test_images_may_be_enlarged() -> None:
    family = MobileCNNFamily(replace(SPEC, resolution=(8, 12)), image_size=SIDE, channels=1, n_classes=10)
    with torch.no_grad():
        assert family.template().eval()(images(2)).shape == (2, 10)


def test_images_too_small_for_the_strides_are_refused() -> None:
    with raises("space.invalid", "1 pixels", "stage 1"):
        MobileCNNFamily(replace(SPEC, resolution=None), image_size=1, channels=1, n_classes=10)
