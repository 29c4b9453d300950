"""Guided search against random search and uniform scaling on a trained supernet, by re-measured hypervolume.

    python -m tests.benchmarks.search_on_supernet JOB.yaml --from RUN_OR_PATH [--seeds 5] [--evaluations 100]

Method. The job's first objective is a score (accuracy, perplexity), its second one a time (latency, time per token). Each
algorithm searches the same trained supernet with the same budget of real evaluations (the smallest and the largest network
included) in the engine's loop. Uniform scaling evaluates every distinct architecture whose genes are all at level
round(t (n - 1)). The score depends on the weights alone and is measured once per architecture; the time is measured again in
every search. Then, seed by seed, the finalists of all three are measured together by the longer protocol, in the same shuffled
rounds, and scored on the test part. The hypervolume of each re-measured front has one reference point: the worst values of
the smallest and the largest network, moved out by 10 % of their difference. It is shown as a share of the box between that
point and the best values of all algorithms in that seed.

Resumable: searches and measurements are stored in the folder --work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from hardware_profiles.base import Deployment, LatencyFailure
from hardware_profiles.profiler_factory import open_profiler
from nas.engine.evaluation.base import Outcome
from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.evaluation.cluster import start_ray, stop_ray
from nas.engine.finalists import choose_finalists
from nas.engine.search_loop import search
from nas.engine.store.folder import RunsFolder
from nas.engine.store.sql import SqlStore
from nas.jobs.build.built_job import build_job
from nas.jobs.build.search_objects import build_algorithm, build_evaluator
from nas.jobs.build.serving import writes_cache_in_place
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.measuring_evaluator import deployment_of, served_by
from nas.jobs.evaluation.ray_pool import RayPool
from nas.jobs.evaluation.scoring import ExampleScores, InlineScoring, Scored, Scoring, ScoringTask
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import SearchJob, load_job
from nas.search.base import SearchAlgorithm
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Evaluation, Goal, Measurement, Request, Status, Variant
from nas.search.problem.pareto import hypervolume, non_dominated, reference_point
from supernets.space import Architecture, joint_levels

ALGORITHMS = ("guided", "random", "uniform scaling")


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

    def __init__(self, pool: Scoring) -> None:
        self._pool = pool

    def run(self, tasks: Sequence[ScoringTask]) -> Iterator[Outcome[ScoringTask, Scored]]:
        return self._pool.run(tasks)

    def slots(self) -> int:
        return self._pool.slots()

    def start(self, task: ScoringTask) -> None:
        self._pool.start(task)

    def finished(self) -> Sequence[Outcome[ScoringTask, Scored]]:
        return self._pool.finished()

    def close(self) -> None:
        """Leaves them running."""


class Bench:
    """One trained supernet with what its searches share: scoring processes and measured scores.

    Args:
        workers: scoring processes; None: one a core; 0: none, but this process.
    """

    def __init__(self, job: SearchJob, work: Path, runs: Path, workers: int | None) -> None:
        self.runs = RunsFolder(runs)
        self.built_job = build_job(ResolvedJob(job, self.runs, source="benchmark"))
        if self.built_job.checkpoint is None:
            raise SystemExit("give a trained supernet with --from")
        self.checkpoint, self.work = self.built_job.checkpoint, work
        self.scored, self.timed = self.built_job.job.objectives[:2]
        self.served = served_by(self.timed.metric, in_place=writes_cache_in_place(self.built_job.job.profiles[0]))
        self.scores = SqlStore.open(work / "accuracies.db", create=True, driver=True)
        supernet, data = self.checkpoint.supernet, self.built_job.data
        parts, task = (data.calibration, data.dataset.validation), data.task
        scoring = InlineScoring(supernet, *parts, task)
        self.pool: Scoring = scoring if workers == 0 else RayPool(scoring, workers=workers)
        self.test = InlineScoring(supernet, data.calibration, data.dataset.test, task)

    def search(self, job: SearchJob, algorithm: str, seed: int) -> list[Evaluation]:
        """One search, continued if it was interrupted."""
        chosen: SearchAlgorithm
        if algorithm == "uniform scaling":
            space = self.built_job.family.space
            levels = joint_levels(space.levels.tolist())
            chosen = UniformScaling(list(dict.fromkeys(map(space.canonical, levels))))
        else:
            own = job.search.model_copy(update={"algorithm": algorithm})
            seeded = build_job(
                ResolvedJob(job.model_copy(update={"seed": seed, "search": own}), self.runs, source="benchmark")
            )
            chosen = build_algorithm(seeded, self.checkpoint.supernet)
        built_job, weights = self.built_job, self.checkpoint.weights_digest
        measured = build_evaluator(
            built_job, self.checkpoint.supernet, weights, built_job.data.dataset.validation, Shared(self.pool),
            seed=seed, on_wait=print, environments=Environments(),
        )  # fmt: skip
        store = SqlStore.open(self.work / f"{algorithm.replace(' ', '-')}-{seed}.db", create=True, driver=True)
        with closing(store), closing(measured):
            return search(
                built_job.family.space,
                built_job.job.objectives,
                chosen,
                CachedEvaluator(measured, self._known_scores, keep=self._keep_score),
                store,
                Budget(job.search.evaluations),
                batch=job.search.batch,
            )

    def _known_scores(self, requests: Sequence[Request]) -> dict[Request, list[Measurement]]:
        return self.scores.attempts([r for r in requests if r.metric == self.scored.name])

    def _keep_score(self, *measurements: Measurement) -> None:
        self.scores.add(*(m for m in measurements if m.request.metric == self.scored.name and m.status is Status.OK))

    def measure_finalists(
        self, architectures: Sequence[Architecture], seed: int
    ) -> dict[Architecture, tuple[float, float]]:
        """The score on the test part, and the time by the longer protocol, all in the same rounds."""
        found = self.measure([(self.test, a) for a in architectures], seed)
        return {a: (score.value, time) for a, (score, time) in zip(architectures, found, strict=True)}

    def measure(
        self, networks: Sequence[tuple[InlineScoring, Architecture]], seed: int
    ) -> list[tuple[ExampleScores, float]]:
        """What `measure_finalists` returns of networks, each with the scoring of its own supernet."""
        profile, name, whole = self.built_job.job.profiles[0], self.scored.name, not self.served
        served = (self.served,) if self.served else ()
        profiler, examples = open_profiler(profile, seed=seed), self.built_job.data.timed_batches(profile)
        context = 1 if self.built_job.serving is None else self.built_job.serving.context_tokens
        scores, times = list[ExampleScores](), []

        def deployment(scoring: InlineScoring, a: Architecture) -> Deployment:
            scored = scoring.score_one(ScoringTask(a, Variant(), (name,), model=whole, served=served))
            if scored.failure:
                raise SystemExit(scored.failure)
            scores.append(scored.scores[name])
            return deployment_of(scored, self.served, examples, context_tokens=context)

        made = (deployment(*network) for network in networks)  # one by one: those of language models may be large
        for latency in profiler.measure(made, longer=True):
            if isinstance(latency, LatencyFailure):
                raise SystemExit(latency.message)
            times.append(latency.latency_ms)
        profiler.close()
        return list(zip(scores, times, strict=True))


def compare_seed(bench: Bench, job: SearchJob, seed: int) -> dict[str, Any]:
    """All three algorithms of one seed, re-measured together."""
    space, objectives = bench.built_job.family.space, bench.built_job.job.objectives
    ends = [space.smallest, space.largest]
    searched = {name: bench.search(job, name, seed) for name in ALGORITHMS}
    chosen = {name: choose_finalists(evaluations, objectives, ends) for name, evaluations in searched.items()}
    validation = {e.architecture: e.value(bench.scored) for found in searched.values() for e in found if not e.failed}
    evaluations = {name: len(found) for name, found in searched.items()}
    return {"seed": seed, "evaluations": evaluations, **remeasured(bench, chosen, validation, seed)}


def remeasured(
    bench: Bench, chosen: Mapping[str, Sequence[Architecture]], validation: Mapping[Architecture, float], seed: int
) -> dict[str, Any]:
    """The fronts of several algorithms and their hypervolumes, from measurements in the same rounds.

    Args:
        chosen: the finalists of each algorithm.
        validation: the score of each of these on the validation part.
    """
    space = bench.built_job.family.space
    union = list(dict.fromkeys([space.smallest, space.largest, *(a for found in chosen.values() for a in found)]))
    again = bench.measure_finalists(union, seed)
    sign, row = 1.0 if bench.scored.goal is Goal.MINIMIZE else -1.0, dict[str, Any]()
    for label, scores in (("validation", validation), ("test", {a: values[0] for a, values in again.items()})):
        points = {a: np.array([sign * scores[a], again[a][1]]) for a in union}
        reference = reference_point(np.stack([points[space.smallest], points[space.largest]]))
        ideal: NDArray[np.float64] = np.min(list(points.values()), axis=0)
        box = float(np.prod(reference - ideal))
        row[label] = {
            name: hypervolume(np.array([points[a] for a in found]), reference) / box for name, found in chosen.items()
        }
        row[f"{label} front"] = {name: _front([points[a] for a in found], sign) for name, found in chosen.items()}
    return row


def _front(points: Sequence[NDArray[np.float64]], sign: float) -> list[tuple[float, float]]:
    """The score and time of each network that no other one of these beats, fastest first."""
    values = np.array(points)
    front = values[non_dominated(values)]
    return [(sign * float(score), float(time)) for score, time in front[np.argsort(front[:, 1])]]


def searching(job: SearchJob, from_: str, evaluations: int) -> SearchJob:
    """The job with a trained supernet and a budget."""
    supernet = job.supernet.model_copy(update={"from_": from_})
    budget = job.search.model_copy(update={"evaluations": evaluations})
    return job.model_copy(update={"supernet": supernet, "search": budget})


def compare(
    job: SearchJob, from_: str, *, work: Path, runs: Path, seeds: int, evaluations: int, workers: int | None
) -> Iterator[dict[str, Any]]:
    """The comparison of each seed, from the folder `work` where it is kept."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    job = searching(job, from_, evaluations)
    if workers != 0:
        start_ray()
    bench = None
    for seed in range(1, seeds + 1):
        kept = work / f"seed-{seed}-{evaluations}.json"
        if not kept.exists():
            bench = bench or Bench(job, work, runs, workers)
            kept.write_text(json.dumps(compare_seed(bench, job, seed)))
        yield json.loads(kept.read_text())
    if workers != 0:
        stop_ray()


