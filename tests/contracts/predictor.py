"""The contract of every predictor: a class to subclass as `Test...` with a `make`."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.base import Array, Predictor
from tests.errors import raises

N, D = 40, 7


def rows(n: int = N, seed: int = 0) -> Array:
    """Features (n, 7): three continuous columns, a constant one, and a one-hot choice of three."""
    rng = np.random.default_rng(seed)
    choice = np.eye(3)[rng.integers(0, 3, n)]
    return np.hstack([rng.uniform(1, 3, (n, 3)), np.full((n, 1), 7.0), choice])


def labels_of(features: Array, noise: float = 0.02, seed: int = 1) -> Array:
    """Positive labels (n,): a sum, as of latencies of layers, with relative noise."""
    exact = 3 * features[:, 0] + features[:, 1] + 2 * features[:, 5]
    return exact * (1 + noise * np.random.default_rng(seed).standard_normal(len(features)))


class PredictorContract:
    """Column 0 is the one that a model of a single column is given."""

    positive = False
    """Whether labels must be above zero."""
    learns = True
    """Whether features are used at all."""

    def make(self) -> Predictor:
        """An unfitted predictor."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls) -> Predictor:
        """One that tests only ask for predictions."""
        model = cls().make()
        model.fit(rows(), labels_of(rows()))
        return model

    def test_prediction_has_one_finite_ordered_entry_a_row(self, fitted: Predictor) -> None:
        found = fitted.predict(rows(11, seed=5))
        for values in (found.mean, found.std, found.low, found.high):
            assert values.shape == (11,)
            assert np.isfinite(values).all()
        assert (found.low <= found.mean).all()
        assert (found.mean <= found.high).all()
        assert (found.std > 0).all()

    def test_no_rows_give_empty_arrays(self, fitted: Predictor) -> None:
        found = fitted.predict(np.empty((0, D)))
        assert [v.shape for v in (found.mean, found.std, found.low, found.high)] == [(0,)] * 4

    def test_beats_the_mean_on_new_rows(self, fitted: Predictor) -> None:
        new = rows(200, seed=9)
        truth = labels_of(new, noise=0.0)
        error = np.sqrt(np.mean((fitted.predict(new).mean - truth) ** 2))
        if self.learns:
            assert error < 0.75 * truth.std()
        else:
            assert error < 1.5 * truth.std()

    def test_interval_holds_about_nine_in_ten_new_labels(self, fitted: Predictor) -> None:
        new = rows(400, seed=9)
        found, labels = fitted.predict(new), labels_of(new, seed=10)
        # 40 training rows place the quantile within about ±5 points of 90 %; the model's own luck adds to that.
        assert 0.75 <= np.mean((found.low <= labels) & (labels <= found.high)) <= 1.0

    def test_equal_data_give_equal_predictions_and_nothing_else_is_read_or_changed(self, fitted: Predictor) -> None:
        features, labels, new, model = rows(), labels_of(rows()), rows(20, seed=3), self.make()
        np.random.seed(2)  # noqa: NPY002 - `fitted` was made in another state
        state = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
        first = fitted.predict(new)
        for _ in range(2):  # the second time, as if it were new
            model.fit(features, labels)
            found = model.predict(new)
            np.testing.assert_array_equal(first.mean, found.mean)
            np.testing.assert_array_equal(first.high, found.high)
        np.testing.assert_array_equal(state, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002
        np.testing.assert_array_equal(features, rows())
        np.testing.assert_array_equal(labels, labels_of(rows()))

    def test_constant_labels_are_predicted(self) -> None:
        model = self.make()
        model.fit(rows(), np.full(N, 3.0))
        np.testing.assert_allclose(model.predict(rows(5, seed=2)).mean, 3.0, rtol=1e-6)

    def test_constant_features_are_accepted(self) -> None:
        model = self.make()
        labels = labels_of(rows())
        model.fit(np.ones((N, D)), labels)
        found = model.predict(np.ones((2, D))).mean
        assert (labels.min() < found).all()
        assert (found < labels.max()).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_features_must_be_finite(self, fitted: Predictor, bad: float) -> None:
        features = rows()
        features[4, 2] = bad
        with raises("predictor.invalid-features", "[4, 2]", str(bad)):
            self.make().fit(features, labels_of(rows()))
        with raises("predictor.invalid-features", "[4, 2]", str(bad)):
            fitted.predict(features)

    @pytest.mark.parametrize("bad", [np.nan, -np.inf])
    def test_labels_must_be_finite(self, bad: float) -> None:
        labels = labels_of(rows())
        labels[7] = bad
        with raises("predictor.invalid-labels", "row 7", str(bad)):
            self.make().fit(rows(), labels)

    def test_shapes_must_match(self, fitted: Predictor) -> None:
        with raises("predictor.invalid-labels", "(39,)", "(40, 7)"):
            self.make().fit(rows(), labels_of(rows())[:-1])
        with raises("predictor.invalid-features", "(40,)"):
            self.make().fit(rows()[:, 0], labels_of(rows()))
        with raises("predictor.invalid-features", "6", "7"):
            fitted.predict(rows()[:, :-1])

    def test_one_row_is_too_few(self) -> None:
        with raises("predictor.too-few-rows", "1"):
            self.make().fit(rows(1), labels_of(rows(1)))

    def test_predict_needs_a_fit(self) -> None:
        with raises("predictor.not-fitted"):
            self.make().predict(rows())

    def test_labels_have_the_right_sign(self) -> None:
        labels = labels_of(rows())
        labels[3] = 0.0
        model = self.make()
        if self.positive:
            with raises("predictor.invalid-labels", "row 3", "0"):
                model.fit(rows(), labels)
        else:
            model.fit(rows(), labels - 5)
            assert np.isfinite(model.predict(rows()).mean).all()
