"""How well the search's predictor learns a table's figures, beside the usual ones, on equal splits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nas.bench.table import Table
from nas.bench.table_features import TableFeatures
from nas.errors import EvaluationError, UnknownNameError
from predictors.base import Predictor
from predictors.baselines import gaussian_process, lightgbm, mean, ridge
from predictors.quality import Scores
from predictors.selection import MINIMUM_ROWS, AutoPredictor
from predictors.threads import one_thread
from supernets.space import Architecture

_Array = NDArray[np.float64]
Encode = Callable[[Sequence[Architecture]], _Array]
Models = dict[str, tuple[Encode, Callable[[], Predictor]]]
"""By a model's name, what it sees and how it is made."""
LEAST_TRAINING = max(MINIMUM_ROWS, 10)
"""Rows below which a cross-validated interval of LightGBM says nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """The scores of one model, trained on one split.

    Attributes:
        model: ``mean``, ``ridge`` and ``gp`` (a Gaussian process) on one-hot genes, ``lightgbm`` on gene levels, ``auto``,
            which the search uses, or ``auto-tuned``, the same with time for tuning. On a numeric table all but these two
            see the genes' values.
        train: training rows.
        seed: of the split.
        mape: mean absolute error relative to the figure, as a share; None where a figure is 0.
        kendall_tau: rank agreement, tau-b; None for constant predictions or figures.
        coverage: share of figures inside their 90 % interval.
        fit_s: seconds of fitting on one thread, with all that the interval needs.
    """

    model: str
    train: int
    seed: int
    mape: float | None
    kendall_tau: float | None
    coverage: float | None
    fit_s: float

    def to_json(self) -> dict[str, object]:
        """Plain data, a key an attribute."""
        return asdict(self)


def bench_predictor(
    table: Table,
    target: str,
    *,
    train: Sequence[int],
    test: int,
    seeds: int,
    tune_seconds: float = 0.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Row]:
    """Rows of all models for each seed and each number of training rows, as they are fitted.

    A split is a function of the seed: the first `test` rows of a permutation are held out, and the training rows follow,
    a smaller number being the beginning of a larger. All models have the same. Figures that are all above zero are
    learnt as positive ones, whose errors count as ratios. Rows without a figure are left out.

    Args:
        tune_seconds: for tuning by Optuna at each fit of ``auto-tuned``, which is left out where it is 0.
        on_progress: called with models fitted and models in all, after each.

    Raises:
        UnknownNameError: the table has no such column of figures.
        EvaluationError: numbers that make no benchmark, or more rows wanted than there are.
    """
    if target not in table.values:
        raise UnknownNameError("figure", target, table.values, where=table.name)
    labels = np.array(table.values[target], dtype=np.float64)
    known = np.flatnonzero(~np.isnan(labels))
    _check(table, target, len(known), train=train, test=test, seeds=seeds)
    models = partial(
        _models, TableFeatures.of(table), positive=bool((labels[known] > 0).all()), tune_seconds=tune_seconds
    )
    return _rows(table, labels, known, models, train=sorted(train), test=test, seeds=seeds, on_progress=on_progress)


def _rows(
    table: Table,
    labels: _Array,
    known: NDArray[np.int64],
    models: Callable[[int], Models],
    *,
    train: Sequence[int],
    test: int,
    seeds: int,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[Row]:
    total, done = seeds * len(train) * len(models(0)), 0
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(known)
        for n in train:
            for name, (encode, make) in models(seed).items():
                yield _scored(name, encode, make(), table, labels, order[test : test + n], order[:test], seed)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)


def _models(features: TableFeatures, seed: int, *, positive: bool, tune_seconds: float) -> Models:
    """What each model sees, and how it is made."""
    plain = features.plain
    auto = partial(AutoPredictor, layout=features.layout(), positive=positive, seed=seed)
    found: Models = {
        "mean": (plain, mean),
        "ridge": (plain, ridge),
        "lightgbm": (features.raw, lambda: lightgbm(positive=positive, seed=seed)),
        "gp": (plain, lambda: gaussian_process(features.plain(()).shape[1])),
        "auto": (features, auto),
    }
    return found | ({"auto-tuned": (features, partial(auto, tune_seconds=tune_seconds))} if tune_seconds > 0 else {})


def _scored(
    name: str,
    encode: Encode,
    model: Predictor,
    table: Table,
    labels: _Array,
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    seed: int,
) -> Row:
    x, new = (encode([table.architectures[i] for i in part]) for part in (training, held_out))
    with one_thread():
        start = time.perf_counter()
        model.fit(x, labels[training])
        fit_s = time.perf_counter() - start
        found = model.predict(new)
    scores = Scores.of(labels[held_out], found.mean, found.low, found.high).to_json()
    return Row(name, len(training), seed, scores["mape"], scores["kendall_tau"], scores["coverage"], fit_s)


def _check(table: Table, target: str, n_known: int, *, train: Sequence[int], test: int, seeds: int) -> None:
    if not train or min(train) < LEAST_TRAINING or len(set(train)) != len(train):
        shown = ",".join(str(n) for n in train) or "nothing"
        raise EvaluationError(
            f"training rows are {shown}; expected different numbers, each at least {LEAST_TRAINING}, as in 25,50,100"
        )
    if test < 2:
        raise EvaluationError(f"{test} test rows; expected at least 2, better some hundreds")
    if seeds < 1:
        raise EvaluationError(f"{seeds} seeds; expected at least 1")
    if n_known < test + max(train):
        raise EvaluationError(
            f"{table.name} has {n_known} rows with a figure in {target!r}; {test} for testing and {max(train)} for "
            "training are more: ask for fewer of either"
        )
