"""Warps of labels, and predictions under them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors.kernel_process import LOG, PLAIN, WarpedLabels, best_warp


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=8))
def test_warps_increase_and_have_inverses(metric_values: list[float]) -> None:
    y = np.array(sorted(metric_values))
    for warp in (PLAIN, LOG, best_warp(y)):
        warped = warp.forward(y)
        assert (np.diff(warped) >= 0).all()
        assert warp.inverse(warped) == pytest.approx(y, rel=1e-6, abs=1e-6)
        assert (warp.slope(y) > 0).all()


@given(st.lists(st.floats(1.0, 50.0), min_size=3, max_size=8, unique=True))
def test_slopes_are_differences(labels: list[float]) -> None:
    y = np.array(sorted(labels))
    for warp in (PLAIN, LOG, best_warp(y)):
        w, step = warp.forward(y), 1e-6
        numeric = (warp.inverse(w + step) - warp.inverse(w - step)) / (2 * step)
        assert warp.slope(y) == pytest.approx(numeric, rel=1e-4, abs=1e-7)


def test_the_interval_holds_nine_tenths_of_a_normal_distribution() -> None:
    y = np.array([1.0, 2.0, 4.0])
    labels = WarpedLabels.of(y, LOG)
    assert (labels.z.mean(), labels.z.std()) == (pytest.approx(0.0, abs=1e-12), pytest.approx(1.0))
    found = labels.prediction(labels.z, np.full(3, 0.5))
    assert found.mean == pytest.approx(y)
    drawn = np.random.default_rng(0).standard_normal(100_000) * 0.5 * np.log(y).std() + np.log(2.0)
    inside = np.mean((np.log(found.low[1]) <= drawn) & (drawn <= np.log(found.high[1])))
    assert inside == pytest.approx(0.9, abs=0.005)  # five standard errors of 100,000 draws


def test_constant_labels_have_unit_one() -> None:
    labels = WarpedLabels.of(np.full(4, 3.0), PLAIN)
    assert (labels.centre, labels.unit, labels.z.tolist()) == (3.0, 1.0, [0.0] * 4)
