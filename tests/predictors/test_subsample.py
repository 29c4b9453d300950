"""Rows that are evenly spaced."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.subsample import evenly_spaced


@pytest.mark.parametrize(
    ("n", "most", "rows"),
    [
        (0, 3, []),
        (1, 3, [0]),
        (3, 3, [0, 1, 2]),
        (3, 10, [0, 1, 2]),
        (9, 3, [0, 4, 8]),
        (10, 4, [0, 3, 6, 9]),
        (5, 1, [0]),
    ],
)
def test_they_are_as_many_as_there_may_be_from_the_first_to_the_last(n: int, most: int, rows: list[int]) -> None:
    assert evenly_spaced(n, most).tolist() == rows


def test_gaps_differ_by_one_at_most() -> None:
    for n in range(2, 200):
        gaps = np.diff(evenly_spaced(n, 17))
        assert gaps.min() >= 1
        assert np.ptp(gaps) <= 1
