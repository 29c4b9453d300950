"""Cascades of two networks against single networks of the same front, at equal mean latency.

    python -m tests.benchmarks.cascade JOB RESULTS.jsonl [--seeds 5] [--evaluations N] [--epochs N] [--profile NAME]

JOB is a recipe of classification (digits-cnn, fashion-mnist-cnn) or a job file. A second call continues the first; `--table`
only prints the results.

Method. For each seed, the supernet is trained and searched. There are five limits on the mean latency, at equal ratios from the
fastest member of the front to the most accurate one. Within each, the row of `nas cascade` that is the most accurate on the
validation part is chosen, and then scored on the test part. As a check of the computed means, the conditional graph of the last
choice and its two networks are timed in one session, on one thread and the same 60 validation examples.

Baseline: the most accurate single network of the front within the limit, chosen on the validation part too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from hardware_profiles import load_profile
from hardware_profiles.base import Deployment, LatencyMeasurement
from hardware_profiles.profiler_factory import open_profiler
from hardware_profiles.runtime import run_calls
from nas.engine.store.folder import RunsFolder
from nas.jobs.recipes import read_recipe
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.results.export.cascade import Cascades
from nas.runs.driver import resume
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.data import by_length, head
from supernets.networks.module_to_onnx import INPUT
from tests.benchmarks.json_lines import Row, append_row, read_rows
from tests.benchmarks.markdown import table_head, table_row

LIMITS, TIMED, PROFILE = 5, 60, "cpu-1-thread"


def searched(job: dict[str, Any], options: RunOptions) -> Run:
    """The finished run of a job, from the folder if it is done."""
    run = f"{job['name']}-1"
    if not (options.runs.root / run).exists():
        return search(parse_job(yaml.safe_dump(job), source=run), options)
    found = Run.open(options.runs, run)
    return found if found.report.status == "finished" else resume(run, options)


def job_of(source: str, seed: int, evaluations: int | None, epochs: int | None, profile: str | None) -> dict[str, Any]:
    """The job of a seed."""
    path = Path(source)
    job: dict[str, Any] = yaml.safe_load(path.read_text() if path.suffix in (".yaml", ".yml") else read_recipe(source))
    if path.suffix and (data := job["data"].get("path")):
        job["data"]["path"] = str((path.parent / data).absolute())
    job |= {"name": f"{job['name']}-{seed}", "seed": seed}
    job["search"] |= {} if evaluations is None else {"evaluations": evaluations}
    job["training"] |= {} if epochs is None else {"epochs": epochs}
    return job | ({} if profile is None else {"hardware": [profile]})


def compared(run: Run, seed: int) -> Iterator[Row]:
    """A row for each limit: the best cascade or network within it, and the best single network.

    Where the front is one network, the fastest is the most accurate one, and a row says so.
    """
    if len(run.front) == 1:
        yield {"seed": seed, "alone": run.front[0].test}
        return
    cascades = run.cascades()
    table, front = cascades.table, run.front
    members = table.members
    best, last = max(members, key=lambda member: float(member.right.mean())), None
    for i, limit in enumerate(np.geomspace(members[0].latency_ms, best.latency_ms, LIMITS).tolist()):
        within = [(n, row.cascade) for n, row in enumerate(table.rows) if row.cascade.mean_ms <= limit * (1 + 1e-9)]
        number, chosen = max(within, key=lambda pair: pair[1].accuracy)
        single = max((c for _, c in within if c.large is None), key=lambda c: c.accuracy)
        tested = front[single.small].test or {}
        test = cascades.tested(number)["cascade"] if chosen.large is not None else {"accuracy": tested["accuracy"]}
        yield {
            "seed": seed, "limit": i, "limit_ms": limit, "pair": [chosen.small, chosen.large], "share": chosen.share,
            "mean_ms": chosen.mean_ms, "worst_ms": chosen.worst_ms, "p99_ms": chosen.p99_ms,
            "validation": chosen.accuracy, "test": test["accuracy"],
            "single_ms": single.mean_ms, "single_p99_ms": single.p99_ms,
            "single_validation": single.accuracy, "single_test": tested["accuracy"],
        }  # fmt: skip
        last = number if chosen.large is not None else last
    if last is not None:
        yield {"seed": seed, "timed": timed(cascades, last, run)}


def timed(cascades: Cascades, number: int, run: Run) -> dict[str, float]:
    """Latencies of the conditional graph and of its networks, on the same examples in one session."""
    inputs = [own.numpy() for _, own in by_length(head(run.examples().validation, TIMED), 1)]
    with tempfile.TemporaryDirectory() as folder:
        made = cascades.export(number, Path(folder))
        paths = {"graph": made["graph"], **{name: made[name]["path"] for name in ("small", "large")}}
        models = {name: Path(path).read_bytes() for name, path in paths.items()}
    shares = passed(models["graph"], inputs)
    deployments = [Deployment.single(model, *({INPUT: own} for own in inputs)) for model in models.values()]
    with open_profiler(load_profile(PROFILE)) as profiler:
        found = list(profiler.measure(deployments, longer=True))
    values = {
        name: one.latency_ms for name, one in zip(models, found, strict=True) if isinstance(one, LatencyMeasurement)
    }
    return values | {"share": shares, "computed": values["small"] + shares * values["large"]}


def passed(graph: bytes, inputs: list[Any]) -> float:
    """The share of inputs that a conditional graph passes on."""
    return float(np.mean([flag for _, flag in run_calls(graph, ({INPUT: own} for own in inputs))]))


def table_of(rows: list[Row]) -> Iterator[str]:
    """The lines of the results: means over seeds, with the standard error of the difference."""
    names = ("limit", "mean, worst, p99 (ms)", "passed on", "test accuracy", "single: p99 (ms)", "test accuracy")
    yield table_head(*names, "difference")
    for i in sorted({row["limit"] for row in rows if "limit" in row}):
        own = [row for row in rows if row.get("limit") == i]

        def mean(name: str, scale: float = 1.0, own: list[Row] = own) -> float:
            values = [row[name] for row in own if row[name] is not None]
            return scale * float(np.mean(values)) if values else float("nan")

        away = np.array([100 * (row["test"] - row["single_test"]) for row in own])
        error = away.std(ddof=1) / np.sqrt(len(away)) if len(away) > 1 else float("nan")
        times = ", ".join(f"{mean(name):.3f}" for name in ("mean_ms", "worst_ms", "p99_ms"))
        chosen = (f"{mean('limit_ms'):.3f} ms", times, f"{mean('share', 100):.0f} %", f"{mean('test', 100):.2f} %")
        single = (f"{mean('single_p99_ms'):.3f}", f"{mean('single_test', 100):.2f} %")
        yield table_row(*chosen, *single, f"{away.mean():+.2f} ± {error:.2f}")
    for row in rows:
        if "alone" in row:
            yield f"seed {row['seed']}: one network is the fastest and the most accurate one"
        if "timed" in row:
            one = row["timed"]
            took = f"took {one['graph']:.4f} ms on average, computed {one['computed']:.4f} ms"
            yield f"seed {row['seed']}: the conditional graph {took} ({one['share']:.0%} passed on)"


def main(
    job: str,
    results: Path,
    seeds: int = 5,
    evaluations: int | None = None,
    epochs: int | None = None,
    profile: str | None = None,
    table: Annotated[bool, typer.Option("--table")] = False,
) -> None:
    """Searches, compares and prints."""
    options = RunOptions(RunsFolder(results.absolute().parent / f"{results.stem}-runs"), inline=True)
    for seed in range(0 if table else seeds):
        if any(
            row["seed"] == seed and ("alone" in row or row.get("limit") == LIMITS - 1) for row in read_rows(results)
        ):
            continue
        run = searched(job_of(job, seed, evaluations, epochs, profile), options)
        for row in list(compared(run, seed)):
            append_row(results, row)
            print(row, flush=True)
    print("\n".join(table_of(read_rows(results))))


if __name__ == "__main__":
    typer.run(main)
