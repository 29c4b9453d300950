"""Latency of a space on a new device from ten measurements, with the devices of a published table.

    python -m tests.benchmarks.latency_transfer TABLE.yaml... [--samples 10] [--seeds 3]

Method. Each latency column of a table is in turn the new device; the others are known, by 900 random networks each. The
networks to measure are chosen from 1,500 random ones. Figures are Spearman's rank correlation on all other rows of the table,
means over the seeds. Beside the transfer, in the same run and from the same ten networks:

- known: the mean latency on the known devices, which measures nothing on the new one;
- alone: the project's predictor, trained on the ten measurements;
- random: the transfer with ten random networks;
- all: a sum of costs per gene, fitted to 900 measurements on the new device: about as far as a sum of parts can come.

With ``--split``, the devices that HELP (arXiv 2106.08630) trains on are known and the others are new; its published mean
over its own devices, with ten samples, is 0.932.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
HELP_TRAINS_ON = ("1080ti_1", "1080ti_32", "1080ti_64", "1080ti_256", "silver_4114", "samsung_s7")
_PREFIX = "latency_ms_"
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

    def known(self, rows: NDArray[np.int64], devices: Sequence[str]) -> KnownDevices:
        """What is known of some networks on some devices."""
        latencies = np.stack([self.latencies[name][rows] for name in devices], axis=1)
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
    costs = KnownDevices(devices.networks[rows], truth[rows][:, None], (devices.kinds, devices.positions))
    by_method = {
        "transfer": rank(found.mean),
        "known": rank(np.mean([devices.latencies[name][rest] / devices.latencies[name].mean() for name in known], axis=0)),
        "alone": rank(alone.predict(_with_constant(x)).mean),
        "random": rank(other.predict(x).mean),
        "all": rank((x @ costs.relative_costs())[:, 0]),
    }  # fmt: skip
    return by_method, float(np.mean((found.low <= y) & (y <= found.high)))


def _with_constant(networks: Array) -> Array:
    return np.column_stack([np.ones(len(networks)), networks])


def main(
    tables: Annotated[list[Path], typer.Argument(help="descriptions of tables")],
    samples: int = 10,
    seeds: int = 3,
    split: Annotated[bool, typer.Option(help="HELP's devices are known, the others are new")] = False,
) -> None:
    """Prints a table of rank correlations by new device."""
    print(table_head("table", "new device", *METHODS, "in 90 %"))
    means = []
    for path in tables:
        devices = Devices(path)
        for new in devices.latencies:
            if split and new in HELP_TRAINS_ON:
                continue
            known = [name for name in devices.latencies if name != new and (not split or name in HELP_TRAINS_ON)]
            results = [compared(devices, new, known, samples, seed) for seed in range(seeds)]
            mean = {name: float(np.mean([by_method[name] for by_method, _ in results])) for name in METHODS}
            means.append(mean)
            covered = 100 * np.mean([share for _, share in results])
            print(table_row(path.stem, new, *(f"{mean[name]:.3f}" for name in METHODS), f"{covered:.0f} %"), flush=True)
    overall = (float(np.mean([own[name] for own in means])) for name in METHODS)
    print(table_row("mean", "", *(f"{value:.3f}" for value in overall), ""))


if __name__ == "__main__":
    typer.run(main)
