"""Tests of the process of lines and a smooth part, and of the density of its parameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from predictors import kernel_process
from predictors.base import Array
from predictors.folds import evenly_spaced, make_folds, rows_outside
from predictors.gaussian import JITTER
from predictors.kernel_process import AMPLITUDE_SIGMA, REFIT_ROWS, KernelProcess, Posterior
from predictors.label_scales import LabelScale
from tests.contracts.predictor import D, PredictorContract, labels_of, rows
from tests.errors import raises

GENES = (4, 5, 6)


class TestLogOfLineAndGenes(PredictorContract):
    positive = True

    def make(self) -> KernelProcess:
        return KernelProcess(scale=LabelScale.LOG, lines=[(0, 1, 2)], smooth=GENES, groups=[0, 0, 0])


class TestPlainSmooth(PredictorContract):
    def make(self) -> KernelProcess:
        return KernelProcess(scale=LabelScale.PLAIN, lines=(), smooth=range(D))


@pytest.fixture
def posterior() -> Posterior:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6))
    grams = [x @ x.T / 6, x[:, :2] @ x[:, :2].T / 2]
    groups, options = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, -1, -1])
    known = np.where(np.arange(30) < 5, 0.3, 0.0)
    return Posterior(grams, x, rng.normal(size=30), groups, options, known, common=-1.0, weight_sigma=0.7)


THETA = np.array([0.3, -0.4, 0.2, -1.5, -1.0, -0.5, -2.0, 0.6, -0.3])


def test_the_gradient_is_that_of_the_loss(posterior: Posterior) -> None:
    numeric = approx_fprime(THETA, lambda theta: posterior.loss(theta)[0], 1e-6)
    np.testing.assert_allclose(posterior.loss(THETA)[1], numeric, rtol=1e-4)  # forward differences are good to 1e-6


def test_the_loss_is_the_density_of_labels_and_priors(posterior: Posterior) -> None:
    """Entry by entry, with scipy's normal density."""
    x, amplitudes = posterior.rows, np.exp(THETA[:3])
    weights = np.exp(THETA[4:7])[posterior.groups] * np.exp([0.6, -0.3, 0.6, -0.3, 0.0, 0.0])
    n = len(x)
    kernel = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            smooth = amplitudes[2] * np.exp(-0.5 * (weights * (x[i] - x[j]) ** 2).sum())
            lines = sum(a * gram[i, j] for a, gram in zip(amplitudes, posterior.grams, strict=False))
            kernel[i, j] = smooth + lines + (i == j) * (np.exp(THETA[3]) + JITTER + 0.3 * (i < 5))
    away = ((THETA[4:7] + 1.0) ** 2).sum() + (THETA[7:] ** 2).sum()
    prior = (THETA[:3] ** 2).sum() / AMPLITUDE_SIGMA**2 + away / 0.7**2
    expected = -multivariate_normal(np.zeros(n), kernel).logpdf(posterior.labels) + 0.5 * prior
    constant = 0.5 * n * np.log(2 * np.pi)
    assert posterior.loss(THETA)[0] == pytest.approx(expected - constant, rel=1e-9)


def test_predictions_are_those_of_scikit_learn_with_equal_parameters() -> None:
    x, y = rows(30)[:, :3], labels_of(rows(30))
    model = KernelProcess(scale=LabelScale.PLAIN, lines=[(0, 1, 2)], smooth=(0, 1, 2))
    model.fit(x, y)
    line, smooth, noise, weight = np.exp(model._theta)
    kernel = (
        ConstantKernel(line / 3) * DotProduct(1e-9)
        + ConstantKernel(smooth) * RBF(1 / np.sqrt(weight))
        + WhiteKernel(noise + JITTER)
    )
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    other = GaussianProcessRegressor(kernel, optimizer=None).fit(scaled, (y - y.mean()) / y.std())
    new = rows(10, seed=4)[:, :3]
    mean, std = other.predict((new - x.mean(axis=0)) / x.std(axis=0), return_std=True)
    found = model.predict(new)
    np.testing.assert_allclose(found.mean, y.mean() + y.std() * mean, rtol=1e-7)
    np.testing.assert_allclose(found.std, y.std() * std, rtol=1e-5)  # variances are differences


