"""Small spaces with a feature pyramid for tests, and the forward of their networks up to the levels by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from supernets.families.convolutional.mobile_cnn_spec import StageSpec
from supernets.families.convolutional.resnet_spec import BottleneckStage
from supernets.space import Option
from tests.supernets.families import by_hand

SIDE, CLASSES = 16, 3
STAGES = (
    StageSpec(stride=1, depth=(1, 2), width=(4, 6), kernel=(3,), expand=(1, 2), activation="hardswish"),
    StageSpec(stride=2, depth=(1, 2), width=(6, 8), kernel=(3, 5), expand=(1, 2), activation="hardswish"),
    StageSpec(stride=2, depth=(1,), width=(8, 12), kernel=(3,), expand=(1, 2), activation="hardswish"),
    StageSpec(stride=1, depth=(1,), width=(8, 12), kernel=(3,), expand=(2,), activation="hardswish"),
)
BOTTLENECKS = (
    BottleneckStage(stride=2, depth=(1, 2), width=(16, 32), expand=(0.5, 1)),
    BottleneckStage(stride=2, depth=(1, 2), width=(16, 32), expand=(0.5, 1)),
)
DIMENSIONS: Mapping[str, Any] = {
    "stem": 4,
    "activation": "hardswish",
    "stem_stride": 2,
    "levels": 2,
    "neck_width": (4, 6),
    "neck_depth": (1, 2),
    "neck_kernel": (3, 5),
    "neck_expand": (1, 2),
    "head_width": (4, 8),
    "head_depth": (1, 2),
    "head_kernel": (3, 5),
}
"""Without dead channels of a ReLU, whose norms would amplify rounding. Of `STAGES`, whose strides are 2, 4 and 8, the levels
read the stages 1 and 3."""


def inverted_residual(weights: by_hand.Weights, name: str, x: Tensor, *, stride: int = 1) -> Tensor:
    """An inverted residual without its skip."""
    y = by_hand.hard_swish(by_hand.conv_norm(weights, f"{name}.expand", x))
    y = by_hand.hard_swish(by_hand.conv_norm(weights, f"{name}.filter", y, stride=stride, depthwise=True))
    return by_hand.conv_norm(weights, f"{name}.project", y)


def levels(weights: by_hand.Weights, values: Mapping[str, Option], x: Tensor) -> tuple[Tensor, Tensor]:
    """The two levels of the pyramid of a network with `STAGES`, finest first."""
    x = by_hand.hard_swish(by_hand.conv_norm(weights, "stem", x, stride=2))
    outputs = []
    for s, stride in enumerate((1, 2, 2, 1)):
        for b in range(int(values[f"stage{s}.depth"])):
            y = inverted_residual(weights, f"stages.{s}.{b}", x, stride=stride if b == 0 else 1)
            x = x + y if b > 0 else y
        outputs.append(x)
    coarse = by_hand.hard_swish(by_hand.conv_norm(weights, "neck.1.lateral", outputs[3]))
    coarse = _blocks(weights, values, 1, coarse)
    n, width, side, _ = coarse.shape
    enlarged = coarse[:, :, :, None, :, None].expand(n, width, side, 2, side, 2).reshape(n, width, 2 * side, 2 * side)
    fine = by_hand.hard_swish(by_hand.conv_norm(weights, "neck.0.lateral", outputs[1])) + enlarged
    return _blocks(weights, values, 0, fine), coarse


def _blocks(weights: by_hand.Weights, values: Mapping[str, Option], level: int, x: Tensor) -> Tensor:
    for b in range(int(values[f"neck{level}.depth"])):
        x = x + inverted_residual(weights, f"neck.{level}.layers.{b}", x)
    return x


def head_layers(
    weights: by_hand.Weights, values: Mapping[str, Option], x: Tensor, *, convolution: int = 0, level: int = 0
) -> Tensor:
    """The layers of a head at a level, by the index of their convolutions and of the level."""
    for i in range(int(values["head.depth"])):
        for conv, norm, depthwise in (("filters", "filter_norms", True), ("mixers", "norms", False)):
            of_layer = {"a.conv.weight": weights[f"head.layers.{i}.{conv}.{convolution}.weight"]}
            for key in ("running_mean", "running_var", "weight", "bias"):
                of_layer[f"a.norm.{key}"] = weights[f"head.layers.{i}.{norm}.{level}.{key}"]
            x = by_hand.hard_swish(by_hand.conv_norm(of_layer, "a", x, depthwise=depthwise))
    return x
