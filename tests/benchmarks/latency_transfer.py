"""Latency of a space on a new device from ten measurements, with the devices of a published table.

    python -m tests.benchmarks.latency_transfer TABLE.yaml... [--samples 10] [--seeds 3] [--splits SPLITS.json]

Method. Each latency column of a table is in turn the new device; the others are known, by 900 random networks each. The
networks to measure are chosen from 1,500 random ones. Figures are Spearman's rank correlation on all other rows of the table,
means over the seeds. Beside the transfer, in the same run and from the same ten networks:

- known: the mean latency on the known devices, which measures nothing on the new one;
- alone: the project's predictor, trained on the ten measurements;
- random: the transfer with ten random networks;
- all: a sum of costs per gene, fitted to 900 measurements on the new device: about as far as a sum of parts can come.

MACs and parameters of the table's networks count as two more known devices.

With ``--splits``, a file names the known and the new devices of several tests, with published correlations: rows for each new
device, and means by test, of the correlation with chosen and with random networks, of the share of latencies in the 90 %
intervals, and of latencies predicted within 5 and 10 %, the last three with chosen networks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import spearmanr

from nas.runs.bench.table import Table
from predictors import AutoPredictor, FeatureLayout
from predictors.transfer import KnownDevices, TransferPredictor
from tests.benchmarks.markdown import table_head, table_row

Array = NDArray[np.float64]
KNOWN, POOL = 900, 1500
_PREFIX, _COSTS = "latency_ms_", ("macs_M", "params_M")
METHODS = ("transfer", "known", "alone", "random", "all")


class Devices:
    """A table's networks, one-hot, and their latencies by device."""

    def __init__(self, path: Path) -> None:
        table = Table.load(path)
        space = table.space
        encoded = space.encode(list(table.architectures))
        self.networks = encoded[:, : sum(space.levels)]
        self.positions = np.repeat(np.arange(len(space)), space.levels)
        options = [str(option) for choice in space.choices for option in choice.options]
        roles = [_role(choice.name) for choice in space.choices for _ in choice.options]
        kinds = [f"{role} {option}" for role, option in zip(roles, options, strict=True)]
        self.kinds = np.unique(kinds, return_inverse=True)[1]
        self.latencies = {
            name.removeprefix(_PREFIX): np.array(column)
            for name, column in table.values.items()
            if name.startswith(_PREFIX)
        }
        self.costs = [np.array(table.values[name]) for name in _COSTS if name in table.values]

    def known(self, rows: NDArray[np.int64], devices: Sequence[str]) -> KnownDevices:
        """What is known of some networks on some devices."""
        columns = [*(self.latencies[name] for name in devices), *self.costs]
        latencies = np.stack([column[rows] for column in columns], axis=1)
        return KnownDevices(self.networks[rows], latencies, (self.kinds, self.positions))


def _role(gene: str) -> str:
    """Genes of one role have the same options with the same meaning: edge_1 and edge_2, kernel_1_1 and kernel_5_4."""
    return gene.rstrip("0123456789_")


