"""Accuracy of latency prediction from few measurements, with and without a lookup table of the blocks.

    python -m tests.benchmarks.latency_predictor [--profile NAME ...] [--subnets 400] [--draws 5]

Method. Preset `tiny` on images of 28 x 28 pixels, initial weights. For each profile, `planning.calibrate` makes the table
(every block twice, 30 random subnets for the affine map); then other random subnets are measured once, and the second half of
them again, twenty at a time. The first half is for training, the second half is held out. Each predictor is trained on 25, 50,
100 and 200 subnets (the first of a shuffle; mean over the samples) and scored by MAPE on the first measurements of the held-out
half. *Repeatability* is the MAPE between the two measurements of the held-out half: the error of a predictor that knows the
first.

- auto: `AutoPredictor` with the table, as in a search; auto without table: the same without those columns;
- lookup: an affine map of the table's sum; MACs: an affine map of the MACs; ridge, LightGBM: on the one-hot genes.

Resumable: the tables and a line per measurement are stored in --folder, and not repeated.
"""

from __future__ import annotations

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
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.evaluation.features import ArchitectureFeatures, LatencyFeatures
from nas.jobs.planning.calibrate import calibrate
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from predictors import baselines
from predictors.base import Predictor
from predictors.label_scales import LabelScale
from predictors.linear import ColumnLinearPredictor, RidgePredictor
from predictors.model_selection import AutoPredictor
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.blocks import BlockKeys
from supernets.space import Architecture
from tests.benchmarks.json_lines import append_row, read_rows
from tests.benchmarks.markdown import table_head, table_row

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
        self._path, self._rows = path, read_rows(path)

    def lacking(self, architectures: Sequence[Architecture], attempt: int) -> list[Architecture]:
        """The architectures without a measurement of this attempt."""
        known = {row["architecture"] for row in self._rows if row["attempt"] == attempt}
        return [a for a in architectures if a.key not in known]

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Stores a batch, whose environment must be that of the others."""
        for row in rows:
            if self._rows and (found := differences(self._rows[0]["environment"], row["environment"])):
                raise SystemExit(f"{self._path} is of another machine ({'; '.join(found)}); give another --folder")
        for row in rows:
            append_row(self._path, row)
        self._rows += rows

    def values(self, architectures: Sequence[Architecture], attempt: int) -> Array:
        """Latencies in milliseconds, (n,)."""
        rows = {row["architecture"]: row["latency_ms"] for row in self._rows if row["attempt"] == attempt}
        return np.array([rows[a.key] for a in architectures])


def measure(
    built_job: BuiltJob, profile: HardwareProfile, labels: Labels, architectures: Sequence[Architecture]
) -> None:
    """Measures what is missing: all subnets once, the held-out half twice."""
    supernet = built_job.untrained().eval()
    inputs = [{INPUT: examples} for examples in built_job.data.timed_batches(profile)]
    example = built_job.family.example(2)
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


def draw(built_job: BuiltJob, n: int, fitted: Sequence[str]) -> list[Architecture]:
    """Different random architectures, without those that the table is fitted to."""
    rng, found = np.random.default_rng(_SEED), dict[Architecture, None]()
    while len(found) < n:
        if (architecture := built_job.family.space.sample(rng)).key not in fitted:
            found[architecture] = None
    return list(found)


def mape(predicted: Array, measured: Array) -> float:
    return float(np.mean(np.abs(predicted / measured - 1)))


def compare(with_table: LatencyFeatures, without: ArchitectureFeatures, architectures: Sequence[Architecture], y: Array,
            *, sizes: Sequence[int], draws: int) -> dict[str, list[float]]:  # fmt: skip
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
    found: dict[str, list[float]] = {}
    for name, (x, make) in models.items():
        for n in sizes:
            errors = []
            for seed, order in enumerate(orders):
                model, rows = make(seed), order[:n]
                model.fit(x[rows], y[rows])
                errors.append(mape(model.predict(x[half:]).mean, y[half:]))
            found.setdefault(name, []).append(float(np.mean(errors)))
    return found


def run(built_job: BuiltJob, profile: HardwareProfile, folder: Path, *, subnets: int, draws: int) -> None:
    """Measures and prints the results of one profile."""
    table = calibrate(built_job, profile, folder / f"{profile.name}.json", on_wait=print)
    architectures = draw(built_job, subnets, list(table.subnets["fp32"]))
    labels = Labels(folder / f"{profile.name}-{subnets}.jsonl")
    measure(built_job, profile, labels, architectures)
    supernet = built_job.untrained()
    half, sizes = subnets // 2, [n for n in SIZES if n <= subnets // 2]
    first, again = labels.values(architectures, 0), labels.values(architectures[half:], 1)
    fit, missing = table.fits["fp32"], table.missing(BlockKeys(supernet).of(architectures), "fp32")
    print(f"{profile.name}: {subnets} subnets of {first.min():.3f} to {first.max():.3f} ms, {draws} draws")
    print(
        f"table: {len(table.entries['fp32'])} blocks, {len(missing)} estimated; latency = {fit.scale:.3f} x sum + "
        f"{fit.offset_ms:.4f} ms, off by {fit.mape:.2%}\n"
    )
    print(table_head(f"repeatability {mape(again, first[half:]):.2%}", *sizes))
    features = LatencyFeatures(supernet, table), ArchitectureFeatures(supernet)
    for name, errors in compare(*features, architectures, first, sizes=sizes, draws=draws).items():
        print(table_row(name, *(f"{error:.2%}" for error in errors)), flush=True)


def main(
    profile: Annotated[list[str], typer.Option(help="Profiles to measure.")] = list(PROFILES),  # noqa: B006
    subnets: Annotated[int, typer.Option(help="Subnets measured; half are held out.", min=60)] = 400,
    draws: Annotated[int, typer.Option(help="Draws of training subnets.", min=1)] = 5,
    folder: Annotated[Path, typer.Option(help="Where measurements are kept.")] = Path(
        "runs/benchmarks/latency-predictor"
    ),
) -> None:
    """Prints a table for each profile."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    built_job = build_job(ResolvedJob(parse_job(JOB, source="benchmark"), RunsFolder(folder), source="benchmark"))
    print(__doc__)
    for name in profile:
        run(built_job, load_profile(name), folder, subnets=subnets, draws=draws)


if __name__ == "__main__":
    typer.run(main)
