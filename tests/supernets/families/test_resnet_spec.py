"""`supernets.families.resnet_spec`: dimensions that make no network are refused where they are written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from supernets.errors import SpaceError
from supernets.families.presets import RESNET
from supernets.families.resnet_spec import BottleneckStage, ResNetSpec, bottleneck

STAGE = BottleneckStage(stride=2, depth=(1, 2), width=(32, 64), expand=(0.25, 0.5))
SPEC = ResNetSpec(stem=(16,), stem_stride=2, stages=(STAGE, STAGE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 5}, "stride: expected a whole number from 1 to 4, got 5"),
        ({"depth": (0,)}, "depth: expected a whole number from 1 to 32, got 0"),
        ({"width": (64, 32)}, r"width: expected options in ascending order, each once; got \[64, 32\]"),
        ({"expand": ()}, "expand: expected at least one option, got none"),
        ({"expand": (0.0, 0.5)}, "expand: expected a number above 0, at most 1, got 0.0"),
        ({"expand": (0.5, 2)}, "expand: expected a number above 0, at most 1, got 2"),
        ({"expand": (True,)}, "expand: expected a number above 0, at most 1, got True"),
        ({"expand": (float("nan"),)}, "expand: expected a number above 0, at most 1, got nan"),
        ({"expand": ("0.5",)}, "expand: expected a number above 0, at most 1, got '0.5'"),
        ({"expand": (0.5, 0.25)}, r"expand: expected options in ascending order, each once; got \[0.5, 0.25\]"),
        ({"expand": (0.2, 0.25)}, r"expand: 0.2 and 0.25 of 32 channels both give 8 \(a multiple of 8\).*"),
    ],
)
def test_a_stage_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{message}$"):
        replace(STAGE, **change)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": (0,)}, "stem: expected a whole number from 1 to 4096, got 0"),
        ({"stem_stride": 0}, "stem_stride: expected a whole number from 1 to 4, got 0"),
        ({"stem_pool": 1}, "stem_pool: expected true or false, got 1"),
        ({"stages": ()}, "stages: expected 1 to 16 stages, got 0"),
        ({"resolution": ()}, "resolution: expected at least one option, got none"),
        ({"resolution": (2048,)}, "resolution: expected a whole number from 1 to 1024, got 2048"),
        (
            {"resolution": (24, 28, 32)},
            "resolution: images of 28 pixels do not fit: 7 pixels of them reach stage 1, whose stride is 2; .*",
        ),
    ],
)
def test_a_space_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{message}$"):
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
