"""Guided search against random search and uniform scaling on a trained supernet, by re-measured hypervolume.

    python -m tests.benchmarks.search_on_supernet JOB.yaml --from RUN_OR_PATH [--seeds 5] [--evaluations 100] [--json]

Method. Each algorithm searches the same trained supernet with the same budget of real evaluations (the smallest and the
largest network included) in the engine's loop. Uniform scaling evaluates every distinct architecture whose genes are all at
level round(t (n - 1)). Accuracy depends on the weights alone and is measured once per architecture; latency is measured again
in every search. Then, seed by seed, the finalists of all three are measured together by the longer protocol, in the same
shuffled rounds, and scored on the test part. The hypervolume of each re-measured front has one reference point: the worst
values of the smallest and the largest network, moved out by 10 % of their difference. It is shown as a share of the box
between that point and the best values of all algorithms in that seed.

Resumable: searches and measurements are stored in the folder --work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, LatencyFailure
from hardware_profiles.profiler_factory import open_profiler
from nas.build.prepared_job import prepare_job
from nas.build.search_objects import build_algorithm, build_evaluator
from nas.config import SearchJob, load_job
from nas.engine.finalists import choose_finalists
from nas.engine.search_loop import search
from nas.evaluation.cached_evaluator import Cached
from nas.evaluation.cluster import start_ray, stop_ray
from nas.evaluation.environments import Environments
from nas.evaluation.ray_pool import RayPool
from nas.evaluation.scoring import InlineScoring, Scored, ScoringTask
from nas.problem.budget import Budget
from nas.problem.objectives import Evaluation, Measurement, Request, Status, Variant
from nas.problem.pareto import hypervolume, reference_point
from nas.search.base import SearchAlgorithm
from nas.store.folder import RunsFolder
from nas.store.sql import SqlStore
from supernets.module_to_onnx import INPUT
from supernets.space import Architecture

ALGORITHMS = ("guided", "random", "uniform scaling")
_TOGETHER = 24


class UniformScaling(SearchAlgorithm):
    """Proposes all uniformly scaled architectures, smallest first."""

    def __init__(self, architectures: Sequence[Architecture]) -> None:
        self._left = list(architectures[1:-1])  # the loop itself measures the smallest and the largest

    def ask(self, n: int) -> list[Architecture]:
        asked, self._left = self._left[:n], self._left[n:]
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learns nothing."""

    def replay(self, asked: Sequence[Architecture]) -> list[Architecture]:
        return self.ask(len(asked))


class Shared:
    """Scoring processes that outlive their evaluator."""

    def __init__(self, pool: RayPool) -> None:
        self._pool = pool

    def score(self, tasks: Sequence[ScoringTask]) -> Iterator[Scored]:
        return self._pool.score(tasks)

    def close(self) -> None:
        """Leaves them running."""


class Bench:
    """One trained supernet with what its searches share: scoring processes and measured accuracies."""

    def __init__(self, job: SearchJob, work: Path, runs: Path, workers: int | None) -> None:
        self.runs = RunsFolder(runs)
        self.prepared = prepare_job(job, self.runs, source="benchmark")
        if self.prepared.supernets.checkpoint is None:
            raise SystemExit("give a trained supernet with --from")
        self.checkpoint, self.work = self.prepared.supernets.checkpoint, work
        self.accuracies = SqlStore.open(work / "accuracies.db", create=True, driver=True)
        supernet, data = self.checkpoint.supernet, self.prepared.data
        self.pool = RayPool(supernet, data.calibration, data.dataset.validation, workers=workers)
        self.test = InlineScoring(supernet, data.calibration, data.dataset.test)

    def search(self, job: SearchJob, algorithm: str, seed: int) -> list[Evaluation]:
        """One search, continued if it was interrupted."""
        chosen: SearchAlgorithm
        if algorithm == "uniform scaling":
            chosen = UniformScaling(self.prepared.supernets.family.space.uniform_scalings())
        else:
            own = job.search.model_copy(update={"algorithm": algorithm})
            seeded = prepare_job(job.model_copy(update={"seed": seed, "search": own}), self.runs, source="benchmark")
            chosen = build_algorithm(seeded, self.checkpoint.supernet)
        prepared, weights = self.prepared, self.checkpoint.weights_digest
        measured = build_evaluator(
            prepared, self.checkpoint.supernet, weights, prepared.data.dataset.validation, Shared(self.pool),
            seed=seed, on_wait=print, environments=Environments(),
        )  # fmt: skip
        store = SqlStore.open(self.work / f"{algorithm.replace(' ', '-')}-{seed}.db", create=True, driver=True)
        with closing(store), closing(measured):
            return search(
                prepared.supernets.family.space,
                prepared.job.objectives,
                chosen,
                Cached(measured, self._known_accuracies, keep=self._keep_accuracy),
                store,
                Budget(job.search.evaluations),
                batch=job.search.batch,
            )

    def _known_accuracies(self, requests: Sequence[Request]) -> dict[Request, list[Measurement]]:
        return self.accuracies.attempts([r for r in requests if r.metric == "accuracy"])

    def _keep_accuracy(self, measurement: Measurement) -> None:
        if measurement.request.metric == "accuracy" and measurement.status is Status.OK:
            self.accuracies.add(measurement)

    def measure_finalists(
        self, architectures: Sequence[Architecture], seed: int
    ) -> dict[Architecture, tuple[float, float]]:
        """Latency by the longer protocol, all in the same rounds, and accuracy on the test part."""
        profile = self.prepared.job.profiles[0]
        scored = {
            s.task.architecture: s
            for s in self.test.score(
                [ScoringTask(a, Variant(), metrics=("accuracy",), model=True) for a in architectures]
            )
        }
        profiler = open_profiler(profile, seed=seed)
        inputs = [{INPUT: examples} for examples in self.prepared.data.timed_batches(profile)]
        deployments = [Deployment.single(scored[a].model or b"", *inputs) for a in architectures]
        out = {}
        for a, latency in zip(architectures, profiler.measure(deployments, longer=True), strict=True):
            if isinstance(latency, LatencyFailure):
                raise SystemExit(latency.message)
            out[a] = (scored[a].scores["accuracy"].value, latency.latency_ms)
        profiler.close()
        return out


