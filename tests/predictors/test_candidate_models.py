"""Tests of models on what a lookup table's sum leaves over."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from predictors.base import Array
from predictors.candidate_models import ResidualPredictor
from predictors.folds import make_folds
from predictors.label_scales import LabelScale
from predictors.linear import ColumnLinearPredictor, RidgePredictor
from tests.contracts.predictor import PredictorContract


class TestOnAColumn(PredictorContract):
    positive = True

    def make(self) -> ResidualPredictor:
        base = partial(ColumnLinearPredictor, 0, scale=LabelScale.RELATIVE)
        return ResidualPredictor(base, partial(RidgePredictor, scale=LabelScale.PLAIN))


class TestOfDifferences(PredictorContract):
    def make(self) -> ResidualPredictor:
        return ResidualPredictor(partial(ColumnLinearPredictor, 0), RidgePredictor)


@pytest.fixture
def data() -> tuple[Array, Array]:
    """(60, 4): a sum of which the figure is an affine map, but for a factor by column 3."""
    x = np.random.default_rng(0).uniform(1, 2, (60, 4))
    return x, (0.5 + 2 * x[:, 0]) * np.exp(0.1 * (x[:, 3] - 1.5))


def test_what_the_base_leaves_over_is_learnt(data: tuple[Array, Array]) -> None:
    x, y = data
    base = partial(ColumnLinearPredictor, 0, scale=LabelScale.RELATIVE)
    model, alone = ResidualPredictor(base, partial(RidgePredictor, columns=[3])), base()
    errors = []
    for each in (model, alone):
        each.fit(x[:40], y[:40])
        errors.append(np.abs(each.predict(x[40:]).mean / y[40:] - 1).mean())
    assert errors[0] < 0.4 * errors[1]  # what remains is the base: an affine map fitted beside the factor


def test_held_out_rows_are_predicted_about_as_by_fits_without_them(data: tuple[Array, Array]) -> None:
    x, y = data
    noisy = y * np.exp(0.02 * np.random.default_rng(1).standard_normal(60))
    base = partial(ColumnLinearPredictor, 0, scale=LabelScale.RELATIVE)
    model = ResidualPredictor(base, partial(RidgePredictor, columns=[3]))
    model.fit(x, noisy)
    folds = make_folds(noisy, np.random.default_rng(0))
    found = model.held_out(folds).mean
    for fold in folds:
        again = ResidualPredictor(base, partial(RidgePredictor, columns=[3]))
        keep = np.setdiff1d(np.arange(60), fold)
        again.fit(x[keep], noisy[keep])
        # The penalty and the base's errors are those of all rows, which is little beside the labels' noise of 2 %.
        np.testing.assert_allclose(found[fold], again.predict(x[fold]).mean, rtol=1e-2)
