"""Accuracy of latency prediction from few measurements, with and without a lookup table of the blocks.

    python -m tests.benchmarks.latency_predictor [--profile NAME ...] [--subnets 400] [--draws 5] [--json]

Method. Preset `tiny` on images of 28 x 28 pixels, initial weights. For each profile, `planning.calibrate` makes the table
(every block twice, 30 random subnets for the affine map); then other random subnets are measured once, and the second half of
them again, twenty at a time. The first half is for training, the second half is held out. Each predictor is trained on 25, 50,
100 and 200 subnets (the first of a shuffle; mean over the samples) and scored by MAPE on the first measurements of the held-out
half. *Repeatability* is the MAPE between the two measurements of the held-out half: the error of a predictor that knows the
first. *Scaled* latencies are multiplied by the sentinel's median over the sentinel's latency in the same rounds, which removes
slow drift of the machine from the labels.

- auto: `AutoPredictor` with the table, as in a search; auto without table: the same without those columns;
- lookup: an affine map of the table's sum; MACs: an affine map of the MACs; ridge, LightGBM: on the one-hot genes.

Resumable: the tables and a line per measurement are stored in --folder, and not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, HardwareProfile, LatencyFailure
from hardware_profiles.catalog import load_profile
from hardware_profiles.environment import differences
from hardware_profiles.profiler_factory import open_profiler
from nas.engine.evaluation.features import LatencyFeatures
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.prepared_job import PreparedJob, prepare_job
from nas.jobs.planning.calibrate import calibrate
from nas.jobs.schema import parse_job
from predictors import baselines
from predictors.base import Predictor
from predictors.label_scales import LabelScale
from predictors.linear import ColumnLinearPredictor, RidgePredictor
from predictors.model_selection import AutoPredictor
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture

JOB = """
name: latency-predictor
seed: 1
data: {name: digits, image_size: 28}
supernet: {family: mobile-cnn, preset: tiny}
"""
PROFILES = ("cpu-1-thread", "cpu-1-thread-batch-16")
SIZES = (25, 50, 100, 200)
_BATCH = 20
_SEED = 5
"""Seed of the measured subnets, different from the job's, by which calibration samples its own."""

Array = NDArray[np.float64]


class Labels:
    """The measurements of one profile, one line of JSON each, appended batch by batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._rows = [json.loads(line) for line in lines]

    def lacking(self, architectures: Sequence[Architecture], attempt: int) -> list[Architecture]:
        """The architectures without a measurement of this attempt."""
        known = {row["architecture"] for row in self._rows if row["attempt"] == attempt}
        return [a for a in architectures if a.key not in known]

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Stores a batch, whose environment must be that of the others."""
        for row in rows:
            if self._rows and (found := differences(self._rows[0]["environment"], row["environment"])):
                raise SystemExit(f"{self._path} is of another machine ({'; '.join(found)}); give another --folder")
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        self._rows += rows

    def values(self, architectures: Sequence[Architecture], attempt: int) -> tuple[Array, Array]:
        """Latencies and sentinels in milliseconds, (n,) each."""
        rows = {row["architecture"]: row for row in self._rows if row["attempt"] == attempt}
        found = [rows[a.key] for a in architectures]
        return (
            np.array([row["latency_ms"] for row in found]),
            np.array([row["environment"]["sentinel_ms"] for row in found]),
        )