def main(
    job: Path,
    from_: Annotated[str, typer.Option("--from", help="A trained supernet: a run, or a checkpoint's path.")],
    workers: Annotated[int | None, typer.Option(help="Scoring processes; one a core by default; 0: this one.")] = None,
    seeds: int = 5,
    evaluations: int = 100,
    work: Path = Path("runs/search-on-supernet"),
    runs: Path = Path("runs"),
) -> None:
    """Prints one row per seed, and how often each algorithm was ahead."""
    made = compare(load_job(job), from_, work=work, runs=runs, seeds=seeds, evaluations=evaluations, workers=workers)
    print_comparison(made)


def print_comparison(rows: Iterator[dict[str, Any]]) -> None:
    """Prints each row as soon as it is there, then a summary."""
    done = []
    for row in rows:
        _print_row(row)
        done.append(row)
    for part in ("validation", "test"):
        first, *others = done[0][part]
        ahead = sum(all(row[part][first] > row[part][other] for other in others) for row in done)
        means = ", ".join(f"{name} {np.mean([row[part][name] for row in done]):.4f}" for name in (first, *others))
        print(f"{part} score, mean share: {means}; {first} ahead of all others in {ahead} of {len(done)} seeds")


def _print_row(row: dict[str, Any]) -> None:
    for part in ("validation", "test"):
        shares = ", ".join(
            f"{name} {share:.4f} ({row['evaluations'][name]} evaluations)" for name, share in row[part].items()
        )
        print(f"seed {row['seed']}, {part} score and re-measured time: {shares}", flush=True)
        for name, front in row.get(f"{part} front", {}).items():
            listed = ", ".join(f"{score:.4g} at {time:.4g} ms" for score, time in front)
            print(f"  {name}, {len(front)} networks over a factor of {front[-1][1] / front[0][1]:.1f}: {listed}")


if __name__ == "__main__":
    typer.run(main)
