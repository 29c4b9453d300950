"""Transfer of latencies to a new device, against devices whose costs are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from predictors.transfer import KnownDevices, TransferPredictor
from tests.errors import raises

POSITIONS, OPTIONS = 8, 4
GROUPS = (np.tile(np.arange(OPTIONS), POSITIONS), np.repeat(np.arange(POSITIONS), OPTIONS))
Array = NDArray[np.float64]


def networks(n: int, seed: int = 0) -> Array:
    """One of four options at each of eight positions, one-hot."""
    chosen = np.random.default_rng(seed).integers(OPTIONS, size=(n, POSITIONS))
    return np.eye(OPTIONS)[chosen].reshape(n, -1)


def costs_of(seed: int) -> Array:
    """Milliseconds of each part on three devices that weigh the four kinds of operation differently."""
    rng = np.random.default_rng(seed)
    work = rng.uniform(0.1, 2, size=POSITIONS * OPTIONS)
    weights = rng.uniform(0.5, 2, size=(OPTIONS, 3))
    found: Array = work[:, None] * weights[GROUPS[0]]
    return found


def devices(costs: Array) -> KnownDevices:
    rows = networks(300)
    return KnownDevices(rows, 1 + rows @ costs, GROUPS)


def new_device(costs: Array) -> Array:
    """A mixture of the known devices, with one kind of operation slower than on any of them."""
    found: Array = costs @ [0.2, 0.5, 0.1] * np.where(GROUPS[0] == 1, 3.0, 1.0)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_ten_chosen_networks_tell_the_latency_of_all_others(seed: int) -> None:
    costs = costs_of(seed)
    own, pool, others = new_device(costs), networks(500, 1), networks(2000, 2)
    model = TransferPredictor(devices(costs))
    chosen = pool[model.choose(pool, 10)]
    model.fit(chosen, 5 + chosen @ own)
    found, truth = model.predict(others), 5 + others @ own
    assert spearmanr(found.mean, truth).statistic > 0.99
    assert np.median(np.abs(found.mean / truth - 1)) < 0.02
    inside = np.mean((found.low <= truth) & (truth <= found.high))
    assert inside > 0.9
    known = (1 + others @ costs).mean(axis=1)
    assert spearmanr(known, truth).statistic < 0.97  # without measurements


def test_costs_of_parts_add_up_to_the_predictions() -> None:
    costs = costs_of(0)
    model, rows = TransferPredictor(devices(costs)), networks(10, 3)
    model.fit(rows, 5 + rows @ new_device(costs))
    offset, parts, deviations = model.part_costs()
    others = networks(50, 4)
    np.testing.assert_allclose(offset + others @ parts, model.predict(others).mean, rtol=1e-9)
    assert (deviations > 0).all()
    assert (parts > 0).mean() > 0.9  # with the level that the known devices have, not differences alone


def test_predictions_have_the_unit_of_the_labels_and_repeat() -> None:
    costs, rows, others = costs_of(0), networks(10, 3), networks(50, 4)
    labels = 5 + rows @ new_device(costs)
    one, two = TransferPredictor(devices(costs)), TransferPredictor(devices(costs * 1000))
    one.fit(rows, labels)
    two.fit(rows, labels * 1e-3)
    np.testing.assert_allclose(two.predict(others).mean, one.predict(others).mean * 1e-3, rtol=0.02)
    one.fit(rows[:5], labels[:5])
    one.fit(rows, labels)
    again = TransferPredictor(devices(costs))
    again.fit(rows, labels)
    np.testing.assert_array_equal(again.predict(others).std, one.predict(others).std)


def test_noisy_measurements_widen_the_intervals() -> None:
    costs, rows, others = costs_of(0), networks(12, 3), networks(200, 4)
    exact = 5 + rows @ new_device(costs)
    noisy = exact * np.random.default_rng(0).normal(1, 0.15, size=len(exact))
    model = TransferPredictor(devices(costs))
    model.fit(rows, exact)
    narrow = np.median(model.predict(others).std)
    model.fit(rows, noisy)
    assert np.median(model.predict(others).std) > 2 * narrow


def test_a_measurement_that_is_far_off_counts_little() -> None:
    costs, rows, others = costs_of(0), networks(20, 3), networks(200, 4)
    labels, truth = 5 + rows @ new_device(costs), 5 + others @ new_device(costs)
    labels[7] *= 2
    model = TransferPredictor(devices(costs))
    model.fit(rows, labels)
    assert np.median(np.abs(model.predict(others).mean / truth - 1)) < 0.02


def test_known_latencies_that_are_far_off_count_little() -> None:
    rows, costs = networks(300), costs_of(0)
    latencies = 1 + rows @ costs
    latencies[::10] *= 1.8
    relative = KnownDevices(rows, latencies, GROUPS).relative_costs() * latencies.mean(axis=0)
    differences, expected = (values.reshape(POSITIONS, OPTIONS, 3) for values in (relative, costs))
    spread = expected - expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(differences - differences.mean(axis=1, keepdims=True), spread, atol=0.05)


def test_chosen_networks_differ_from_each_other_and_from_measured_ones() -> None:
    model, pool = TransferPredictor(devices(costs_of(0))), networks(60, 1)
    chosen = model.choose(pool, 10)
    assert len(set(chosen)) == 10
    rest = np.delete(pool, chosen, axis=0)
    more = model.choose(rest, 5, measured=pool[chosen])
    assert len(set(more)) == 5
    # What was measured is not asked for again: the same rows offered once more tell less than others.
    both = np.concatenate([pool[chosen], rest])
    assert not set(model.choose(both, 5, measured=pool[chosen])) & set(range(10))
    assert model.choose(pool, 0) == []


def test_bad_input_is_named() -> None:
    rows, costs = networks(20), costs_of(0)
    with raises("predictor.invalid-labels", "(19, 3)"):
        KnownDevices(rows, (1 + rows @ costs)[:19], GROUPS)
    with raises("predictor.invalid-labels", "above 0"):
        KnownDevices(rows, np.zeros((20, 1)), GROUPS)
    with raises("predictor.invalid-features", "(32, 3)"):
        KnownDevices(rows, 1 + rows @ costs, GROUPS, costs[:, :2])
    with raises("predictor.invalid-layout", "(32,)"):
        KnownDevices(rows, 1 + rows @ costs, (GROUPS[0], GROUPS[1][:5]))
    model = TransferPredictor(devices(costs))
    with raises("predictor.not-fitted"):
        model.predict(rows)
    with raises("predictor.not-fitted"):
        model.part_costs()
    with raises("predictor.too-few-rows", "3"):
        model.fit(rows[:2], np.ones(2))
    with raises("predictor.invalid-features", "5 columns"):
        model.fit(rows[:, :5], np.ones(20))
    with raises("predictor.too-few-rows", "21"):
        model.choose(rows, 21)
