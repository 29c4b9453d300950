"""Held-out errors of the models of one-shot subnets' perplexities, with and without the energy that subnets lack.

    python -m tests.benchmarks.decoder_estimate --work FOLDER [--repeats 3]

Needs a finished search of `tests.benchmarks.decoder_oneshot_search` in the folder --work, which is only read.

Method. The networks of that search, in the order in which it asked for them, with their perplexities on the validation part.
Of the first 14, of the first 20, and of all, each model is fitted to four fifths of the networks and predicts the others; folds
are balanced over perplexities and drawn several times. The predictor of a search chooses and weighs its models anew in each
fold, without the networks that it then predicts. *Later*: the error for all networks that the search asked for after the first
14 or 20, which the model is fitted to. An error is the root mean square of the logarithm of predicted over measured perplexity;
that of folds is the mean over the draws, with the least and the largest in brackets.

Baselines: the geometric mean of the other networks; lines through multiply-accumulates, and through the energy
(`supernets.families.decoder.removed_energy`) alone; and the Gaussian process on genes that a search takes where it has the
smaller cross-validated error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import typer

from nas.engine.evaluation.features import OneShotFeatures, architecture_features, feature_layout
from nas.engine.evaluation.scoring import CALIBRATION_BATCH
from nas.engine.store.folder import RunsFolder
from nas.engine.store.sql import SqlStore
from nas.engine.store.stored_run import StoredRun
from nas.jobs.build.prepared_job import load_trained_run
from nas.search.guided.models import GeneKind
from nas.search.problem.objectives import Fidelity, Status
from predictors.base import Array, Predictor
from predictors.folds import held_out, make_folds
from predictors.label_scales import LabelScale
from predictors.linear import ColumnLinearPredictor, MeanPredictor
from predictors.model_selection import AutoPredictor
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from tests.benchmarks.decoder_oneshot_search import RUN, RUNS

STORE, FIRST, SEED = "guided-1.db", (14, 20), 1
Models = dict[str, tuple[Array, Callable[[], Predictor]]]
"""By name, the features of all networks and what makes the model."""


def searched(store: Path) -> tuple[list[Architecture], Array]:
    """The networks of a search, in the order asked, and their perplexities (n,)."""
    with closing(SqlStore.open(store, create=False, driver=False)) as kept:
        found = {
            m.request.architecture: m.value
            for m in kept.measurements(Fidelity.SEARCH)
            if m.request.metric == "perplexity" and m.status is Status.OK
        }
        networks = [a for asked in kept.asks() for a in asked if a in found]
    return networks, np.array([found[a] for a in networks], dtype=np.float64)


def models(supernet: Supernet, texts: Sequence[torch.Tensor], networks: Sequence[Architecture]) -> Models:
    """The models that are compared."""
    energies, genes = OneShotFeatures(supernet, texts), GeneKind(supernet.space, seed=SEED)
    layout = feature_layout(len(supernet.family.blocks), supernet.space)
    plain = architecture_features(supernet, networks)
    rich, line = energies(networks), partial(ColumnLinearPredictor, scale=LabelScale.LOG)
    auto = partial(AutoPredictor, positive=True, seed=SEED)
    return {
        "geometric mean": (plain, partial(MeanPredictor, scale=LabelScale.LOG)),
        "line through multiply-accumulates": (plain, partial(line, cast(int, layout.macs))),
        "line through the energy": (rich, partial(line, cast(int, energies.layout.estimate))),
        "Gaussian process on genes": (genes.features(networks), partial(genes.process, ratio=True)),
        "predictor without the energy": (plain, partial(auto, layout=layout)),
        "predictor with it": (rich, partial(auto, layout=energies.layout)),
    }


def error(predicted: Array, measured: Array) -> float:
    """In per cent."""
    return 100 * float(np.sqrt(np.mean(np.log(predicted / measured) ** 2)))


def cells(x: Array, y: Array, make: Callable[[], Predictor], n: int, repeats: int) -> list[str]:
    """The errors of a model by its first n networks: in folds, and of later networks where there are some."""
    seen, labels = x[:n], y[:n]
    draws = [make_folds(labels, np.random.default_rng(seed)) for seed in range(repeats)]
    found = [error(held_out(make, seen, labels, folds).mean, labels) for folds in draws]
    texts = [f"{np.mean(found):.1f} ({min(found):.1f}-{max(found):.1f})"]
    if n < len(y):
        model = make()
        model.fit(seen, labels)
        texts.append(f"{error(model.predict(x[n:]).mean, y[n:]):.1f}")
    return texts


def main(work: Path = Path("runs/decoder-oneshot"), repeats: int = 3) -> None:
    """Prints the table."""
    print(__doc__)
    torch.set_num_threads(1)
    trained = load_trained_run(StoredRun.open(RunsFolder(work / RUNS), RUN))
    networks, y = searched(work / STORE)
    sizes = [*(n for n in FIRST if n < len(y)), len(y)]
    columns = [label for n in sizes for label in ([f"{n} networks", "later"] if n < len(y) else [f"all {n}"])]
    print(f"| error in % | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    offered = models(trained.checkpoint.supernet, trained.data.calibration.split(CALIBRATION_BATCH), networks)
    for name, (x, make) in offered.items():
        row = [cell for n in sizes for cell in cells(x, y, make, n, repeats)]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
