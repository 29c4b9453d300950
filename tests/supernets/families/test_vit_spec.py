"""`supernets.families.vit_spec`: dimensions that make no transformer are refused where they are written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from supernets.errors import SpaceError
from supernets.families.presets import VIT
from supernets.families.vit_spec import ViTSpec, divided_head_size

SPEC = ViTSpec(patch=4, head_size=16, depth=(2, 4), width=(48, 64), heads=(2, 4), mlp=(2, 3.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 0}, "patch: expected a whole number from 1 to 256, got 0"),
        ({"head_size": None}, "head_size: expected a whole number from 1 to 512, got None"),
        ({"depth": (2, 65)}, "depth: expected a whole number from 1 to 64, got 65"),
        ({"depth": ()}, "depth: expected at least one option, got none"),
        ({"width": (64, 48)}, r"width: expected options in ascending order, each once; got \[64, 48\]"),
        ({"heads": (2.0,)}, "heads: expected a whole number from 1 to 64, got 2.0"),
        ({"mlp": ()}, "mlp: expected at least one option, got none"),
        ({"mlp": (0.0, 1)}, "mlp: expected a number above 0, at most 16, got 0.0"),
        ({"mlp": (2, float("nan"))}, "mlp: expected a number above 0, at most 16, got nan"),
        ({"mlp": (True,)}, "mlp: expected a number above 0, at most 16, got True"),
        ({"mlp": ("4",)}, "mlp: expected a number above 0, at most 16, got '4'"),
        ({"mlp": (2, 2.0)}, r"mlp: expected options in ascending order, each once; got \[2, 2.0\]"),
        ({"mlp": (2, 2.01)}, r"mlp: 2.0 and 2.01 of a width of 48 both give 96 channels, so that equal .*"),
    ],
)
def test_a_space_checks_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{message}$"):
        replace(SPEC, **change)  # type: ignore[arg-type]  # wrong on purpose


def test_a_head_size_is_the_width_divided_among_heads() -> None:
    assert divided_head_size(192, 3) == 64
    with pytest.raises(SpaceError, match=r"^heads: 5 heads do not divide a width of 192; .* or head_size"):
        divided_head_size(192, 5)


def test_equal_ratios_are_written_one_way() -> None:
    assert replace(SPEC, mlp=(2, 4)).to_json() == replace(SPEC, mlp=(2.0, 4.0)).to_json()
    assert json.dumps(replace(SPEC, mlp=(2, 4)).to_json()) == json.dumps(replace(SPEC, mlp=(2.0, 4.0)).to_json())


def test_a_space_of_one_network_is_told() -> None:
    one = ViTSpec(4, 16, (2,), (48,), (2,), (2,))
    assert one.single
    assert not any(replace(one, **{name: (2, 48)}).single for name in ("depth", "width", "heads"))
    assert not replace(one, mlp=(2, 3.5)).single


@pytest.mark.parametrize("spec", [SPEC, *VIT.values()])
def test_a_space_survives_json(spec: ViTSpec) -> None:
    assert ViTSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("damage", [{"depth": 3}, {"mlp": None}, {"patch": 0}, {"heads": ["2"]}])
def test_damaged_json_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(SpaceError):
        ViTSpec.from_json({**SPEC.to_json(), **damage})


def test_a_missing_key_is_refused() -> None:
    with pytest.raises(SpaceError, match="malformed: KeyError\\('head_size'\\)"):
        ViTSpec.from_json({key: value for key, value in SPEC.to_json().items() if key != "head_size"})


def test_it_needs_no_torch() -> None:
    code = "import sys, supernets.families.vit_spec; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
