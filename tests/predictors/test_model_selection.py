"""Tests of the predictor that chooses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from predictors.base import Array
from predictors.candidate_models import LIGHTGBM
from predictors.feature_columns import FeatureLayout
from predictors.linear import MeanPredictor, RidgePredictor
from predictors.model_selection import MINIMUM_ROWS, AutoPredictor
from supernets.space import Choice, SearchSpace
from tests.contracts.predictor import PredictorContract, labels_of, rows
from tests.errors import raises

LAYOUT = FeatureLayout(macs=0, aggregates=(0, 1, 2))


def auto(*, positive: bool, seed: int = 0) -> AutoPredictor:
    return AutoPredictor(layout=LAYOUT, positive=positive, seed=seed)


class TestPositive(PredictorContract):
    positive = True

    def make(self) -> AutoPredictor:
        return auto(positive=True)


class TestSigned(PredictorContract):
    def make(self) -> AutoPredictor:
        return auto(positive=False)


@pytest.fixture
def wide() -> Array:
    """(80, 20) features: three analytic columns, then nothing but a code."""
    return np.random.default_rng(0).uniform(1, 2, (80, 20))


def test_a_line_in_the_macs_is_recognised(wide: Array) -> None:
    model = auto(positive=True)
    model.fit(wide, (1 + 2 * wide[:, 0]) * np.exp(0.01 * np.random.default_rng(1).standard_normal(80)))
    assert "MACs (relative)" in model.quality.model
    assert model.quality.scores.mape < 0.015


def test_a_product_of_all_columns_is_fitted_in_logarithms(wide: Array) -> None:
    model = auto(positive=True)
    model.fit(wide, np.exp(wide @ np.linspace(-1, 1, 20)))
    assert "(log)" in model.quality.model
    assert model.quality.scores.mape < 0.01


def test_noise_alone_is_left_to_the_mean(wide: Array) -> None:
    model = auto(positive=False)
    y = np.random.default_rng(3).standard_normal(80)
    model.fit(wide, y)
    assert model.quality.scores.rmse < 1.1 * model.quality.mean.rmse
    new = np.random.default_rng(4).uniform(1, 2, (100, 20))
    assert np.sqrt(np.mean(model.predict(new).mean ** 2)) < 0.5


def test_real_data_are_predicted_as_well_as_by_the_best_baseline() -> None:
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    seen, new = order[:100], order[100:]
    errors = {}
    for model in (AutoPredictor(layout=LAYOUT, positive=True, seed=0), RidgePredictor(), MeanPredictor()):
        model.fit(x[seen], y[seen])
        found = model.predict(x[new])
        errors[type(model).__name__] = np.abs(found.mean / y[new] - 1).mean()
        # Coverage on 342 rows has a standard error of 1.6 points, the quantile of 100 errors one of 3.
        assert 0.82 < np.mean((found.low <= y[new]) & (y[new] <= found.high)) < 0.98
    assert errors["AutoPredictor"] <= 1.02 * min(errors.values())


def test_intervals_widen_where_the_process_knows_less() -> None:
    """A bowl, which no linear base fits, asked for at its centre and far outside."""
    x = np.random.default_rng(0).uniform(-1, 1, (80, 3))
    model = auto(positive=False)
    model.fit(x, (x**2).sum(axis=1))
    found = model.predict(np.array([[0.1, 0.0, 0.1], [6.0, 6.0, 6.0]]))
    assert "Gaussian process" in model.quality.model.split(",")[0]
    assert found.std[1] > 3 * found.std[0]


def test_intervals_stay_finite_beside_wild_labels(wide: Array) -> None:
    labels = np.where(wide[:, 0] < 1.1, 1e-4, wide[:, 1] * 50)
    model = auto(positive=True)
    model.fit(wide, labels)
    found = model.predict(np.random.default_rng(5).uniform(-50, 50, (200, 20)))
    for values in (found.mean, found.std, found.low, found.high):
        assert np.isfinite(values).all()
    assert (found.low > 0).all()


@pytest.mark.parametrize("n", [MINIMUM_ROWS, 7, 12, 25])
def test_works_from_six_rows_on(n: int) -> None:
    model = auto(positive=True)
    model.fit(rows(n), labels_of(rows(n)))
    assert model.quality.n == n
    assert np.isfinite(model.predict(rows(4, seed=8)).high).all()


def test_five_rows_are_too_few() -> None:
    with raises("predictor.too-few-rows", "5", "6"):
        auto(positive=True).fit(rows(5), labels_of(rows(5)))


def test_quality_reports_both_baselines_as_json() -> None:
    model = auto(positive=True)
    model.fit(rows(), labels_of(rows()))
    data = json.loads(json.dumps(model.quality.to_json(), allow_nan=False))
    assert set(data) == {"model", "n", "kendall_tau", "mape", "rmse", "coverage", "baselines"}
    assert data["mape"] < data["baselines"]["mean"]["mape"]
    assert 0.7 <= data["coverage"] <= 1.0


def test_constant_labels_have_a_quality() -> None:
    model = auto(positive=True)
    model.fit(rows(), np.full(40, 2.5))
    assert model.quality.to_json()["kendall_tau"] is None
    assert model.quality.scores.rmse == pytest.approx(0.0, abs=1e-9)


def lookup_data(n: int, seed: int) -> tuple[Array, Array]:
    """Features (n, 24) with a lookup sum in column 3, and latencies: the sum, but for an offset and a slow last column.

    The sum itself is no linear function of the other columns.
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 2, (n, 24))
    x[:, 3] = (x[:, 4:23] ** 4).sum(axis=1)
    return x, (5 + 0.6 * x[:, 3]) * np.exp(0.05 * (x[:, 1] - 1.5) + 0.003 * rng.standard_normal(n))


