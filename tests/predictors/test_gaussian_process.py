"""Tests of the Gaussian process."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.errors import PredictorError
from predictors.gaussian_process import GaussianProcessPredictor
from predictors.scale import LabelScale
from tests.contracts.predictor import PredictorContract, figures, rows


class TestPlain(PredictorContract):
    def make(self) -> GaussianProcessPredictor:
        return GaussianProcessPredictor()


class TestLog(PredictorContract):
    positive = True

    def make(self) -> GaussianProcessPredictor:
        return GaussianProcessPredictor(scale=LabelScale.LOG)


class TestLengthPerColumn(PredictorContract):
    def make(self) -> GaussianProcessPredictor:
        return GaussianProcessPredictor(ard=True)


def test_posterior_is_the_textbook_one() -> None:
    x, y = rows(), figures(rows())
    new = rows(9, seed=4)
    model = GaussianProcessPredictor()
    model.fit(x, y)
    amplitude, length, noise = np.exp(np.asarray(model.hyperparameters))
    used = [0, 1, 2, 4, 5, 6]  # column 3 is constant
    centre, scale = x[:, used].mean(axis=0), x[:, used].std(axis=0)
    a, b = (x[:, used] - centre) / scale, (new[:, used] - centre) / scale

    def kernel(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        squared = ((p[:, None, :] - q[None, :, :]) ** 2).sum(axis=2)
        return np.asarray(amplitude * np.exp(-squared / (2 * length**2)))

    inverse = np.linalg.inv(kernel(a, a) + noise * np.eye(len(x)))
    mean = y.mean() + kernel(b, a) @ inverse @ (y - y.mean())
    variance = amplitude + noise - np.einsum("ij,jk,ik->i", kernel(b, a), inverse, kernel(b, a))
    found = model.predict(new)
    # Amplitudes of up to 1,000 over noise of 1e-5 cost digits to the explicit inverse.
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, np.sqrt(variance) * y.std(), rtol=1e-3)
    np.testing.assert_allclose(found.high - found.low, 2 * 1.6448536 * found.std, rtol=1e-6)


def test_left_out_deviation_equals_that_of_a_refit_without_the_row() -> None:
    x, y = rows(), figures(rows(), noise=0.2)
    model = GaussianProcessPredictor()
    model.fit(x, y)
    inverse = np.linalg.inv(model._process.kernel_(model._standardise(x)))
    np.testing.assert_allclose(model.left_out_std(), y.std() / np.sqrt(np.diag(inverse)), rtol=1e-5)


def test_learns_a_curve_that_no_line_follows_and_doubts_what_is_far() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (60, 2))
    y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2
    model = GaussianProcessPredictor()
    model.fit(x, y)
    near = rng.uniform(-1.5, 1.5, (100, 2))
    assert np.abs(model.predict(near).mean - np.sin(2 * near[:, 0]) - near[:, 1] ** 2).max() < 0.25
    assert model.predict(np.array([[8.0, 8.0]])).std[0] > 5 * model.predict(near).std.mean()


def test_given_hyperparameters_are_kept() -> None:
    first = GaussianProcessPredictor()
    first.fit(rows(), figures(rows()))
    second = GaussianProcessPredictor(hyperparameters=first.hyperparameters)
    second.fit(rows(), figures(rows()))
    np.testing.assert_array_equal(first.predict(rows(6)).std, second.predict(rows(6)).std)


def test_relative_scale_is_refused() -> None:
    with pytest.raises(PredictorError, match="pass PLAIN or LOG"):
        GaussianProcessPredictor(scale=LabelScale.RELATIVE)
