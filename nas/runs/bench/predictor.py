"""Benchmark of predictors: the search's own and the usual ones on a column of a table, on equal splits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from nas.errors import UnknownNameError
from nas.runs.bench.errors import BenchmarkError
from nas.runs.bench.results_file import ResultsFile
from nas.runs.bench.table import Table
from nas.runs.bench.table_features import TableFeatures
from predictors.base import Array, Predictor
from predictors.baselines import gaussian_process, lightgbm
from predictors.linear import MeanPredictor, RidgePredictor
from predictors.model_selection import MINIMUM_ROWS, AutoPredictor
from predictors.quality import Scores
from predictors.threads import one_thread
from supernets.space import Architecture

Encode = Callable[[Sequence[Architecture]], Array]
Models = dict[str, tuple[Encode, Callable[[], Predictor]]]
"""By a model's name, its features and how it is made."""
MIN_TRAINING_ROWS = max(MINIMUM_ROWS, 10)
"""Rows below which a cross-validated interval of LightGBM is meaningless."""


@dataclass(frozen=True, slots=True)
class PredictorRow:
    """The scores of one model, trained on one split.

    Attributes:
        model: ``mean``, ``ridge`` and ``gp`` (a Gaussian process) on one-hot genes, ``lightgbm`` on gene levels, or ``auto``,
            which the search uses. On a numeric table the features of all but ``auto`` are the genes' values.
        train: Number of training rows.
        seed: Seed of the split.
        mape: Mean absolute error relative to the label, as a share; None where a label is 0.
        kendall_tau: Rank agreement, tau-b; None for constant predictions or labels.
        coverage: Share of labels inside their 90 % interval.
        fit_s: CPU seconds of fitting on one thread, calibration of the interval included.
    """

    model: str
    train: int
    seed: int
    mape: float | None
    kendall_tau: float | None
    coverage: float | None
    fit_s: float

    @property
    def key(self) -> tuple[str | int, ...]:
        """Model, training rows and seed."""
        return self.model, self.train, self.seed


def bench_predictor(
    table: Table,
    target: str,
    *,
    train: Sequence[int],
    test: int,
    seeds: int,
    results: ResultsFile[PredictorRow] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[PredictorRow]:
    """Rows of all models for each seed and each number of training rows, as they are fitted.

    A split is a function of the seed, the same for all models: the first `test` rows of a permutation are held out, and
    the training rows follow, a smaller number being the beginning of a larger. The errors of labels that are all above
    zero count as ratios. Rows without a label are left out.

    Args:
        results: gets each row when it is done; rows that it has are not fitted again.
        on_progress: called with models fitted and models in all, after each.

    Raises:
        UnknownNameError: the table has no such column.
        BenchmarkError: invalid numbers, or more rows requested than there are.
    """
    if target not in table.values:
        raise UnknownNameError("column", target, table.values, where=table.name)
    labels = np.array(table.values[target], dtype=np.float64)
    labelled = np.flatnonzero(~np.isnan(labels))
    _check(table, target, len(labelled), train=train, test=test, seeds=seeds)
    features, positive = TableFeatures.from_table(table), bool((labels[labelled] > 0).all())
    settings = {"predictors": {"name": table.name, "digest": table.digest}, "target": target, "test": test}
    finished = {} if results is None else results.read(settings)

    def rows() -> Iterator[PredictorRow]:
        done = 0
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(labelled)
            models = _models(features, seed, positive=positive)
            for n, (name, (encode, make)) in product(sorted(train), models.items()):
                if (row := finished.get((name, n, seed))) is None:
                    parts = order[test : test + n], order[:test]
                    x, new = (encode([table.architectures[i] for i in part]) for part in parts)
                    row = _scored(name, seed, make(), (x, labels[parts[0]]), (new, labels[parts[1]]))
                    if results is not None:
                        results.add(row, settings)
                yield row
                done += 1
                on_progress(done, seeds * len(train) * len(models))

    return rows()


def _models(features: TableFeatures, seed: int, *, positive: bool) -> Models:
    """The features of each model, and how it is made."""
    plain = features.plain
    return {
        "mean": (plain, MeanPredictor),
        "ridge": (plain, RidgePredictor),
        "lightgbm": (features.raw, lambda: lightgbm(positive=positive, seed=seed)),
        "gp": (plain, lambda: gaussian_process(features.plain(()).shape[1])),
        "auto": (features, partial(AutoPredictor, layout=features.layout(), positive=positive, seed=seed)),
    }


def _scored(
    name: str, seed: int, model: Predictor, training: tuple[Array, Array], held_out: tuple[Array, Array]
) -> PredictorRow:
    """The scores of an unfitted model, from features and labels of the training rows and of those held out."""
    with one_thread():
        start = time.process_time()
        model.fit(*training)
        fit_s = time.process_time() - start
        predicted = model.predict(held_out[0])
    scores = Scores.of(held_out[1], predicted.mean, predicted.low, predicted.high).to_json()
    return PredictorRow(name, len(training[0]), seed, scores["mape"], scores["kendall_tau"], scores["coverage"], fit_s)


def _check(table: Table, target: str, n_known: int, *, train: Sequence[int], test: int, seeds: int) -> None:
    if not train or min(train) < MIN_TRAINING_ROWS or len(set(train)) != len(train):
        shown = ",".join(str(n) for n in train) or "nothing"
        expected = f"different numbers, each at least {MIN_TRAINING_ROWS}, as in 25,50,100"
        raise BenchmarkError(f"training rows are {shown}; expected {expected}")
    if test < 2:
        raise BenchmarkError(f"{test} test rows; expected at least 2, better some hundreds")
    if seeds < 1:
        raise BenchmarkError(f"seeds: expected at least 1, got {seeds}", parameter="seeds")
    if n_known < test + max(train):
        wanted = f"{test} for testing and {max(train)} for training"
        raise BenchmarkError(f"{table.name} has {n_known} rows with a value of {target!r}; expected at least {wanted}")
