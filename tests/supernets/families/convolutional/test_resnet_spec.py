"""`supernets.families.convolutional.resnet_spec`: values that make no network are rejected."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from supernets.errors import SpaceError
from supernets.families.convolutional.resnet_spec import RESNET, BottleneckStage, ResNetSpec, bottleneck
from tests.errors import raises

STAGE = BottleneckStage(stride=2, depth=(1, 2), width=(32, 64), expand=(0.25, 0.5))
SPEC = ResNetSpec(stem=(16,), stem_stride=2, stages=(STAGE, STAGE))


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        ({"stride": 5}, "stride: | 1 to 4 | 5"),
        ({"depth": (0,)}, "depth: | 1 to 32 | 0"),
        ({"width": (64, 32)}, "width: | [64, 32]"),
        ({"expand": ()}, "expand: "),
        ({"expand": (0.0, 0.5)}, "expand: | 0 | 1 | 0.0"),
        ({"expand": (0.5, 2)}, "expand: | 0 | 1 | 2"),
        ({"expand": (True,)}, "expand: | 0 | 1 | True"),
        ({"expand": (float("nan"),)}, "expand: | 0 | 1 | nan"),
        ({"expand": ("0.5",)}, "expand: | 0 | 1 | '0.5'"),
        ({"expand": (0.5, 0.25)}, "expand: | [0.5, 0.25]"),
        ({"expand": (0.2, 0.25)}, "expand: | 0.2 | 0.25 | 32 | 8"),
    ],
)
def test_a_stage_checks_itself(change: dict[str, object], mentions: str) -> None:
    with raises("space.invalid-dimension", *mentions.split(" | ")):
        replace(STAGE, **change)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        ({"stem": (0,)}, "stem: | 1 to 4096 | 0"),
        ({"stem_stride": 0}, "stem_stride: | 1 to 4 | 0"),
        ({"stem_pool": 1}, "stem_pool: | 1"),
        ({"stages": ()}, "stages: | 1 to 16 | 0"),
        ({"resolution": ()}, "resolution: "),
        ({"resolution": (2048,)}, "resolution: | 1 to 1024 | 2048"),
        (
            {"resolution": (24, 28, 32)},
            "resolution: | 28 pixels | 7 pixels | stage 1",
        ),
    ],
)
def test_a_space_checks_itself(change: dict[str, object], mentions: str) -> None:
    with raises("space.invalid-dimension", *mentions.split(" | ")):
        replace(SPEC, **change)  # type: ignore[arg-type]  # wrong on purpose


def test_the_bottleneck_is_a_share_of_the_blocks_width() -> None:
    assert [bottleneck(256, ratio) for ratio in (0.2, 0.25, 0.35)] == [48, 64, 88]
    assert bottleneck(8, 0.1) == 8


@pytest.mark.parametrize("spec", [SPEC, *RESNET.values()])
def test_a_space_survives_json(spec: ResNetSpec) -> None:
    assert ResNetSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("damage", [{"stages": 3}, {"stages": [{}]}, {"stages": None}, {"stem": None}])
def test_damaged_json_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(SpaceError):
        ResNetSpec.from_json({**SPEC.to_json(), **damage})
