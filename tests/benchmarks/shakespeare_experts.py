"""Supernets of the recipe `shakespeare-experts`, for the benchmarks of layers of experts, and what their commands print."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from nas.engine.store.stored_run import StoredRun
from nas.jobs.build.prepared_job import TrainedRun, load_trained_run
from nas.jobs.recipes import read_recipe
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import resume, train
from supernets.training.checkpoint import has_checkpoint, load_checkpoint

RECIPE, ELASTIC = "shakespeare-experts", "elastic-experts"
RUN = f"{ELASTIC}-1"
SPACE = {
    "head_size": 32, "depth": [4], "width": [192], "heads": [4], "hidden": [64, 96, 128], "experts": [2, 3, 4, 6, 8],
    "active_experts": [1, 2],
}  # fmt: skip
_EPOCHS = 8
Epochs = Annotated[int | None, typer.Option(help="of the training; the recipe's by default")]
Show = Annotated[bool, typer.Option("--table", help="only print the table")]


def recipe_job(text: Path, work: Path, *, epochs: int | None = None, **changes: Any) -> dict[str, Any]:
    """The recipe's job for a text, without timing, with other values of some keys.

    Args:
        text: plain, or compressed by gzip; written to the folder `work`.
    """
    plain = work / "text.txt"
    work.mkdir(parents=True, exist_ok=True)
    if not plain.exists():
        content = text.read_bytes()
        plain.write_bytes(gzip.decompress(content) if text.suffix == ".gz" else content)
    job = yaml.safe_load(read_recipe(RECIPE))
    job.pop("hardware")
    job |= {"data": {**job["data"], "path": str(plain.absolute())}, "objectives": ["perplexity", "macs"], **changes}
    job["training"] |= {} if epochs is None else {"epochs": epochs}
    return dict(job)


def elastic_job(text: Path, work: Path, *, epochs: int | None) -> dict[str, Any]:
    """The job of the run `RUN`: decoders whose layers choose how many experts they keep, how many a token asks, and how wide.

    In the first half of the epochs, the largest network is trained alone; then by the sandwich rule: each step trains the
    largest network, the smallest and a random one.
    """
    epochs = epochs or _EPOCHS
    supernet = {"family": "decoder", "space": SPACE}
    job = recipe_job(text, work, epochs=epochs, name=ELASTIC, supernet=supernet)
    job["training"] |= {"random_subnets": 1, "largest_epochs": epochs // 2, "threads": 1}
    return job


def trained(job: Mapping[str, Any], options: RunOptions) -> TrainedRun:
    """The trained supernet of a job, from its first run in the folder if that is done."""
    run = f"{job['name']}-1"
    checkpoint = options.runs.root / run / "checkpoint"
    if not checkpoint.parent.exists():
        train(parse_job(yaml.safe_dump(dict(job)), source=RECIPE), options)
    elif not (has_checkpoint(checkpoint) and load_checkpoint(checkpoint).finished):
        resume(run, options)
    return load_trained_run(StoredRun.open(options.runs, run))


def print_results(method: str | None, table: Callable[[Path], str], results: Path) -> None:
    """Prints how a benchmark measures, and the table of its results."""
    print(method)
    print(table(results))
