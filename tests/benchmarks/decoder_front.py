"""The front of language models of tiny Shakespeare, trained from nothing: perplexity against the measured time per token.

    python -m tests.benchmarks.decoder_front TEXT [--seeds 5] [--evaluations 60] [--epochs N]

TEXT is tiny Shakespeare: input.txt of karpathy/char-rnn, or that file compressed by gzip (1.1 MB).

Method. The recipe `shakespeare-decoder` is trained once (paragraphs are the documents; of these a tenth is for validation and a
tenth for test, so that no document is in two). Then `tests.benchmarks.search_on_supernet` compares three algorithms with equal
budgets of real evaluations: guided search, random search, and uniform scaling (all genes at the same level). It measures the
finalists of all three together again, by the longer protocol, and scores them on the test part.

Baselines: random search and uniform scaling.

Resumable: the run, the searches and the measurements are stored in the folder --work.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Annotated

import typer

from nas.engine.store.folder import RunsFolder
from nas.jobs.recipes import read_recipe
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, parse_job
from nas.runs.driver import resume, train
from supernets.training.checkpoint import has_checkpoint, load_checkpoint
from tests.benchmarks.search_on_supernet import compare, print_comparison

RECIPE, RUNS = "shakespeare-decoder", "runs"
RUN = f"{RECIPE}-1"


def job_for(text: Path, work: Path, *, epochs: int | None, threads: int) -> SearchJob:
    """The recipe's job for a text."""
    plain = work / "tinyshakespeare.txt"
    if not plain.exists():
        content = text.read_bytes()
        plain.write_bytes(gzip.decompress(content) if text.suffix == ".gz" else content)
    job = parse_job(read_recipe(RECIPE), source=RECIPE)
    shorter = {} if epochs is None else {"epochs": epochs, "largest_epochs": epochs // 2}
    training = job.training.model_copy(update={"threads": threads, **shorter})
    return job.model_copy(update={"data": job.data.model_copy(update={"path": plain}), "training": training})


def trained(text: Path, work: Path, *, epochs: int | None, threads: int) -> SearchJob:
    """The job, whose supernet is trained as the run `RUN` in the folder `RUNS`, unless that is done."""
    work.mkdir(parents=True, exist_ok=True)
    job, options = job_for(text, work, epochs=epochs, threads=threads), RunOptions(RunsFolder(work / RUNS))
    checkpoint = work / RUNS / RUN / "checkpoint"
    if not checkpoint.parent.exists():
        train(job, options)
    elif not (has_checkpoint(checkpoint) and load_checkpoint(checkpoint).finished):
        resume(RUN, options)
    return job


def main(
    text: Path,
    seeds: int = 5,
    evaluations: int = 60,
    epochs: Annotated[int | None, typer.Option(help="Of the training; the recipe's by default.")] = None,
    threads: int = 1,
    workers: Annotated[int, typer.Option(help="Scoring processes; 0: this one.")] = 0,
    work: Path = Path("runs/decoder-front"),
) -> None:
    """Trains, unless it is done, and compares."""
    job = trained(text, work, epochs=epochs, threads=threads)
    print(__doc__)
    made = compare(job, RUN, work=work, runs=work / RUNS, seeds=seeds, evaluations=evaluations, workers=workers)
    print_comparison(made)


if __name__ == "__main__":
    typer.run(main)