def test_held_out_rows_are_predicted_from_the_others() -> None:
    """The closed form against fits without each fold, with the parameters and the scaling of all rows."""
    x, y = rows(40), labels_of(rows(40))
    model = KernelProcess(scale=LabelScale.LOG, lines=[(0, 1)], smooth=range(D))
    model.fit(x, y)
    folds = make_folds(y, np.random.default_rng(0))
    found = model.held_out(folds)
    kernel, labels = model._kernel(model._lines, model._smooth) + model._noise * np.eye(40), model._labels
    for fold in folds:
        others = rows_outside(fold, 40)
        mean = kernel[np.ix_(fold, others)] @ np.linalg.solve(kernel[np.ix_(others, others)], labels.z[others])
        np.testing.assert_allclose(np.log(found.mean[fold]), labels.centre + labels.unit * mean, rtol=1e-6)


def test_a_weight_a_gene_is_learnt_again_without_each_fold() -> None:
    """Labels of noise: weights that have seen a label predict it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 12)), rng.normal(size=40)
    model = KernelProcess(scale=LabelScale.PLAIN, lines=(), smooth=range(12), groups=range(12), weight_sigma=3.0)
    model.fit(x, y)
    folds = make_folds(y, rng)
    assert not model.closed_form
    honest = np.mean((model.held_out(folds).mean - y) ** 2)
    assert honest > 0.9 * y.var()


def test_genes_that_matter_get_weight() -> None:
    x = np.random.default_rng(0).integers(0, 3, (120, 6)).astype(np.float64)
    y = np.where(x[:, 0] == x[:, 1], 2.0, 1.0)  # an interaction: no line
    model = KernelProcess(scale=LabelScale.PLAIN, lines=(), smooth=range(6), groups=range(6))
    model.fit(x, y)
    weights = model._weights()
    assert min(weights[0, 0], weights[0, 1]) > max(weights[0, i] for i in range(2, 6)) + 0.5


def test_an_uncertain_label_has_little_weight() -> None:
    """One of 60 latencies is twice what it should be; its error says so. Held-out predictions know it as well."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(80, 8)).astype(np.float64)
    y = np.exp(x @ np.linspace(0.1, 0.8, 8))
    labels, errors, folds = y[:60].copy(), np.zeros(60), make_folds(y[:60], rng)
    labels[30], errors[30] = 2 * labels[30], 0.5
    off, held = {}, {}
    for name, known in (("unknown", None), ("known", errors)):
        model = KernelProcess(
            scale=LabelScale.LOG, lines=[range(8)], smooth=range(8), groups=range(8), standardise=False
        )
        model.fit(x[:60], labels, known)
        off[name] = float(np.mean(np.abs(model.predict(x).mean / y - 1)))
        held[name] = float(np.mean(np.abs(model.held_out(folds).mean / y[:60] - 1)))
    assert off["known"] < 0.5 * off["unknown"]
    assert held["known"] < 0.7 * held["unknown"]


