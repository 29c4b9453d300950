"""Hyper-parameters of LightGBM and of the Gaussian process by Optuna (the only module of predictors that imports it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import optuna

from predictors.base import Array
from predictors.candidate_models import LIGHTGBM, Candidate
from predictors.ensemble import errors_by_model
from predictors.feature_columns import FeatureLayout
from predictors.folds import Folds, make_folds
from predictors.kernel_process import KernelProcess
from predictors.label_scales import Bounds, LabelScale
from predictors.lightgbm import ALONE, ALONE_ROUNDS, LightGBMPredictor

_FINE_FOLDS = 20


@dataclass(frozen=True)
class Tuner:
    """Tunes hyper-parameters by TPE (Bergstra et al. 2011), and keeps them only if they are better on other folds.

    Attributes:
        layout: the meaning of the columns.
        positive: errors are relative, and labels may be fitted as logarithms.
        seed: of TPE and of the folds that it is judged by.
        seconds: in total; half for LightGBM and half for the process. A trial that has begun is completed.
        trials: of each, at most. Tuning that ends by trials is repeatable; tuning that ends by time is not.
    """

    layout: FeatureLayout
    positive: bool
    seed: int
    seconds: float
    trials: int

    def improve(
        self, offered: list[Candidate], x: Array, y: Array, *, fine: Folds, coarse: Folds
    ) -> tuple[list[Candidate], tuple[str, ...]]:
        """The candidates, tuned ones in place of those that they improve, and a description of each that was kept.

        Tuning uses folds of its own; a tuned candidate is kept if, on the given folds, its mean error is lower by more than
        the standard error of the difference.
        """
        held = partial(self._losses, x=x, y=y, fine=fine, coarse=coarse)
        out, kept = list(offered), []
        for index, suggest in self._tunable(offered, x, y, held):
            found = self._tuned(suggest, x, y)
            improvement = held(offered[index]) - held(found)
            if improvement.mean() > improvement.std() / np.sqrt(len(improvement)):
                out[index] = found
                share = improvement.mean() / held(offered[index]).mean()
                kept.append(f"{found.name} (held-out error {share:.1%} lower)")
        return out, tuple(kept)

    def _tunable(
        self, offered: list[Candidate], x: Array, y: Array, held: Callable[[Candidate], Array]
    ) -> list[tuple[int, Callable[[optuna.Trial], Candidate]]]:
        """The candidates to tune, by index: LightGBM, and the Gaussian process of least held-out error."""
        found: list[tuple[int, Callable[[optuna.Trial], Candidate]]] = []
        trees = [i for i, candidate in enumerate(offered) if candidate.name == LIGHTGBM]
        if trees:
            found.append((trees[0], self._trees))
        processes = {i: model for i, c in enumerate(offered) if isinstance(model := c.make(), KernelProcess)}
        if processes:
            best = min(processes, key=lambda i: float(held(offered[i]).mean()))
            found.append((best, partial(self._process, processes[best].scale, x.shape[1])))
        return found

    def _tuned(self, suggest: Callable[[optuna.Trial], Candidate], x: Array, y: Array) -> Candidate:
        """The candidate of least mean error on folds of the tuning's own."""
        rng = np.random.default_rng([self.seed, 1])
        coarse, fine = make_folds(y, rng), make_folds(y, rng, _FINE_FOLDS)

        def error(trial: optuna.Trial) -> float:
            return float(self._losses(suggest(trial), x=x, y=y, fine=fine, coarse=coarse).mean())

        with _quiet():
            study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=self.seed))
            study.optimize(error, n_trials=self.trials, timeout=self.seconds / 2)
            # A fixed trial repeats the suggestions of the best one.
            return suggest(optuna.trial.FixedTrial(study.best_params))

    def _losses(self, candidate: Candidate, *, x: Array, y: Array, fine: Folds, coarse: Folds) -> Array:
        """Absolute held-out errors (n,), relative where `positive`."""
        # A closed form uses the parameters of all rows: with free weights its errors are a fifth and more too small.
        _, found = replace(candidate, refits=True).tried(x, y, fine=fine, coarse=coarse)
        mean = Bounds.of(y, ratio=self.positive).clip(found.mean)
        return np.abs(errors_by_model(y, mean, ratio=self.positive))

    def _trees(self, trial: optuna.Trial) -> Candidate:
        chosen = {
            "num_leaves": trial.suggest_int("num_leaves", 2, 16, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 1, 10),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-3, 10.0, log=True),
        }
        rounds = trial.suggest_int("rounds", ALONE_ROUNDS // 3, ALONE_ROUNDS * 2, log=True)
        scale = LabelScale.LOG if self.positive else LabelScale.PLAIN
        make = partial(LightGBMPredictor, scale=scale, seed=self.seed, parameters={**ALONE, **chosen}, rounds=rounds)
        return Candidate(_described(f"tuned {LIGHTGBM}", trial), make, refits=True)

    def _process(self, scale: LabelScale, n_columns: int, trial: optuna.Trial) -> Candidate:
        encoding = self.layout.encoding(n_columns)
        lines = {"none": (), "aggregates": (self.layout.aggregates,), "all": (self.layout.aggregates, encoding)}
        smooth = {"genes": encoding, "all": tuple(range(n_columns))}
        if not encoding:
            lines, smooth = {k: v for k, v in lines.items() if k != "all"}, {"all": smooth["all"]}
        columns = smooth[str(trial.suggest_categorical("smooth", list(smooth)))]
        # Columns that encode no gene share one weight.
        groups = [self.layout.groups[i] for i in columns] if self.layout.groups else []
        make = partial(
            KernelProcess,
            scale=scale,
            lines=lines[str(trial.suggest_categorical("lines", list(lines)))],
            smooth=columns,
            groups=groups,
            weight_sigma=trial.suggest_float("weight_sigma", 0.1, 2.0, log=True),
            least_noise=trial.suggest_float("least_noise", 1e-6, 1e-2, log=True),
        )
        return Candidate(_described(f"tuned Gaussian process ({scale})", trial), make, refits=True)


def _described(name: str, trial: optuna.Trial) -> str:
    """The name with the chosen parameters."""
    values = ", ".join(
        f"{key} {value if isinstance(value, str) else f'{value:.3g}'}" for key, value in trial.params.items()
    )
    return f"{name}: {values}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Optuna's log line per trial; restores its verbosity, which is a setting of the process."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