def compare_seed(bench: Bench, job: SearchJob, seed: int) -> dict[str, Any]:
    """All three algorithms of one seed, re-measured together."""
    space, objectives = bench.prepared.supernets.family.space, bench.prepared.job.objectives
    ends = [space.smallest, space.largest]
    searched = {name: bench.search(job, name, seed) for name in ALGORITHMS}
    chosen = {name: choose_finalists(evaluations, objectives, ends) for name, evaluations in searched.items()}
    union = list(dict.fromkeys(a for found in chosen.values() for a in found))
    again = bench.measure_finalists(union, seed)
    validation = {e.architecture: e.value(objectives[0]) for found in searched.values() for e in found}
    row: dict[str, Any] = {"seed": seed, "evaluations": {name: len(found) for name, found in searched.items()}}
    for label, accuracy in (("validation", validation), ("test", {a: values[0] for a, values in again.items()})):
        points = {a: np.array([-accuracy[a], again[a][1]]) for a in union}
        reference = reference_point(points[ends[0]], points[ends[1]])
        ideal: NDArray[np.float64] = np.min(list(points.values()), axis=0)
        box = float(np.prod(reference - ideal))
        row[label] = {
            name: hypervolume(np.array([points[a] for a in found]), reference) / box for name, found in chosen.items()
        }
    return row


def main(
    job: Path,
    from_: Annotated[str, typer.Option("--from", help="A trained supernet: a run, or a checkpoint's path.")],
    workers: Annotated[int | None, typer.Option(help="Scoring processes; one a core by default.")] = None,
    seeds: int = 5,
    evaluations: int = 100,
    work: Path = Path("runs/search-on-supernet"),
    runs: Path = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Prints one row per seed, and how often each algorithm was ahead."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    loaded = load_job(job)
    loaded = loaded.model_copy(
        update={
            "supernet": loaded.supernet.model_copy(update={"from_": from_}),
            "search": loaded.search.model_copy(update={"evaluations": evaluations}),
        }
    )
    start_ray()
    bench = Bench(loaded, work, runs, workers)
    rows = []
    for seed in range(1, seeds + 1):
        kept = work / f"seed-{seed}-{evaluations}.json"
        if not kept.exists():
            kept.write_text(json.dumps(compare_seed(bench, loaded, seed)))
        rows.append(json.loads(kept.read_text()))
        if not as_json:
            _print_row(rows[-1])
    stop_ray()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for part in ("validation", "test"):
        ahead = sum(all(row[part]["guided"] > row[part][other] for other in ALGORITHMS[1:]) for row in rows)
        means = ", ".join(f"{name} {np.mean([row[part][name] for row in rows]):.4f}" for name in ALGORITHMS)
        print(f"{part} accuracy, mean share: {means}; guided ahead of both in {ahead} of {len(rows)} seeds")


def _print_row(row: dict[str, Any]) -> None:
    for part in ("validation", "test"):
        shares = ", ".join(
            f"{name} {row[part][name]:.4f} ({row['evaluations'][name]} evaluations)" for name in ALGORITHMS
        )
        print(f"seed {row['seed']}, {part} accuracy and re-measured latency: {shares}", flush=True)


if __name__ == "__main__":
    typer.run(main)
