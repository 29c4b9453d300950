"""Tests of conformal spreads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from predictors.intervals import N_CHOSEN, Spread, widths_help


def test_half_width_is_the_ranked_error() -> None:
    errors = np.arange(1.0, 20.0) * np.array([1, -1] * 9 + [1])  # 19 errors: the ceil(20 * 0.9) = 18th
    assert Spread.of(errors).half == 18.0
    assert Spread.of(errors).std == np.sqrt(np.mean(np.arange(1.0, 20.0) ** 2))


def test_too_few_errors_for_that_rank_take_students_t() -> None:
    spread = Spread.of(np.array([1.0, -1.0, 1.0, -1.0]))
    np.testing.assert_allclose(spread.half, t.ppf(0.95, 3))


def test_coverage_is_at_least_nominal_whatever_the_noise() -> None:
    """The conformal promise, averaged over calibration sets: P(covered) in [0.9, 0.9 + 1 / (n + 1)]."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        draw = rng.standard_t(2, 31)
        covered.append(abs(draw[30]) <= Spread.of(draw[:30]).half)
    # Standard error of the share: 0.0067.
    assert 0.88 < np.mean(covered) < 0.9 + 1 / 31 + 0.02


def test_ratios_scale_with_the_mean() -> None:
    found = Spread(std=0.1, half=np.log(2.0)).around(np.array([1.0, 10.0]), ratio=True)
    np.testing.assert_allclose(found.low, [0.5, 5.0])
    np.testing.assert_allclose(found.high, [2.0, 20.0])
    np.testing.assert_allclose(found.std, [0.1, 1.0])


def test_widths_help_where_errors_follow_them() -> None:
    rng = np.random.default_rng(0)
    widths = np.exp(rng.standard_normal(200))
    noise = rng.standard_normal(200)
    assert widths_help(widths * noise, widths)
    assert not widths_help(noise, widths)
    assert not widths_help(np.zeros(200), widths)


def test_spread_widens_like_the_residuals_of_a_fit() -> None:
    """Residuals of n rows and p coefficients are too small by sqrt((n - p) / n), here in 4,000 regressions."""
    n, p = 30, N_CHOSEN
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((n, p)))[0]
    labels = rng.standard_normal((n, 4000))
    residuals = labels - basis @ (basis.T @ labels)
    spread = Spread(float(np.sqrt(np.mean(residuals**2))), 2.0)
    assert spread.widened(n).std == pytest.approx(1.0, rel=0.02)
    assert spread.widened(n).half == pytest.approx(2.0 * np.sqrt(n / (n - p)))
    assert spread.widened(8).half == pytest.approx(2.0 * np.sqrt(2.0))
