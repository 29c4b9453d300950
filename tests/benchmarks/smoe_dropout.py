"""SMoE-Dropout against learned routing with one number of active experts: quality with 1 to all experts active.

    python -m tests.benchmarks.smoe_dropout TEXT RESULTS.jsonl [--subjectivity FILE] [--seeds 3] [--epochs 4]

TEXT is tiny Shakespeare: input.txt of karpathy/char-rnn, or that file compressed by gzip (1.1 MB); FILE is the archive of the
subjectivity data set (10,000 sentences), without which only the first task runs. A second call continues the first, cell by
cell, and `--table` only prints the results.

Method. Networks of 2 layers of 128 channels, with 15 experts of 32 channels in place of each MLP, are trained from nothing: a
decoder on blocks of 128 tokens (perplexity), and an encoder of sentences (accuracy).

- *SMoE-Dropout*: random routers that are never trained, and a number of active experts that grows linearly from 1 to 15, by the
  numbers 1, 2, 4, 8 and 15 (`strategy: smoe-dropout`).
- *learned, 8 active*: the baseline, routers that are learned with 8 active experts in all steps, by the default balance
  and z losses, too (`strategy: largest`).

Both train for as many steps on the same blocks. The mean number of active experts of the first over its steps is
(1 + 15) / 2 = 8, so that both train with as many multiply-accumulates; the table has the mean of each. Each trained network is
then scored with 1, 2, 4, 8 and 15 experts active in every layer, by what `nas plot RUN --experts` draws: on the first 1,024
examples of the validation part, which selects nothing, in torch and single precision. *Rank correlation* is Spearman's of
quality with the number of active experts: 1 where each larger number is better.

Departures from the paper (Chen et al. 2023, arXiv 2303.01610): small networks, a short training (4 epochs of the text, 6 of the
sentences), and a number that begins with 1 in place of half of the experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml
from scipy.stats import spearmanr

from nas.engine.store.folder import RunsFolder
from nas.jobs.recipes import read_recipe
from nas.jobs.run.run_options import RunOptions
from nas.results.export.cost_selection import costs_of
from nas.results.export.expert_usage import expert_quality
from nas.search.problem.objectives import Goal
from supernets.sharing.base import Supernet
from supernets.training.strategies.smoe_dropout import SMoEDropoutStrategy
from tests.benchmarks.decoder_oneshot import Row, add, read
from tests.benchmarks.shakespeare_experts import Epochs, Show, print_results, recipe_job, trained

TEXT, SENTENCES = "tiny Shakespeare", "subjectivity"
GROWN, LEARNED = "SMoE-Dropout", "learned, 8 active"
EXPERTS, ACTIVE, FIXED = 15, [1, 2, 4, 8, 15], 8
SIZES = {"head_size": 32, "depth": [2], "width": [128], "heads": [4], "hidden": [32], "experts": [EXPERTS]}
METHODS: Mapping[str, tuple[dict[str, Any], str]] = {
    GROWN: ({"active_experts": ACTIVE, "routers": "random"}, "smoe-dropout"),
    LEARNED: ({"active_experts": [FIXED], "hidden": [16, 32]}, "largest"),  # a space has two networks at least
}
"""Keys of the space, and the strategy, which trains networks of 32 hidden channels."""
EPOCHS = {TEXT: 4, SENTENCES: 6}
"""So that a seed takes at most eight minutes on one core."""


def job_of(task: str, source: Path, work: Path, *, method: str, seed: int, epochs: int) -> dict[str, Any]:
    """The job that trains a network."""
    space, strategy = METHODS[method]
    name = f"{task.split()[-1]}-{strategy}-{seed}-{epochs}".lower()
    if task == TEXT:
        job = recipe_job(source, work, name=name, seed=seed)
    else:
        job = yaml.safe_load(read_recipe("own-sentences"))
        job.pop("hardware")
        job |= {"name": name, "seed": seed, "objectives": ["accuracy", "macs"]}
        job["data"] |= {"path": str(source.absolute()), "max_tokens": 32}
    job["supernet"] = {"family": "decoder" if task == TEXT else "encoder", "space": {**SIZES, **space}}
    kept = {key: job["training"][key] for key in ("batch_size", "learning_rate", "weight_decay")}
    job["training"] = {**kept, "strategy": strategy, "epochs": epochs, "threads": 1}
    return job


def mean_macs(supernet: Supernet, method: str) -> float:
    """Multiply-accumulates of an example, the mean over the steps of the training."""
    space = supernet.space
    steps = [space.largest]
    if method == GROWN:
        strategy = SMoEDropoutStrategy(space)
        steps = [strategy.at(float(progress)).grown for progress in np.linspace(0, 1, 1001)]
    known = {network: costs["macs"] for network, costs in costs_of(supernet, list(dict.fromkeys(steps)))}
    return float(np.mean([known[network] for network in steps]))


def run_cell(task: str, source: Path, work: Path, *, method: str, seed: int, epochs: int) -> Row:
    """Trains a network, unless it is in the folder, and scores it with all numbers of active experts."""
    options = RunOptions(RunsFolder(work / "runs"))
    job = job_of(task, source, work, method=method, seed=seed, epochs=epochs)
    supernet = trained(job, options).checkpoint.supernet
    found = expert_quality(options.runs, f"{job['name']}-1")
    sign = 1 if found.metric.goal is Goal.MAXIMIZE else -1
    return {
        "task": task, "seed": seed, "method": method, "epochs": epochs, "macs": mean_macs(supernet, method),
        "metric": found.metric.name, "examples": found.examples, "active": found.active,
        "scores": found.values, "errors": found.errors,
        "spearman": float(spearmanr(found.active, sign * np.array(found.values)).statistic),
    }  # fmt: skip


def table(results: Path) -> str:
    """Quality by the number of active experts, and its rank correlation with it, by task, method and seed."""
    return "\n".join(_lines(read(results)))


def _lines(rows: list[Row]) -> Iterator[str]:
    for task in dict.fromkeys(row["task"] for row in rows):
        own = sorted((row for row in rows if row["task"] == task), key=lambda row: (row["method"], row["seed"]))
        metric, active = own[0]["metric"], own[0]["active"]
        yield f"\n{task}: {metric} on {own[0]['examples']} examples after {own[0]['epochs']} epochs, by active experts"
        yield f"\n| | seed | {' | '.join(map(str, active))} | rank correlation | MACs of a training example |"
        yield "|---" * (len(active) + 4) + "|"
        for row in own:
            cells = [_cell(metric, *cell) for cell in zip(row["scores"], row["errors"], strict=True)]
            shown = [row["method"], str(row["seed"]), *cells, f"{row['spearman']:.2f}", f"{row['macs'] / 1e6:.2f} M"]
            yield f"| {' | '.join(shown)} |"
        for method in METHODS:
            scores = [row["scores"] for row in own if row["method"] == method]
            if len(scores) > 1:
                cells = [_cell(metric, mean) for mean in np.mean(scores, axis=0)]
                yield f"| {' | '.join([method, 'mean', *cells, '', ''])} |"


def _cell(metric: str, value: float, error: float | None = None) -> str:
    scale, digits = (1, 1) if metric == "perplexity" else (100, 2)
    spread = "" if error is None else f" ± {scale * error:.{digits}f}"
    return f"{scale * value:.{digits}f}{spread}" + ("" if scale == 1 else " %")


def main(
    text: Path,
    results: Path,
    subjectivity: Annotated[Path | None, typer.Option(help="archive of the data set; without it, text alone")] = None,
    seeds: int = 3,
    epochs: Epochs = None,
    work: Path = Path("runs/smoe-dropout"),
    show: Show = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    sources = {TEXT: text} | ({} if subjectivity is None else {SENTENCES: subjectivity})
    done = {(row["task"], row["seed"], row["method"]) for row in read(results)}
    cells = [(task, seed, method) for task in sources for seed in range(1, seeds + 1) for method in METHODS]
    for task, seed, method in () if show else cells:
        if (task, seed, method) not in done:
            n = epochs or EPOCHS[task]
            add(results, run_cell(task, sources[task], work, method=method, seed=seed, epochs=n))
    print_results(__doc__, table, results)


if __name__ == "__main__":
    typer.run(main)
