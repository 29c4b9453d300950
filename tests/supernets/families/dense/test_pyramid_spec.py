"""`supernets.families.dense.pyramid_spec`: the stages that levels read, and what makes no network."""

from __future__ import annotations

from typing import Any

import pytest

from supernets.families.dense.detector_spec import DetectorSpec
from tests.errors import raises
from tests.supernets.families.dense.small_pyramids import BOTTLENECKS, DIMENSIONS, STAGES


def spec(**changes: Any) -> DetectorSpec:
    return DetectorSpec(**{**DIMENSIONS, "stages": STAGES, **changes})


@pytest.mark.parametrize(
    ("levels", "strides", "stages"), [(1, (8,), (3,)), (2, (4, 8), (1, 3)), (3, (2, 4, 8), (0, 1, 3))]
)
def test_levels_read_the_last_stage_of_each_stride(
    levels: int, strides: tuple[int, ...], stages: tuple[int, ...]
) -> None:
    made = spec(levels=levels)
    assert (made.strides, made.level_stages) == (strides, stages)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"stages": None}, "space.missing-dimension", ("stages", "bottlenecks")),
        ({"bottlenecks": BOTTLENECKS}, "space.invalid-dimension", ("bottlenecks", "remove")),
        ({"levels": 4}, "space.invalid-dimension", ("levels", "3", "4")),
        ({"neck_kernel": (3, 4)}, "space.invalid-dimension", ("neck_kernel", "odd", "4")),
        ({"head_kernel": (2,)}, "space.invalid-dimension", ("head_kernel", "odd", "2")),
    ],
)
def test_other_values_are_refused(changes: dict[str, Any], code: str, words: tuple[str, ...]) -> None:
    with raises(code, *words):
        spec(**changes)


def test_images_that_the_coarsest_stride_does_not_divide_are_refused() -> None:
    spec().check_side(40)
    with raises("space.invalid", "42 pixels", "8", "40"):
        spec().check_side(42)
