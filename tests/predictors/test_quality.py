"""Tests of scores."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from predictors.folds import make_folds
from predictors.quality import Quality, Scores


def test_scores_by_hand() -> None:
    y, mean = np.array([1.0, 2.0, 4.0]), np.array([1.0, 5.0, 4.0])
    scores = Scores.of(y, mean, mean - 1, mean + 1)
    assert scores.kendall_tau == pytest.approx(1 / 3)  # two pairs agree, one does not
    assert scores.mape == pytest.approx(1.5 / 3)
    assert scores.rmse == pytest.approx(math.sqrt(3))
    assert scores.coverage == pytest.approx(2 / 3)


def test_rows_without_a_label_are_left_out() -> None:
    assert Scores.of(np.array([1.0, np.nan, 3.0]), np.array([1.0, 9.0, 3.0])).rmse == 0.0


@pytest.mark.parametrize(
    ("labels", "undefined"),
    [
        ([2.0, 2.0, 2.0], {"kendall_tau"}),
        ([0.0, 1.0, 2.0], {"mape"}),
        ([], {"kendall_tau", "mape", "rmse", "coverage"}),
        ([np.nan, np.nan], {"kendall_tau", "mape", "rmse", "coverage"}),
        ([5.0], {"kendall_tau"}),
    ],
)
def test_what_is_not_defined_is_null_in_json(labels: list[float], undefined: set[str]) -> None:
    mean = np.arange(len(labels), dtype=np.float64)
    data = Scores.of(np.array(labels), mean, mean - 1, mean + 1).to_json()
    assert {name for name, value in data.items() if value is None} == undefined
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_a_folds_coverage_does_not_come_from_its_own_errors() -> None:
    """One wild fold: judged by the others' errors, all of it lies outside."""
    labels = np.zeros(50)
    folds = make_folds(np.arange(50.0), np.random.default_rng(0))
    mean = np.random.default_rng(1).uniform(-1, 1, 50)
    mean[folds[2]] = 100.0
    inside = Scores.held_out(labels, mean, folds, ratio=False).coverage
    # The other folds see ten wild errors among forty, more than the tenth that an interval leaves out.
    assert inside == pytest.approx(40 / 50)


def test_quality_is_json() -> None:
    some = Scores(0.9, 0.1, 1.0, math.nan)
    data = Quality("ridge (log)", 30, some, some, some).to_json()
    assert data["model"] == "ridge (log)"
    assert data["coverage"] is None
    assert set(json.loads(json.dumps(data, allow_nan=False))["baselines"]) == {"mean", "ridge"}