def compared(devices: Devices, new: str, known: Sequence[str], n: int, seed: int) -> tuple[dict[str, float], float]:
    """Spearman's correlation by method, and the share of true latencies in the transfer's 90 % intervals."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(devices.networks), KNOWN, replace=False)
    truth = devices.latencies[new]
    model = TransferPredictor(devices.known(rows, known), seed=seed)
    pool = rng.choice(len(devices.networks), POOL, replace=False)
    chosen = pool[model.choose(devices.networks[pool], n)]
    drawn = rng.choice(len(devices.networks), n, replace=False)
    rest = np.setdiff1d(np.arange(len(truth)), np.concatenate([chosen, drawn]))
    x, y = devices.networks[rest], truth[rest]

    def rank(predicted: Array) -> float:
        return float(spearmanr(predicted, y).statistic)

    model.fit(devices.networks[chosen], truth[chosen])
    found = model.predict(x)
    other = TransferPredictor(devices.known(rows, known), seed=seed)
    other.fit(devices.networks[drawn], truth[drawn])
    # A column that no search has, constant, stands for the MACs that a table of genes lacks.
    alone = AutoPredictor(layout=FeatureLayout(macs=0, aggregates=(0,)), positive=True, seed=seed)
    alone.fit(_with_constant(devices.networks[chosen]), truth[chosen])
    of_new = KnownDevices(devices.networks[rows], truth[rows][:, None], (devices.kinds, devices.positions))
    by_method = {
        "transfer": rank(found.mean),
        "known": rank(np.mean([devices.latencies[name][rest] / devices.latencies[name].mean() for name in known], axis=0)),
        "alone": rank(alone.predict(_with_constant(x)).mean),
        "random": rank(other.predict(x).mean),
        "all": rank((x @ of_new.relative_costs())[:, 0]),
    }  # fmt: skip
    return by_method, float(np.mean((found.low <= y) & (y <= found.high)))


def _with_constant(networks: Array) -> Array:
    return np.column_stack([np.ones(len(networks)), networks])


@dataclass(frozen=True, slots=True)
class Transferred:
    """Figures of one transfer, on the networks that were not measured.

    Attributes:
        rank: Spearman's correlation.
        covered: Share of latencies in the 90 % intervals.
        within_5, within_10: Shares of latencies predicted within 5 and 10 %.
    """

    rank: float
    covered: float
    within_5: float
    within_10: float


def transferred(devices: Devices, new: str, known: Sequence[str], n: int, seed: int, *, chooses: bool) -> Transferred:
    """The figures of a transfer from n networks, which the model chooses or which are random."""
    rng = np.random.default_rng(seed)
    model = TransferPredictor(devices.known(rng.choice(len(devices.networks), KNOWN, replace=False), known), seed=seed)
    pool = rng.choice(len(devices.networks), POOL, replace=False)
    measured = pool[model.choose(devices.networks[pool], n)] if chooses else pool[:n]
    others = np.setdiff1d(np.arange(len(devices.networks)), measured)
    truth = devices.latencies[new]
    model.fit(devices.networks[measured], truth[measured])
    predicted, expected = model.predict(devices.networks[others]), truth[others]
    errors = np.abs(predicted.mean / expected - 1)
    covered = (predicted.low <= expected) & (expected <= predicted.high)
    rank = float(spearmanr(predicted.mean, expected).statistic)
    return Transferred(rank, *(float(np.mean(share)) for share in (covered, errors <= 0.05, errors <= 0.1)))


def print_splits(devices: Devices, splits: Mapping[str, Any], samples: int, seeds: int) -> None:
    """Prints the figures of each test of a file of splits."""
    print(table_head("test", "new device", "chosen", "random", "in 90 %", "within 5 %", "within 10 %", "published"))
    for name, split in splits.items():
        rows = []
        for new in split["test"]:
            by_choice = [
                [transferred(devices, new, split["train"], samples, seed, chooses=chooses) for seed in range(seeds)]
                for chooses in (True, False)
            ]
            chosen, drawn = (np.mean([astuple(figures) for figures in by_seed], axis=0) for by_seed in by_choice)
            rows.append([chosen[0], drawn[0], *chosen[1:]])
            print(table_row(name, new, *_cells(rows[-1]), ""), flush=True)
        published = ", ".join(f"{method} {value:.3f}" for method, value in split["published_spearman"].items())
        print(table_row(f"**{name}**", "mean", *_cells(np.mean(rows, axis=0)), published), flush=True)


def _cells(row: Iterable[float]) -> list[str]:
    chosen, drawn, *shares = row
    return [f"{chosen:.3f}", f"{drawn:.3f}", *(f"{100 * share:.0f} %" for share in shares)]


def main(
    tables: Annotated[list[Path], typer.Argument(help="descriptions of tables")],
    samples: int = 10,
    seeds: int = 3,
    splits: Annotated[Path | None, typer.Option(help="tests with published figures, of one table")] = None,
) -> None:
    """Prints a table of rank correlations by new device."""
    if splits is not None:
        return print_splits(Devices(tables[0]), json.loads(splits.read_text())["splits"], samples, seeds)
    print(table_head("table", "new device", *METHODS, "in 90 %"))
    means = []
    for path in tables:
        devices = Devices(path)
        for new in devices.latencies:
            results = [
                compared(devices, new, [name for name in devices.latencies if name != new], samples, seed)
                for seed in range(seeds)
            ]
            mean = {name: float(np.mean([by_method[name] for by_method, _ in results])) for name in METHODS}
            means.append(mean)
            covered = 100 * np.mean([share for _, share in results])
            print(table_row(path.stem, new, *(f"{mean[name]:.3f}" for name in METHODS), f"{covered:.0f} %"), flush=True)
    overall = (float(np.mean([by_method[name] for by_method in means])) for name in METHODS)
    print(table_row("mean", "", *(f"{value:.3f}" for value in overall), ""))
    return None


if __name__ == "__main__":
    typer.run(main)
