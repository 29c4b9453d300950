"""Tests of tuning by Optuna."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import optuna
import pytest

from predictors.base import Array
from predictors.candidate_models import LIGHTGBM, Candidate, candidates
from predictors.feature_columns import FeatureLayout
from predictors.folds import make_folds
from predictors.kernel_process import KernelProcess
from predictors.label_scales import LabelScale
from predictors.lightgbm import ALONE, LightGBMPredictor
from predictors.tuning import Tuner

LAYOUT = FeatureLayout(macs=0, aggregates=(0, 1))


def data(n: int, seed: int) -> tuple[Array, Array]:
    """(n, 8) with steps that trees find."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (n, 8))
    return x, 1.0 + (x[:, 2] > 0.5) + 2.0 * (x[:, 3] > 0.3) * (x[:, 4] > 0.5)


def tuner(*, trials: int, seconds: float = 600.0) -> Tuner:
    return Tuner(layout=LAYOUT, positive=True, seed=0, seconds=seconds, trials=trials)


def bad_trees() -> Candidate:
    """LightGBM with a learning rate that learns next to nothing."""
    return Candidate(
        LIGHTGBM,
        lambda: LightGBMPredictor(scale=LabelScale.LOG, seed=0, parameters={**ALONE, "learning_rate": 1e-4}, rounds=10),
        refits=True,
    )


def improved(
    offered: list[Candidate], *, trials: int, seconds: float = 600.0
) -> tuple[list[Candidate], tuple[str, ...]]:
    x, y = data(60, 0)
    rng = np.random.default_rng(5)
    coarse, fine = make_folds(y, rng), make_folds(y, rng, 20)
    return tuner(trials=trials, seconds=seconds).improve(offered, x, y, fine=fine, coarse=coarse)


def test_what_is_better_is_kept_and_told() -> None:
    found, kept = improved([bad_trees()], trials=8)
    assert len(found) == len(kept) == 1
    assert kept[0].startswith("tuned LightGBM: num_leaves ")
    assert "held-out error" in kept[0]
    x, y = data(60, 0)
    new, truth = data(200, 1)
    errors = []
    for candidate in (found[0], bad_trees()):
        model = candidate.make()
        model.fit(x, y)
        errors.append(np.abs(model.predict(new).mean / truth - 1).mean())
    assert errors[0] < 0.5 * errors[1]


def test_what_is_no_better_is_not_kept() -> None:
    """Labels of noise: the least of a few trials' errors is luck."""
    x = np.random.default_rng(0).uniform(0, 1, (60, 8))
    y = np.exp(0.3 * np.random.default_rng(1).standard_normal(60))
    rng = np.random.default_rng(5)
    coarse, fine = make_folds(y, rng), make_folds(y, rng, 20)
    flat = replace(bad_trees(), name=LIGHTGBM)  # next to the mean, which nothing beats here
    found, kept = tuner(trials=5).improve([flat], x, y, fine=fine, coarse=coarse)
    assert kept == ()
    assert found == [flat]


def test_equal_trials_give_equal_candidates_whatever_the_time() -> None:
    names = {LIGHTGBM, "Gaussian process (log)"}
    offered = [c for c in candidates(LAYOUT, 8, 60, positive=True, seed=0) if c.name in names]
    first, second = (improved(offered, trials=2, seconds=seconds) for seconds in (600.0, 900.0))
    assert first[1] == second[1]
    assert [c.name for c in first[0]] == [c.name for c in second[0]]


def test_time_ends_a_tuning_after_the_trial_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(Tuner, "_trees", _counting(Tuner._trees, counted))
    improved([bad_trees()], trials=1000, seconds=1e-3)
    assert len(counted) == 2  # one trial, and its repetition as the candidate


def test_a_process_is_tuned_in_its_own_terms() -> None:
    only = [c for c in candidates(LAYOUT, 8, 60, positive=True, seed=0) if c.name == "Gaussian process (plain)"]
    x, y = data(60, 0)
    study = tuner(trials=2)
    found = study._tuned(study._tunable(only, x, y, lambda _: y)[0][1], x, y)
    model = found.make()
    assert isinstance(model, KernelProcess)
    assert model.scale is LabelScale.PLAIN
    assert found.refits


def test_optunas_verbosity_is_put_back() -> None:
    before = optuna.logging.get_verbosity()
    improved([bad_trees()], trials=1)
    assert optuna.logging.get_verbosity() == before


Suggest = Callable[[Tuner, optuna.Trial], Candidate]


def _counting(wrapped: Suggest, counted: list[int]) -> Suggest:
    def suggest(self: Tuner, trial: optuna.Trial) -> Candidate:
        counted.append(1)
        return wrapped(self, trial)

    return suggest
