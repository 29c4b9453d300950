"""A trained decoder continued with experts as copies of its MLPs, of its attention, and of both.

    python -m tests.benchmarks.upcycling TEXT RESULTS.jsonl [--seeds 3] [--epochs 2]

TEXT is tiny Shakespeare: input.txt of karpathy/char-rnn, or that file compressed by gzip (1.1 MB). A second call continues the
first, and `--table` only prints the results.

Method. For each seed, a decoder of 4 layers of 192 channels, with MLPs of 384, is trained for 3 epochs and written as a folder
of the transformers library. Jobs with `pretrained: FOLDER` then train it for --epochs epochs more, all weights, by one recipe
(AdamW, a learning rate of 0.001):

- *dense*: as it is (the baseline), and *dense, twice as long*: with twice as many epochs.
- *MLPs*: 4 copies of each MLP, of which a token has 2 (sparse upcycling).
- *attention*: 2 attention experts in each layer, copies, all active, with the same keys and values (BAM).
- *both*.

All begin with the same function. The perplexity is that of the whole validation part, which selects nothing, in torch and
single precision; its standard error is over documents. Seconds are those of the process, on one thread.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import typer

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.prepared_job import TrainedRun
from nas.jobs.run.run_options import RunOptions
from nas.results.export.cost_selection import costs_of
from nas.results.export.transformers_export import export_transformers
from supernets.families.decoder.network import Decoder
from tests.benchmarks.decoder_oneshot import Row, add, read
from tests.benchmarks.experts_halved import score
from tests.benchmarks.shakespeare_experts import Show, print_results, recipe_job, trained

HIDDEN, FIRST_EPOCHS, RATE = 384, 3, 0.001
_MLPS: Mapping[str, Any] = {"experts": [4], "active_experts": [1, 2], "gates": "softmax"}
METHODS: Mapping[str, tuple[Mapping[str, Any], int]] = {
    "dense": ({}, 1),
    "dense, twice as long": ({}, 2),
    "MLPs": (_MLPS, 1),
    "attention": ({"attention_experts": [1, 2]}, 1),
    "both": ({**_MLPS, "attention_experts": [1, 2]}, 1),
}
"""Keys of the space, and the factor of the number of epochs."""
_SIZES: Mapping[str, Any] = {
    "head_size": 32,
    "depth": [4],
    "width": [192],
    "heads": [6],
    "hidden": [HIDDEN // 2, HIDDEN],
}


def job_of(
    text: Path, work: Path, *, name: str, seed: int, epochs: int, space: Mapping[str, Any], folder: Path | None
) -> dict[str, Any]:
    """A job that trains the largest network of a space, from nothing or from a folder."""
    job = recipe_job(text, work, epochs=epochs, name=name, seed=seed)
    job["supernet"] = {"family": "decoder", "space": {**_SIZES, **space}}
    job["training"] = {key: job["training"][key] for key in ("epochs", "batch_size", "learning_rate", "weight_decay")}
    job["training"] |= {"strategy": "largest", "threads": 1}
    if folder is not None:
        job["supernet"]["pretrained"] = str(folder.absolute())
        job["training"]["learning_rate"] = RATE
        del job["data"]["vocabulary"]
    return job


def dense_folder(text: Path, work: Path, *, seed: int) -> tuple[Path, TrainedRun]:
    """The folder of the trained network, written if it is missing, and its training."""
    options, folder, name = RunOptions(RunsFolder(work / "runs")), work / f"dense-{seed}", f"dense-{seed}"
    job = job_of(text, work, name=name, seed=seed, epochs=FIRST_EPOCHS, space={}, folder=None)
    run = trained(job, options)
    if not (folder / "predict.py").exists():  # which is written last
        shutil.rmtree(folder, ignore_errors=True)
        export_transformers(options.runs, f"{name}-1", folder)
    return folder, run


def row_of(run: TrainedRun, *, seed: int, method: str, epochs: int, seconds: float) -> Row:
    """The perplexity and the costs of the largest network of a training."""
    supernet = run.checkpoint.supernet
    network = cast(Decoder, supernet.extract(supernet.space.largest).eval())
    costs = costs_of(supernet, [supernet.space.largest])[0][1]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    found = {"parameters": parameters, "macs": costs["macs"], "seconds": seconds, **score(network, run)}
    return {"seed": seed, "method": method, "epochs": epochs, **found}


def run_seed(text: Path, work: Path, results: Path, *, seed: int, epochs: int) -> None:
    """Appends the rows of a seed that the results lack."""
    done = {row["method"] for row in read(results) if row["seed"] == seed}
    started = time.process_time()
    folder, first = dense_folder(text, work, seed=seed)
    if "before" not in done:
        seconds = time.process_time() - started
        add(results, row_of(first, seed=seed, method="before", epochs=FIRST_EPOCHS, seconds=seconds))
    for number, (method, (space, times)) in enumerate(METHODS.items()):
        if method not in done:
            started, name = time.process_time(), f"continued-{number}-{seed}"
            job = job_of(text, work, name=name, seed=seed, epochs=times * epochs, space=space, folder=folder)
            run = trained(job, RunOptions(RunsFolder(work / "runs")))
            seconds = time.process_time() - started
            add(results, row_of(run, seed=seed, method=method, epochs=times * epochs, seconds=seconds))


def table(results: Path) -> str:
    """The perplexity of each method by seed, and its costs."""
    rows = read(results)
    seeds = sorted({row["seed"] for row in rows})
    heads = " | ".join(f"seed {seed}" for seed in seeds)
    lines = [f"| | {heads} | parameters | MACs of a block | CPU s |", "|---" * (len(seeds) + 4) + "|"]
    for method in ("before", *METHODS):
        own = {row["seed"]: row for row in rows if row["method"] == method}
        if own:
            cells = [f"{own[n]['perplexity']:.1f} ± {own[n]['error']:.1f}" if n in own else "" for n in seeds]
            parameters, macs, seconds = (
                float(np.mean([row[key] for row in own.values()])) for key in ("parameters", "macs", "seconds")
            )
            cells += [f"{parameters / 1e6:.2f} M", f"{macs / 1e6:.0f} M", f"{seconds:.0f}"]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    text: Path, results: Path, seeds: int = 3, epochs: int = 2, work: Path = Path("runs/upcycling"), show: Show = False
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    for seed in () if show else range(1, seeds + 1):
        run_seed(text, work, results, seed=seed, epochs=epochs)
    print_results(__doc__, table, results)


if __name__ == "__main__":
    typer.run(main)
