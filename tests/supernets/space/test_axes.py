"""Slices, permutations and sizes of products and concatenations, against plain indexing."""

from __future__ import annotations

import pytest
import torch

from supernets.space.axes import (
    Axis,
    Concat,
    Dim,
    axes_in,
    axis_indices,
    check_dims,
    permute_tensor,
    size_of,
    slice_tensor,
)
from tests.errors import raises

AXES = {"a": Axis("a", 4), "b": Axis("b", 3), "k": Axis("k", 5, slice="centre")}
SIZES = {"a": 2, "b": 1, "k": 3}


@pytest.mark.parametrize(
    ("dim", "full", "kept"),
    [
        (7, 7, [0, 1, 2, 3, 4, 5, 6]),
        ("a", 4, [0, 1]),
        ("k", 5, [1, 2, 3]),
        ((2, "a"), 8, [0, 1, 4, 5]),
        (("a", 2), 8, [0, 1, 2, 3]),
        (Concat(("a", "b")), 7, [0, 1, 4]),
        (Concat((2, ("b", 2))), 8, [0, 1, 2, 3]),
    ],
)
def test_slice_tensor_keeps_the_expected_positions(dim: Dim, full: int, kept: list[int]) -> None:
    tensor = torch.arange(2.0 * full).reshape(2, full)
    assert torch.equal(slice_tensor(tensor, (2, dim), AXES, SIZES), tensor[:, kept])
    assert size_of(dim, SIZES) == len(kept)


@pytest.mark.parametrize(
    ("dim", "order"),
    [
        ("a", [3, 1, 0, 2]),
        ((2, "a"), [3, 1, 0, 2, 7, 5, 4, 6]),
        (("a", 2), [6, 7, 2, 3, 0, 1, 4, 5]),
        (Concat(("b", "a")), [0, 1, 2, 6, 4, 3, 5]),
        (("a", "a"), [15, 13, 12, 14, 7, 5, 4, 6, 3, 1, 0, 2, 11, 9, 8, 10]),
        ("b", [0, 1, 2]),
    ],
)
def test_permute_tensor_reorders_one_axis_of_any_dimension(dim: Dim, order: list[int]) -> None:
    tensor = torch.arange(float(len(order)))
    assert torch.equal(permute_tensor(tensor, (dim,), AXES, "a", torch.tensor([3, 1, 0, 2])), tensor[order])


@pytest.mark.parametrize(
    ("dim", "indices"),
    [
        (3, [-1, -1, -1]),
        ("a", [0, 1, 2, 3]),
        ("b", [-1, -1, -1]),
        ((2, "a"), [0, 1, 2, 3, 0, 1, 2, 3]),
        ((2, "a", 2), [0, 0, 1, 1, 2, 2, 3, 3] * 2),
        (Concat(("b", (("a", 2), 1))), [-1, -1, -1, 0, 0, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_axis_indices_and_permutations_agree(dim: Dim, indices: list[int]) -> None:
    found = axis_indices(dim, AXES, "a")
    assert found.tolist() == indices
    order = torch.tensor([3, 1, 0, 2])
    moved = permute_tensor(found, (dim,), AXES, "a", order)
    assert torch.equal(moved, torch.where(found >= 0, order[found], -1))
    assert axes_in(dim) == {name for name in AXES if (axis_indices(dim, AXES, name) >= 0).any()}


def test_dims_that_do_not_match_the_tensors_are_rejected() -> None:
    with raises("family.inconsistent", "w", "(4, 2)", "(4, 3)"):
        check_dims({"w": (4, 2)}, {"w": ("a", 3)}, AXES)
    with raises("family.inconsistent", " v"):
        check_dims({"w": (4,)}, {"w": ("a",), "v": ("b",)}, AXES)
