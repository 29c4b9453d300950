"""Tests of the linear models against textbook oracles."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from predictors.folds import make_folds, rows_outside
from predictors.label_scales import LabelScale
from predictors.linear import PENALTIES, ColumnLinearPredictor, MeanPredictor, RidgePredictor
from tests.contracts.predictor import PredictorContract, labels_of, rows
from tests.errors import raises


class TestMeanPlain(PredictorContract):
    learns = False

    def make(self) -> MeanPredictor:
        return MeanPredictor()


class TestMeanLog(PredictorContract):
    learns, positive = False, True

    def make(self) -> MeanPredictor:
        return MeanPredictor(scale=LabelScale.LOG)


@pytest.mark.parametrize(
    ("scale", "expected"),
    # By hand for labels 1, 2, 4; relative: sum(1/y) / sum(1/y²) = 1.75 / 1.3125.
    [(LabelScale.PLAIN, 7 / 3), (LabelScale.LOG, 2.0), (LabelScale.RELATIVE, 4 / 3)],
)
def test_each_scale_has_its_mean(scale: LabelScale, expected: float) -> None:
    model = MeanPredictor(scale=scale)
    model.fit(np.zeros((3, 1)), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(model.predict(np.zeros((2, 1))).mean, expected, rtol=1e-12)


class TestRidgePlain(PredictorContract):
    def make(self) -> RidgePredictor:
        return RidgePredictor()


class TestRidgeRelative(PredictorContract):
    positive = True

    def make(self) -> RidgePredictor:
        return RidgePredictor(scale=LabelScale.RELATIVE)


class TestRidgeLog(PredictorContract):
    positive = True

    def make(self) -> RidgePredictor:
        return RidgePredictor(scale=LabelScale.LOG)


class TestColumn(PredictorContract):
    def make(self) -> ColumnLinearPredictor:
        return ColumnLinearPredictor(0)


def test_penalty_is_that_of_least_leave_one_out_error() -> None:
    """The oracle refits scikit-learn's ridge without each row, on the columns as standardised over all rows."""
    x, y = load_diabetes(return_X_y=True)
    x, y = x[:40], y[:40]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    losses = {}
    for penalty in PENALTIES:
        errors = []
        for i in range(40):
            kept = np.arange(40) != i
            model = Ridge(alpha=40 * penalty).fit(z[kept], y[kept])
            errors.append(float(model.predict(z[i : i + 1])[0] - y[i]))
        losses[penalty] = np.mean(np.square(errors))
    ours = RidgePredictor()
    ours.fit(x, y)
    assert ours.penalty == min(losses, key=lambda p: losses[p])
    oracle = Ridge(alpha=40 * ours.penalty).fit(z, y)
    found = ours.predict(x)
    np.testing.assert_allclose(found.mean, oracle.predict(z), rtol=1e-8)
    # The centre of the columns moves when a row leaves; both forms of leave-one-out are exact about it.
    np.testing.assert_allclose(found.std, np.sqrt(losses[ours.penalty]), rtol=1e-6)


def test_more_columns_than_rows_do_not_look_better_than_they_are() -> None:
    """Interpolation leaves residuals of 0; the spread must be that of rows not seen."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((25, 60)), rng.standard_normal(25)
    model = RidgePredictor()
    model.fit(x, y)
    assert model.predict(x).std[0] > 0.8 * y.std()


def test_relative_scale_minimises_relative_error() -> None:
    x, y = rows(60), labels_of(rows(60), noise=0.2)
    model = RidgePredictor(scale=LabelScale.RELATIVE, columns=[0], penalties=[0.0])
    model.fit(x, y)
    design = np.stack([np.ones(60), x[:, 0]], axis=1)
    oracle = np.linalg.lstsq(design / y[:, None], np.ones(60), rcond=None)[0]
    np.testing.assert_allclose(model.predict(x).mean, design @ oracle, rtol=1e-9)


def test_column_model_is_a_least_squares_line() -> None:
    x, y = rows(), labels_of(rows())
    model = ColumnLinearPredictor(2)
    model.fit(x, y)
    np.testing.assert_allclose(model.predict(x).mean, np.polyval(np.polyfit(x[:, 2], y, 1), x[:, 2]), rtol=1e-9)


def test_positive_figures_stay_positive_far_outside() -> None:
    x = np.arange(1.0, 11.0)[:, None]
    model = ColumnLinearPredictor(0, scale=LabelScale.RELATIVE)
    model.fit(x, 2 * x[:, 0])
    found = model.predict(np.array([[-50.0], [1e6]]))
    np.testing.assert_allclose(found.mean, [0.2, 200.0])
    assert (found.low > 0).all()


def test_columns_that_do_not_exist_are_refused() -> None:
    with raises("predictor.invalid-features", "[9]", "7"):
        ColumnLinearPredictor(9).fit(rows(), labels_of(rows()))


@pytest.mark.parametrize("scale", [LabelScale.PLAIN, LabelScale.RELATIVE, LabelScale.LOG])
def test_held_out_rows_are_predicted_as_by_weighted_least_squares_without_them(scale: LabelScale) -> None:
    """The oracle solves the normal equations of the rows left, with the penalty and the scaling of all."""
    x, y = rows(40), labels_of(rows(40))
    model = RidgePredictor(scale=scale)
    model.fit(x, y)
    folds = make_folds(y, np.random.default_rng(0))
    found = model.held_out(folds).mean
    weights = y**-2 / np.mean(y**-2) if scale is LabelScale.RELATIVE else np.ones(40)
    targets = np.log(y) if scale is LabelScale.LOG else y
    z = model._standardise(x)
    design = np.hstack([np.ones((40, 1)), z])
    penalty = 40 * model.penalty * np.diag([0.0] + [1.0] * z.shape[1])
    for fold in folds:
        others = rows_outside(fold, 40)
        left = design[others] * weights[others, None]
        coefficients = np.linalg.solve(design[others].T @ left + penalty, left.T @ targets[others])
        expected = design[fold] @ coefficients
        np.testing.assert_allclose(found[fold], np.exp(expected) if scale is LabelScale.LOG else expected, rtol=1e-6)
