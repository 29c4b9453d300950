"""`supernets.families.convolutional.mobile_cnn_spec`: values that make no network are rejected."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from supernets.errors import SpaceError
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN, CNNSpec, StageSpec
from supernets.families.shared.spec import MAX_STAGES
from tests.errors import raises

STAGE = StageSpec(stride=2, depth=(1, 2), width=(8, 16), kernel=(3, 5), expand=(2,))
SPEC = CNNSpec(stem=16, stem_stride=1, stages=(STAGE,), head=64)


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        ({"stride": 0}, "stride: | 1 to 4 | 0"),
        ({"stride": True}, "stride: | 1 to 4 | True"),
        ({"depth": ()}, "depth: "),
        ({"depth": (0, 1)}, "depth: | 1 to 32 | 0"),
        ({"depth": (1, 33)}, "depth: | 1 to 32 | 33"),
        ({"width": (16, 8)}, "width: | [16, 8]"),
        ({"width": (8, 8)}, "width: | [8, 8]"),
        ({"width": (8.0,)}, "width: | 1 to 4096 | 8.0"),
        ({"kernel": (3, 4)}, "kernel: | 4"),
        ({"expand": (17,)}, "expand: | 1 to 16 | 17"),
        ({"squeeze": 1}, "squeeze: | 1"),
        ({"activation": "gelu"}, "activation: | relu | hardswish | 'gelu'"),
    ],
)
def test_a_stage_checks_itself(change: dict[str, object], mentions: str) -> None:
    with raises("space.invalid-dimension", *mentions.split(" | ")):
        replace(STAGE, **change)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        ({"stem": 0}, "stem: | 1 to 4096 | 0"),
        ({"stem_stride": 5}, "stem_stride: | 1 to 4 | 5"),
        ({"head": "64"}, "head: | 1 to 4096 | '64'"),
        ({"stages": ()}, "stages: | 1 to 16 | 0"),
        ({"activation": None}, "activation: | relu | hardswish | None"),
        ({"mix": 0}, "mix: | 1 to 4096 | 0"),
        ({"resolution": ()}, "resolution: "),
        ({"resolution": (28, 24)}, "resolution: | [28, 24]"),
        (
            {"resolution": (1, 28)},
            "resolution: | 1 pixels | stage 0",
        ),
        ({"stages": (STAGE,) * (MAX_STAGES + 1)}, "stages: | 1 to 16 | 17"),
    ],
)
def test_a_space_checks_itself(change: dict[str, object], mentions: str) -> None:
    with raises("space.invalid-dimension", *mentions.split(" | ")):
        replace(SPEC, **change)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "spec", [SPEC, replace(SPEC, stages=(replace(STAGE, squeeze=True),), resolution=(4, 8)), *MOBILE_CNN.values()]
)
def test_a_space_survives_json(spec: CNNSpec) -> None:
    assert CNNSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("damage", [{"stages": 3}, {"stages": [{}]}, {"stages": None}, {"stem": 0}])
def test_damaged_json_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(SpaceError):
        CNNSpec.from_json({**SPEC.to_json(), **damage})


def test_a_missing_key_is_refused() -> None:
    with raises("space.invalid", "head"):
        CNNSpec.from_json({key: value for key, value in SPEC.to_json().items() if key != "head"})
