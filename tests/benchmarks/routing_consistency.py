"""Consistency of routing against the hit rate of a cache, and searches with and without it as an objective.

    python -m tests.benchmarks.routing_consistency TEXT RESULTS.jsonl [--seeds 3] [--evaluations 96] [--epochs 8]

TEXT is tiny Shakespeare: input.txt of karpathy/char-rnn, or that file compressed by gzip (1.1 MB). A second call continues the
first, and `--table` only prints the results.

Method. The supernet of `tests.benchmarks.experts_front` is trained once, with the same folder --work for both. Routings are
those of the first 16,384 tokens of a part; the cache replaces the least recently used expert.

- *Correlation*: over the layers of 33 random networks whose layers all keep 8 experts, of which a token asks 2, with a cache
  of 4, on the validation part: Spearman's rank correlation of the cache's hit rate with the segment routing best performance
  (SRP) and the segment cache best hit rate (SCH), segments of 16 tokens. The networks have weights in common: their layers
  are no independent sample.
- *Search*: guided search with as many evaluations, of the objectives perplexity and MACs, and of perplexity, MACs and SCH
  (`segment_cache_hit_rate`), on the validation part, with a cache of 2 experts of each layer. For each limit on the
  perplexity there, relative to the best of both searches, the network of the highest hit rate there is taken of each, and its
  hit rate and perplexity on the test part, which no search sees, are shown. Networks that keep 2 experts in all layers have
  all in the cache.

Baseline: the search without SCH.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import typer
import yaml
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.job_data import JobData
from nas.jobs.build.prepared_job import TrainedRun
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import resume, search
from nas.runs.run import Run
from nas.search.problem.example_scores import standard_error
from supernets.data import Part
from supernets.experts.expert_cache import simulate_cache
from supernets.experts.routing_metrics import SEGMENT, ExpertCache, observed_routings, routing_metric
from supernets.experts.routing_statistics import segment_routing
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.trainer import score_and_loss
from tests.benchmarks.decoder_oneshot import Row, add, read
from tests.benchmarks.shakespeare_experts import RUN, Epochs, Show, elastic_job, print_results, recipe_job, trained

CACHE, SEARCH_CACHE, EXPERTS, ACTIVE, NETWORKS, TOKENS = 4, 2, 8, 2, 40, 2**14
LIMITS = (1.01, 1.02, 1.05, 1.1)
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
    return {"kind": "correlation", "layers": len(rows), "hit_rates": [float(hits.min()), float(hits.max())], **found}


def searched(text: Path, work: Path, options: RunOptions, name: str, *, evaluations: int, seed: int) -> Run:
    """The run of a search, from the folder if it is done."""
    own = f"{name.split()[0]}-{seed}-{evaluations}"
    if not (work / "runs" / f"{own}-1").exists():
        job = recipe_job(text, work, name=own, seed=seed, supernet={"from": RUN}, objectives=OBJECTIVES[name])
        job["serving"], job["search"] = {"expert_cache": SEARCH_CACHE}, {**job["search"], "evaluations": evaluations}
        del job["training"]
        return search(parse_job(yaml.safe_dump(job), source=own), options)
    run = Run.open(options.runs, f"{own}-1")
    return run if run.report.status == "finished" else resume(run.id, options)


def hit_rates(network: nn.Module, part: Part) -> NDArray[np.float64]:
    """The cache's hit rate on the first texts of a part, by text; the mean is the rate."""
    texts = part.inputs[: TOKENS // part.inputs.shape[1]]
    layers = observed_routings(network, texts)
    return routing_metric("cache_hit_rate", layers, ExpertCache(SEARCH_CACHE), texts=len(texts))


def tested(network: nn.Module, data: JobData) -> Row:
    """The cache's hit rate and the perplexity of a network on the test part."""
    by_text = hit_rates(network, data.dataset.test)
    perplexity, _ = score_and_loss(network, data.dataset.test, data.task)
    return {"hit_rate": float(by_text.mean()), "error": standard_error(by_text), "perplexity": perplexity}


def compare(own: TrainedRun, runs: dict[str, Run], seed: int) -> Row:
    """The network of each search with the highest hit rate within each limit on the perplexity, on the test part."""
    supernet = own.checkpoint.supernet
    found = {name: list(run.report.evaluated) for name, run in runs.items()}
    best = min(point.values["perplexity"] for points in found.values() for point in points)
    chosen: dict[str, list[Architecture | None]] = {}
    for name, points in found.items():
        shares = {point.architecture: point.values["perplexity"] / best for point in points}
        rates = {
            network: float(hit_rates(supernet.extract(network), own.data.dataset.validation).mean())
            for network, share in shares.items()
            if share <= LIMITS[-1]
        }
        near = [[network for network in rates if shares[network] <= limit] for limit in LIMITS]
        chosen[name] = [max(networks, key=rates.__getitem__, default=None) for networks in near]
    again = {
        network: tested(supernet.extract(network), own.data)
        for taken in chosen.values()
        for network in taken
        if network
    }
    rows = {name: [again[network] if network else None for network in taken] for name, taken in chosen.items()}
    return {"kind": "search", "seed": seed, "best_perplexity": best, "chosen": rows}


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
        for name, chosen in row["chosen"].items() if row["kind"] == "search" else ():
            lines.append(f"| {row['seed']} | {name} | " + " | ".join(map(_cell, chosen)) + " |")
    return "\n".join(lines)


def _cell(found: Row | None) -> str:
    if found is None:
        return "none"
    return f"{found['hit_rate']:.1%} ± {found['error']:.1%}, perplexity {found['perplexity']:.1f}"


def main(
    text: Path,
    results: Path,
    seeds: int = 3,
    evaluations: int = 96,
    epochs: Epochs = None,
    work: Path = Path("runs/elastic-experts"),
    show: Show = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    if not show:
        options = RunOptions(RunsFolder(work / "runs"), inline=True)
        own, done = trained(elastic_job(text, work, epochs=epochs), options), read(results)
        ids = own.data.dataset.validation.inputs
        if not any(row["kind"] == "correlation" for row in done):
            add(results, correlate(own.checkpoint.supernet.eval(), ids[: TOKENS // ids.shape[1]]))
        for seed in range(1, seeds + 1):
            if not any(row.get("seed") == seed for row in done):
                runs = {
                    name: searched(text, work, options, name, evaluations=evaluations, seed=seed) for name in OBJECTIVES
                }
                add(results, compare(own, runs, seed))
    print_results(__doc__, table, results)


if __name__ == "__main__":
    typer.run(main)
