"""`supernets.families.vision_transformer.vision_transformer_spec`: values that make no network are rejected."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from supernets.errors import SpaceError
from supernets.families.vision_transformer.vision_transformer_spec import VIT, ViTSpec, divided_head_size
from tests.errors import raises

SPEC = ViTSpec(patch=4, head_size=16, depth=(2, 4), width=(48, 64), heads=(2, 4), mlp=(2, 3.5))


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        ({"patch": 0}, "patch: | 1 to 256 | 0"),
        ({"head_size": None}, "head_size: | 1 to 512 | None"),
        ({"depth": (2, 65)}, "depth: | 1 to 64 | 65"),
        ({"depth": ()}, "depth: "),
        ({"width": (64, 48)}, "width: | [64, 48]"),
        ({"heads": (2.0,)}, "heads: | 1 to 64 | 2.0"),
        ({"mlp": ()}, "mlp: "),
        ({"mlp": (0.0, 1)}, "mlp: | 0 | 16 | 0.0"),
        ({"mlp": (2, float("nan"))}, "mlp: | 0 | 16 | nan"),
        ({"mlp": (True,)}, "mlp: | 0 | 16 | True"),
        ({"mlp": ("4",)}, "mlp: | 0 | 16 | '4'"),
        ({"mlp": (2, 2.0)}, "mlp: | [2.0, 2.0]"),
        ({"mlp": (2, 2.01)}, "mlp: | 2.0 | 2.01 | 48 | 96"),
    ],
)
def test_a_space_checks_itself(change: dict[str, object], mentions: str) -> None:
    with raises("space.invalid-dimension", *mentions.split(" | ")):
        replace(SPEC, **change)  # type: ignore[arg-type]  # wrong on purpose


def test_a_head_size_is_the_width_divided_among_heads() -> None:
    assert divided_head_size(192, 3) == 64
    with raises("space.invalid-dimension", "heads: ", "5 heads", "192", "head_size"):
        divided_head_size(192, 5)


def test_equal_ratios_are_written_one_way() -> None:
    assert replace(SPEC, mlp=(2, 4)).to_json() == replace(SPEC, mlp=(2.0, 4.0)).to_json()
    assert json.dumps(replace(SPEC, mlp=(2, 4)).to_json()) == json.dumps(replace(SPEC, mlp=(2.0, 4.0)).to_json())


def test_a_space_of_one_network_is_recognised() -> None:
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
    with raises("space.invalid", "head_size"):
        ViTSpec.from_json({key: value for key, value in SPEC.to_json().items() if key != "head_size"})