def test_a_lookup_sum_is_a_base_whose_residual_is_learnt() -> None:
    x, y = lookup_data(50, 0)
    new, truth = lookup_data(300, 1)
    errors = {}
    for name, lookup in (("with", 3), ("without", None)):
        layout = FeatureLayout(macs=0, aggregates=(0, 1, 2), estimate=lookup)
        shown, asked = (x, new) if lookup else (np.delete(x, 3, axis=1), np.delete(new, 3, axis=1))
        model = AutoPredictor(layout=layout, positive=True, seed=0)
        model.fit(shown, y)
        errors[name] = np.abs(model.predict(asked).mean / truth - 1).mean()
        if lookup:
            assert "estimate (relative) + " in model.quality.model
    assert errors["with"] < 0.004  # the noise alone is 0.24 %
    assert errors["without"] > 5 * errors["with"]


def test_the_weights_are_not_the_models_own_scores() -> None:
    """Quality is taken on rows that neither models nor weights have seen: it is no better than on new rows."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 2, (40, 20)), np.exp(rng.standard_normal(40))
    model = auto(positive=False)
    model.fit(x, y)
    assert model.quality.scores.rmse > 0.9 * y.std()


@pytest.mark.parametrize(
    "layout",
    [FeatureLayout(7, (0,)), FeatureLayout(0, (0, -1)), FeatureLayout(0, ()), FeatureLayout(0, (0,), 7)],
)
def test_a_layout_of_other_features_is_refused(layout: FeatureLayout) -> None:
    with raises("predictor.invalid-layout"):
        AutoPredictor(layout=layout, positive=True, seed=0).fit(rows(), labels_of(rows()))


def test_trees_decide_more_as_rows_grow() -> None:
    """Steps and interactions of genes, which lines and smooth processes learn less well."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (400, 12)).astype(np.float64)
    y = 5 + x[:, 0] + 4.0 * (x[:, 1] >= 2) * (x[:, 2] >= 1) + 3.0 * (x[:, 3] == 1) * (x[:, 4] >= 3)
    y += 0.2 * rng.standard_normal(len(y))
    weights = {}
    for n in (10, 40, 400):
        model = auto(positive=False)
        model.fit(x[:n], y[:n])
        assert sum(model.weights.values()) == pytest.approx(1.0)
        weights[n] = sum(weight for name, weight in model.weights.items() if LIGHTGBM in name)
    assert weights[10] == 0.0  # too few rows for trees
    assert weights[40] < weights[400]
    assert weights[400] > 0.3


@pytest.mark.parametrize("seed", [1, 6])
def test_intervals_do_not_depend_on_the_unit_of_scores(seed: int) -> None:
    """Accuracies as shares and in per cent, of networks some of which collapsed: their distance from the best gives widths."""
    rng = np.random.default_rng(seed)
    space = SearchSpace([Choice(f"layer_{i}", ("a", "b", "c")) for i in range(5)])
    networks = [space.sample(rng) for _ in range(260)]
    genes = np.array([network.genes for network in networks])
    x = np.column_stack([genes.sum(axis=1) + 1.0, space.encode(networks)])
    y = 0.93 - 0.02 * np.exp(0.5 * ((genes != 2) * np.array([0.5, 1, 1.5, 0.2, 0.8])).sum(axis=1))
    y -= (genes[:, 0] == 0) * rng.uniform(0, 0.6, 260)
    groups = (-1, *np.repeat(np.arange(5), 3).tolist(), *range(5, 10))
    layout = FeatureLayout(macs=0, aggregates=(0,), groups=groups, options=(-1, *space.option_numbers(), *(-1,) * 5))
    widths = []
    for unit in (1.0, 100.0):
        model = AutoPredictor(layout=layout, positive=False, seed=0)
        model.fit(x[:60], unit * y[:60])
        found = model.predict(x[60:])
        widths.append((found.high - found.low) / unit)
    assert np.mean(widths[1]) == pytest.approx(np.mean(widths[0]), rel=0.1)