def measure(
    prepared: PreparedJob, profile: HardwareProfile, labels: Labels, architectures: Sequence[Architecture]
) -> None:
    """Measures what is missing: all subnets once, the held-out half twice."""
    supernet = prepared.supernets.untrained().eval()
    inputs = [{INPUT: examples} for examples in prepared.data.timed_batches(profile)]
    example = prepared.supernets.family.example(2)
    held_out = architectures[len(architectures) // 2 :]
    with open_profiler(profile, seed=_SEED, on_wait=print) as profiler:
        for attempt, wanted in ((0, architectures), (1, held_out)):
            left = labels.lacking(wanted, attempt)
            for i in range(0, len(left), _BATCH):
                batch = left[i : i + _BATCH]
                deployments = [Deployment.single(lower(supernet.extract(a), example), *inputs) for a in batch]
                rows = []
                for a, result in zip(batch, profiler.measure(deployments), strict=True):
                    if isinstance(result, LatencyFailure):
                        raise SystemExit(f"{a.key}: {result.message}")
                    values = {"latency_ms": result.latency_ms, "resolution": result.resolution}
                    environment = dict(result.environment)
                    rows.append({"architecture": a.key, "attempt": attempt, **values, "environment": environment})
                labels.append(rows)


def draw(prepared: PreparedJob, n: int, fitted: Sequence[str]) -> list[Architecture]:
    """Different random architectures, without those that the table is fitted to."""
    rng, found = np.random.default_rng(_SEED), dict[Architecture, None]()
    while len(found) < n:
        if (architecture := prepared.supernets.family.space.sample(rng)).key not in fitted:
            found[architecture] = None
    return list(found)


def mape(predicted: Array, measured: Array) -> float:
    return float(np.mean(np.abs(predicted / measured - 1)))


def compare(with_table: LatencyFeatures, without: LatencyFeatures, architectures: Sequence[Architecture], y: Array,
            *, sizes: Sequence[int], draws: int) -> dict[str, dict[str, float]]:  # fmt: skip
    """MAPE on the held-out half by predictor and number of training subnets, mean over the samples."""
    rich, plain = with_table(architectures), without(architectures)
    genes = plain[:, list(without.layout.encoding(plain.shape[1]))]
    lookup = with_table.layout.estimate
    assert lookup is not None
    models: dict[str, tuple[Array, Callable[[int], Predictor]]] = {
        "auto": (rich, lambda s: AutoPredictor(layout=with_table.layout, positive=True, seed=s)),
        "auto without table": (plain, lambda s: AutoPredictor(layout=without.layout, positive=True, seed=s)),
        "lookup": (rich, lambda s: ColumnLinearPredictor(lookup, scale=LabelScale.RELATIVE)),
        "MACs": (plain, lambda s: ColumnLinearPredictor(0, scale=LabelScale.RELATIVE)),
        "ridge": (genes, lambda s: RidgePredictor()),
        "LightGBM": (genes, lambda s: baselines.lightgbm(positive=True, seed=s)),
    }
    half = len(architectures) // 2
    orders = [np.random.default_rng(draw).permutation(half) for draw in range(draws)]
    found: dict[str, dict[str, float]] = {}
    for name, (x, make) in models.items():
        for n in sizes:
            errors = []
            for seed, order in enumerate(orders):
                model, rows = make(seed), order[:n]
                model.fit(x[rows], y[rows])
                errors.append(mape(model.predict(x[half:]).mean, y[half:]))
            found.setdefault(name, {})[str(n)] = float(np.mean(errors))
    return found


def run(prepared: PreparedJob, profile: HardwareProfile, folder: Path, *, subnets: int, draws: int) -> dict[str, Any]:
    """The results of one profile, JSON-able."""
    table = calibrate(prepared, profile, folder / f"{profile.name}.json", on_wait=print)
    architectures = draw(prepared, subnets, list(table.subnets["fp32"]))
    labels = Labels(folder / f"{profile.name}-{subnets}.jsonl")
    measure(prepared, profile, labels, architectures)
    supernet = prepared.supernets.untrained()
    with_table, without = LatencyFeatures(supernet, table), LatencyFeatures(supernet, None)
    half = subnets // 2
    sizes = [n for n in SIZES if n <= half]
    (first, sentinel), (again, sentinel_again) = (
        labels.values(architectures, 0),
        labels.values(architectures[half:], 1),
    )
    level = float(np.median(sentinel))
    found: dict[str, Any] = {
        "profile": profile.name,
        "subnets": subnets,
        "latency_ms": [float(first.min()), float(first.max())],
        "table": {
            "blocks": len(table.entries["fp32"]),
            "missing": len(table.missing(BlockKeys(supernet).of(architectures), "fp32")),
            "scale": table.fits["fp32"].scale,
            "offset_ms": table.fits["fp32"].offset_ms,
            "mape": table.fits["fp32"].mape,
        },
    }
    for name, y, z in (
        ("measured", first, again),
        ("scaled", first * level / sentinel, again * level / sentinel_again),
    ):
        scores = compare(with_table, without, architectures, y, sizes=sizes, draws=draws)
        found[name] = {"repeatability": mape(z, y[half:]), "mape": scores}
    return found


def main(
    profile: Annotated[list[str], typer.Option(help="Profiles to measure.")] = list(PROFILES),  # noqa: B006
    subnets: Annotated[int, typer.Option(help="Subnets measured; half are held out.", min=60)] = 400,
    draws: Annotated[int, typer.Option(help="Draws of training subnets.", min=1)] = 5,
    folder: Annotated[Path, typer.Option(help="Where measurements are kept.")] = Path(
        "runs/benchmarks/latency-predictor"
    ),
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Prints a table for each profile."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare_job(parse_job(JOB, source="benchmark"), RunsFolder(folder), source="benchmark")
    rows = [run(prepared, load_profile(name), folder, subnets=subnets, draws=draws) for name in profile]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(__doc__)
    for row in rows:
        show(row, draws)


def show(row: dict[str, Any], draws: int) -> None:
    """Prints the results of one profile."""
    table, (low, high) = row["table"], row["latency_ms"]
    print(f"{row['profile']}: {row['subnets']} subnets of {low:.3f} to {high:.3f} ms, {draws} draws")
    print(
        f"table: {table['blocks']} blocks, {table['missing']} estimated; latency = {table['scale']:.3f} x sum + "
        f"{table['offset_ms']:.4f} ms, off by {table['mape']:.2%}\n"
    )
    for labels in ("measured", "scaled"):
        sizes = list(row[labels]["mape"]["auto"])
        print(f"| {labels}; repeatability {row[labels]['repeatability']:.2%} | " + " | ".join(sizes) + " |")
        print("|---|" + "---|" * len(sizes))
        for name, scores in row[labels]["mape"].items():
            print(f"| {name} | " + " | ".join(f"{scores[n]:.2%}" for n in sizes) + " |")
        print(flush=True)


if __name__ == "__main__":
    typer.run(main)