@pytest.mark.parametrize("n", [60, REFIT_ROWS + 50, 300])
def test_held_out_intervals_of_uncertain_labels_count_their_errors(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Refitted, in closed form, and of rows that are not in the posterior."""
    monkeypatch.setattr(kernel_process, "POSTERIOR_ROWS", 220)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(n, 8)).astype(np.float64)
    errors = np.where(np.arange(n) % 2, 0.3, 0.0)
    y = np.exp(x @ np.linspace(0.1, 0.8, 8) + errors * rng.normal(size=n))
    model = KernelProcess(scale=LabelScale.LOG, lines=[range(8)], smooth=range(8), groups=range(8), standardise=False)
    model.fit(x, y, errors)
    found = model.held_out(make_folds(y, rng))
    covered = ((found.low <= y) & (y <= found.high))[errors > 0]
    assert 0.8 < covered.mean() < 0.99


def test_columns_without_standardisation_count_what_is_not_seen_yet() -> None:
    """An option that no training row has is as far from the others as these from each other."""
    x = np.eye(4)[[0, 1, 2, 0, 1, 2]]
    model = KernelProcess(scale=LabelScale.PLAIN, lines=(), smooth=range(4), groups=[0] * 4, standardise=False)
    model.fit(x, np.array([1.0, 2.0, 3.0, 1.1, 2.1, 3.1]))
    same, seen, unseen = model._kernel([], np.eye(4)[[0, 1, 3]])[:, 0]
    assert same > seen == pytest.approx(unseen)


def test_scores_are_fitted_by_their_distance_from_the_best() -> None:
    """Of collapsed networks, which a process of plain scores fits first, no one wants to know more than that."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(200, 6)).astype(np.float64)
    y = 90 + x[:, 1:] @ np.array([0.1, 0.2, 0.3, 0.4, 0.5]) - 60 * x[:, 0] * rng.uniform(size=200)
    good, off = x[100:, 0] == 0, {}
    for scale in (LabelScale.PLAIN, LabelScale.BEST):
        model = KernelProcess(scale=scale, lines=(), smooth=range(6), groups=range(6))
        model.fit(x[:100], y[:100])
        off[scale] = float(np.abs(model.predict(x[100:]).mean - y[100:])[good].mean())
        assert model.values(model.latent(x)[0]) == pytest.approx(model.predict(x).mean)
    assert off[LabelScale.BEST] < 0.5 * off[LabelScale.PLAIN]


def test_many_rows_use_the_closed_form() -> None:
    x = rows(REFIT_ROWS + 1)
    model = KernelProcess(scale=LabelScale.PLAIN, lines=(), smooth=GENES, groups=[0, 0, 0])
    model.fit(x, labels_of(x))
    assert model.closed_form


def test_relative_labels_are_refused() -> None:
    with raises("predictor.invalid", "RELATIVE"):
        KernelProcess(scale=LabelScale.RELATIVE, lines=(), smooth=(0,))


def test_a_line_reaches_beyond_the_rows_seen() -> None:
    x: Array = np.linspace(0, 1, 30)[:, None]
    model = KernelProcess(scale=LabelScale.PLAIN, lines=[(0,)], smooth=(0,))
    model.fit(x, 3 * x[:, 0] + 1)
    assert model.predict(np.array([[2.0]])).mean[0] == pytest.approx(7.0, rel=0.02)


def test_a_left_out_deviation_equals_that_of_a_fold_of_one_row() -> None:
    x, y = rows(), labels_of(rows(), noise=0.2)
    model = KernelProcess(scale=LabelScale.PLAIN, lines=[(0, 1)], smooth=range(D))
    model.fit(x, y)
    folds = [np.array([i]) for i in range(len(y))]
    np.testing.assert_allclose(model.left_out_std(y), model.held_out(folds).std, rtol=1e-6)


def test_learns_a_curve_that_no_line_follows_and_is_uncertain_far_away() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (60, 2))
    y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2
    model = KernelProcess(scale=LabelScale.PLAIN, lines=(), smooth=range(2))
    model.fit(x, y)
    near = rng.uniform(-1.5, 1.5, (100, 2))
    assert np.abs(model.predict(near).mean - np.sin(2 * near[:, 0]) - near[:, 1] ** 2).max() < 0.25
    assert model.predict(np.array([[8.0, 8.0]])).std[0] > 5 * model.predict(near).std.mean()


def test_many_rows_are_subsampled_and_the_others_are_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle is a process of the rows that are kept, with the same parameters."""
    monkeypatch.setattr(kernel_process, "POSTERIOR_ROWS", 40)
    x = np.random.default_rng(0).uniform(1, 2, (100, D))
    y = labels_of(x)
    model = KernelProcess(scale=LabelScale.LOG, lines=[(0, 1, 2)], smooth=GENES)
    model.fit(x, y)
    kept = evenly_spaced(100, 40)
    others = np.setdiff1d(np.arange(100), kept)
    folds = make_folds(y, np.random.default_rng(1))
    found = model.held_out(folds)
    np.testing.assert_allclose(found.mean[others], model.predict(x[others]).mean, rtol=1e-12)
    assert np.abs(found.mean[others] / y[others] - 1).mean() < 0.5 * np.abs(y / y.mean() - 1).mean()
    for fold in folds:
        inside = np.intersect1d(fold, kept)
        rest_of_kept = np.setdiff1d(kept, fold)
        assert len(inside)
        # Without the fold: the same covariances, fewer rows.
        lines, smooth = model._rows(x)
        place = {row: i for i, row in enumerate(kept.tolist())}
        columns = [place[row] for row in rest_of_kept.tolist()]
        cross = model._kernel([line[inside] for line in lines], smooth[inside])[:, columns]
        own = model._kernel([line[rest_of_kept] for line in lines], smooth[rest_of_kept])[:, columns]
        z = model._labels.z[rest_of_kept]
        mean = cross @ np.linalg.solve(own + model._noise * np.eye(len(z)), z)
        np.testing.assert_allclose(found.mean[inside], model._labels.prediction(mean, mean).mean, rtol=1e-6)
    assert model.left_out_std(y).shape == (100,)
