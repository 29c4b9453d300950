"""Staged evaluation (`search.screen_images`) against whole evaluations, at equal cost, on a trained supernet.

    python -m tests.benchmarks.staged_evaluation JOB.yaml --from RUN_OR_PATH [--images 1000] [--seeds 3] [--evaluations 100]

Method. `guided` and `nsga2` search the same trained supernet in the engine's loop, with the same numbers of candidates: once
with all metrics of each, and once in stages, which score a candidate on the first --images validation examples, and take the
rest only of those that can still enter the front. *Cost* is the sum of the seconds that scores took (each was taken once for
all searches), and of the mean seconds of timing a network in all searches of the seed, for each that was timed. *Complete*
are candidates with all metrics. *At equal cost*, of the two searches of an algorithm the dearer one ends with the last step
within the cost of the other. All fronts of a seed are then measured together by the longer protocol, in the same shuffled
rounds, and their hypervolume is a share of the box of `tests.benchmarks.search_on_supernet`, by validation score and by test
score.

Resumable: searches and measurements are stored in the folder --work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from nas.build.prepared_job import prepare_job
from nas.build.search_objects import build_algorithm, build_evaluator
from nas.config import SearchJob, load_job
from nas.engine.finalists import choose_finalists
from nas.engine.search_loop import search
from nas.evaluation.cached_evaluator import Cached
from nas.evaluation.environments import Environments
from nas.problem.budget import Budget
from nas.problem.objectives import Evaluation, Status
from nas.store.sql import SqlStore
from tests.benchmarks.search_on_supernet import Bench, Shared, remeasured, searching

ALGORITHMS = ("guided", "nsga2")


@dataclass(frozen=True)
class Search:
    """A search that is done.

    Attributes:
        steps: the evaluations of each ask.
        scoring: seconds of each step's scores, on all examples or a few.
        timed: networks that each step has timed.
        timing: seconds of all timing.
    """

    steps: list[list[Evaluation]]
    scoring: list[float]
    timed: list[int]
    timing: float

    def costs(self, timing: float) -> NDArray[np.float64]:
        """Seconds until the end of each step, if a network is timed in `timing` seconds."""
        return np.cumsum(np.array(self.scoring) + timing * np.array(self.timed))

    def within(self, seconds: float, timing: float) -> list[Evaluation]:
        """The evaluations of the steps within a cost."""
        costs = self.costs(timing)
        return [e for step, cost in zip(self.steps, costs, strict=True) if cost <= seconds + 1e-6 for e in step]


def searched(bench: Bench, job: SearchJob, *, algorithm: str, images: int | None, seed: int) -> Search:
    """One search, continued if it was interrupted."""
    prepared, supernet, own = bench.prepared, bench.checkpoint.supernet, job.search.model_copy
    seeded = job.model_copy(update={"seed": seed, "search": own(update={"algorithm": algorithm})})
    chosen = build_algorithm(prepare_job(seeded, bench.runs, source="benchmark"), supernet)
    measured = build_evaluator(
        prepared, supernet, bench.checkpoint.weights_digest, prepared.data.dataset.validation, Shared(bench.pool),
        screen_images=images, seed=seed, on_wait=print, environments=Environments(),
    )  # fmt: skip
    path = bench.work / f"{algorithm}-{images or 'whole'}-{seed}.db"
    store = SqlStore.open(path, create=True, driver=True)
    with closing(store), closing(measured):
        evaluations = search(
            prepared.supernets.family.space, prepared.job.objectives, chosen,
            Cached(measured, bench._known_scores, keep=bench._keep_score), store, Budget(job.search.evaluations),
            batch=job.search.batch, screen_images=images,
        )  # fmt: skip
        asks, taken = store.asks(), store.measurements()
    by_network = {e.architecture: e for e in evaluations}
    scoring, timed, timing = dict.fromkeys(by_network, 0.0), dict.fromkeys(by_network, 0), 0.0
    for measurement in taken:
        network = measurement.request.architecture
        if measurement.request.metric == bench.scored.name:
            scoring[network] += measurement.seconds
        elif measurement.status is not Status.SKIPPED:
            timed[network] = 1
            timing += measurement.seconds
    steps = [[by_network[a] for a in asked] for asked in asks]
    return Search(
        steps,
        [sum(scoring[a] for a in asked) for asked in asks],
        [sum(timed[a] for a in asked) for asked in asks],
        timing,
    )


def compare_seed(bench: Bench, job: SearchJob, seed: int, images: int) -> dict[str, Any]:
    """The searches of a seed, whole and cut at equal cost, measured again together."""
    space, objectives = bench.prepared.supernets.family.space, bench.prepared.job.objectives
    found: dict[str, list[Evaluation]] = {}
    facts: dict[str, Any] = {}
    searches = {
        (algorithm, n): searched(bench, job, algorithm=algorithm, images=n, seed=seed)
        for algorithm in ALGORITHMS
        for n in (None, images)
    }
    timing = sum(own.timing for own in searches.values()) / sum(sum(own.timed) for own in searches.values())
    for (algorithm, n), own in searches.items():
        name = f"{algorithm}, {'whole' if n is None else 'in stages'}"
        cost = float(own.costs(timing)[-1])
        least = min(float(searches[algorithm, other].costs(timing)[-1]) for other in (None, images))
        ended = own.within(cost, timing)
        found |= {name: ended, f"{name}, at equal cost": own.within(least, timing)}
        whole = sum(not (e.failed or e.screened_out) for e in ended)
        facts[name] = {"seconds": cost, "candidates": len(ended), "complete": whole}
    chosen = {name: choose_finalists(own, objectives, [space.smallest, space.largest]) for name, own in found.items()}
    every = [e for own in found.values() for e in own if not (e.failed or e.screened_out)]
    validation = {e.architecture: e.value(bench.scored) for e in every}
    return {"seed": seed, "images": images, "facts": facts, **remeasured(bench, chosen, validation, seed)}


def lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table, the mean over seeds and the least and the most."""
    yield "| search | candidates | complete | cost, s | validation | test | validation, equal cost | test, equal cost |"
    yield "|---" * 8 + "|"
    for name in rows[0]["facts"]:
        facts = [row["facts"][name] for row in rows]
        cells = [f"{np.mean([own[key] for own in facts]):.0f}" for key in ("candidates", "complete", "seconds")]
        for label in (name, f"{name}, at equal cost"):
            for part in ("validation", "test"):
                values = [row[part][label] for row in rows]
                cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        yield f"| {name} | {' | '.join(cells)} |"


def main(
    job: Path,
    from_: Annotated[str, typer.Option("--from", help="A trained supernet: a run, or a checkpoint's path.")],
    images: int = 1000,
    seeds: int = 3,
    evaluations: int = 100,
    work: Path = Path("runs/staged-evaluation"),
    runs: Path = Path("runs"),
) -> None:
    """Compares seed by seed, then prints the table."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    started, bench, rows = searching(load_job(job), from_, evaluations), None, []
    for seed in range(1, seeds + 1):
        kept = work / f"seed-{seed}-{images}-{evaluations}.json"
        if not kept.exists():
            bench = bench or Bench(started, work, runs, workers=0)
            kept.write_text(json.dumps(compare_seed(bench, started, seed, images)))
        rows.append(json.loads(kept.read_text()))
    print(__doc__)
    print("\n".join(lines(rows)))


if __name__ == "__main__":
    typer.run(main)
