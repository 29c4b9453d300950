"""Consistency of routing against the hit rate of a cache, and searches with and without it as an objective.

    python -m tests.benchmarks.routing_consistency TEXT RESULTS.jsonl [--seeds 3] [--evaluations 40] [--epochs N]

TEXT is tiny Shakespeare: input.txt of karpathy/char-rnn, or that file compressed by gzip (1.1 MB). A second call continues the
first, and `--table` only prints the results.

Method. The supernet of the recipe `shakespeare-experts` is trained once. Routings are those of the first 16,384 tokens of the
validation part; the cache holds 4 experts of each layer and replaces the least recently used.

- *Correlation*: over the layers of 40 random networks whose layers all keep 8 experts, of which a token asks 2: Spearman's
  rank correlation of the cache's hit rate with the segment routing best performance (SRP) and the segment cache best hit rate
  (SCH), segments of 16 tokens.
- *Search*: guided search with as many evaluations, of the objectives perplexity and MACs, and of perplexity, MACs and SCH
  (`segment_cache_hit_rate`). For each limit on the perplexity, relative to the best of both searches, the best hit rate of the
  cache among the networks that a search evaluated within it. A network of 4 experts a layer or fewer has all in the cache.

Baseline: the search without SCH.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import typer
import yaml
from scipy.stats import spearmanr
from torch import Tensor

from nas.config import parse_job
from nas.engine.driver import resume, search
from nas.engine.run import Run
from nas.engine.run_options import RunOptions
from nas.store.folder import RunsFolder
from supernets.base import Supernet
from supernets.experts.expert_cache import simulate_cache
from supernets.experts.routing_metrics import SEGMENT, ExpertCache, observed_routings, routing_metric
from supernets.experts.routing_statistics import segment_routing
from supernets.space import Architecture
from tests.benchmarks.decoder_oneshot import Row, add, read
from tests.benchmarks.shakespeare_experts import RECIPE, Epochs, Show, print_results, recipe_job, trained

RUN = f"{RECIPE}-1"
CACHE, EXPERTS, ACTIVE, NETWORKS, TOKENS = 4, 8, 2, 40, 2**14
LIMITS = (1.0, 1.02, 1.05, 1.1)
OBJECTIVES = {
    "without": ["perplexity", "macs"],
    "with SCH": ["perplexity", "macs", "segment_cache_hit_rate"],
}


def equal_experts(supernet: Supernet, rng: np.random.Generator) -> Architecture:
    """A random network whose layers keep `EXPERTS` experts, of which a token asks `ACTIVE`."""
    fixed = {"experts": EXPERTS, "active_experts": ACTIVE}
    genes = []
    for choice in supernet.space.choices:
        value = fixed.get(choice.name.rpartition(".")[2])
        n = len(choice.options)
        genes.append(int(rng.integers(n)) if value is None else choice.options.index(value))
    return supernet.space.canonical(genes)


def correlate(supernet: Supernet, texts: Tensor) -> Row:
    """Rank correlations over layers of random networks."""
    rng, rows = np.random.default_rng(0), []
    for architecture in {equal_experts(supernet, rng) for _ in range(NETWORKS)}:
        for layer in observed_routings(supernet.extract(architecture), texts):
            used, oracle = (
                simulate_cache(layer.routing, EXPERTS, CACHE, look_ahead=ahead).hit_rate for ahead in (0, SEGMENT)
            )
            rows.append((used, segment_routing(layer.routing, EXPERTS, SEGMENT).performance, oracle))
    hits, srp, sch = np.array(rows).T
    found = {"srp": float(spearmanr(hits, srp).statistic), "sch": float(spearmanr(hits, sch).statistic)}
    return {"kind": "correlation", "layers": len(rows), "hit_rates": [hits.min(), hits.max()], **found}


def searched(text: Path, work: Path, options: RunOptions, name: str, *, evaluations: int, seed: int) -> Run:
    """The run of a search, from the folder if it is done."""
    own = f"{name.split()[0]}-{seed}-{evaluations}"
    if not (work / "runs" / f"{own}-1").exists():
        job = recipe_job(text, work, name=own, seed=seed, supernet={"from": RUN}, objectives=OBJECTIVES[name])
        job["serving"], job["search"] = {"expert_cache": CACHE}, {**job["search"], "evaluations": evaluations}
        del job["training"]
        return search(parse_job(yaml.safe_dump(job), source=own), options)
    run = Run.open(options.runs, f"{own}-1")
    return run if run.report.status == "finished" else resume(run.id, options)


def compare(supernet: Supernet, texts: Tensor, runs: dict[str, Run], seed: int) -> Row:
    """The best hit rate of each search within limits on the perplexity."""
    found = {name: list(run.report.evaluated) for name, run in runs.items()}
    best = min(point.values["perplexity"] for points in found.values() for point in points)
    rates: dict[str, list[float]] = {}
    for name, points in found.items():
        near = [point for point in points if point.values["perplexity"] <= LIMITS[-1] * best]
        hits = [
            float(routing_metric("cache_hit_rate", layers, ExpertCache(CACHE), texts=len(texts)).mean())
            for layers in (observed_routings(supernet.extract(point.architecture), texts) for point in near)
        ]
        rates[name] = [
            max(
                (hit for hit, point in zip(hits, near, strict=True) if point.values["perplexity"] <= limit * best),
                default=0.0,
            )
            for limit in LIMITS
        ]
    return {"kind": "search", "seed": seed, "best_perplexity": best, "hit_rates": rates}


def table(results: Path) -> str:
    rows = read(results)
    lines = [
        f"correlation over {row['layers']} layers, hit rates {row['hit_rates'][0]:.2f} to {row['hit_rates'][1]:.2f}: "
        f"SRP {row['srp']:.2f}, SCH {row['sch']:.2f}"
        for row in rows
        if row["kind"] == "correlation"
    ]
    heads = " | ".join(f"≤ {limit:.0%} of the best perplexity" for limit in LIMITS)
    lines += ["", f"| seed | search | {heads} |", "|---" * (len(LIMITS) + 2) + "|"]
    for row in rows:
        for name, rates in row["hit_rates"].items() if row["kind"] == "search" else ():
            lines.append(f"| {row['seed']} | {name} | " + " | ".join(f"{rate:.1%}" for rate in rates) + " |")
    return "\n".join(lines)


def main(
    text: Path,
    results: Path,
    seeds: int = 3,
    evaluations: int = 40,
    epochs: Epochs = None,
    work: Path = Path("runs/routing-consistency"),
    show: Show = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    if not show:
        options = RunOptions(RunsFolder(work / "runs"), inline=True)
        own = trained(recipe_job(text, work, epochs=epochs), options)
        supernet, ids = own.checkpoint.supernet.eval(), own.data.dataset.validation.inputs
        texts, done = ids[: TOKENS // ids.shape[1]], read(results)
        if not any(row["kind"] == "correlation" for row in done):
            add(results, correlate(supernet, texts))
        for seed in range(1, seeds + 1):
            if not any(row.get("seed") == seed for row in done):
                runs = {
                    name: searched(text, work, options, name, evaluations=evaluations, seed=seed) for name in OBJECTIVES
                }
                add(results, compare(supernet, texts, runs, seed))
    print_results(__doc__, table, results)


if __name__ == "__main__":
    typer.run(main)
