"""`supernets.families.spec`: dimensions that make no network are refused where they are written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from supernets.errors import SpaceError
from supernets.families.presets import MOBILE_CNN, PRESETS
from supernets.families.spec import MAX_STAGES, CNNSpec, StageSpec

STAGE = StageSpec(stride=2, depth=(1, 2), width=(8, 16), kernel=(3, 5), expand=(2,))
SPEC = CNNSpec(stem=16, stem_stride=1, stages=(STAGE,), head=64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 0}, "stride: expected a whole number from 1 to 4, got 0"),
        ({"stride": True}, "stride: expected a whole number from 1 to 4, got True"),
        ({"depth": ()}, "depth: expected at least one option, got none"),
        ({"depth": (0, 1)}, "depth: expected a whole number from 1 to 32, got 0"),
        ({"depth": (1, 33)}, "depth: expected a whole number from 1 to 32, got 33"),
        ({"width": (16, 8)}, r"width: expected options in ascending order, each once; got \[16, 8\]"),
        ({"width": (8, 8)}, r"width: expected options in ascending order, each once; got \[8, 8\]"),
        ({"width": (8.0,)}, "width: expected a whole number from 1 to 4096, got 8.0"),
        ({"kernel": (3, 4)}, "kernel: expected odd sides.*; got 4"),
        ({"expand": (17,)}, "expand: expected a whole number from 1 to 16, got 17"),
        ({"squeeze": 1}, "squeeze: expected true or false, got 1"),
        ({"activation": "gelu"}, "activation: expected relu or hardswish, got 'gelu'"),
    ],
)
def test_a_stage_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{message}$"):
        replace(STAGE, **change)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": 0}, "stem: expected a whole number from 1 to 4096, got 0"),
        ({"stem_stride": 5}, "stem_stride: expected a whole number from 1 to 4, got 5"),
        ({"head": "64"}, "head: expected a whole number from 1 to 4096, got '64'"),
        ({"stages": ()}, "stages: expected 1 to 16 stages, got 0"),
        ({"activation": None}, "activation: expected relu or hardswish, got None"),
        ({"mix": 0}, "mix: expected a whole number from 1 to 4096, got 0"),
        ({"resolution": ()}, "resolution: expected at least one option, got none"),
        ({"resolution": (28, 24)}, r"resolution: expected options in ascending order, each once; got \[28, 24\]"),
        (
            {"resolution": (1, 28)},
            "resolution: images of 1 pixels are too small: 1 pixels of them reach stage 0, whose stride is 2; .*",
        ),
        ({"stages": (STAGE,) * (MAX_STAGES + 1)}, "stages: expected 1 to 16 stages, got 17"),
    ],
)
def test_a_space_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{message}$"):
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
    with pytest.raises(SpaceError, match="malformed: KeyError\\('head'\\)"):
        CNNSpec.from_json({key: value for key, value in SPEC.to_json().items() if key != "head"})


def test_the_presets_are_named_by_family_and_need_no_torch() -> None:
    assert set(PRESETS["mobile-cnn"]) == {"tiny", "mobile", "digits", "ofa", "tiny-v3"}
    assert set(PRESETS["resnet"]) == {"ofa-resnet50", "tiny", "digits"}
    code = "import sys, supernets.families.presets; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
