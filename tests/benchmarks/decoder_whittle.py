"""Guided search against the searches of whittle, on one supernet of tiny Shakespeare, by measured time per token.

    python -m venv WHITTLE
    WHITTLE/bin/pip install torch "transformers<4.54" "syne-tune[moo]==0.13.0" lightning psutil boto3 \\
        "huggingface-hub<0.35" "jsonargparse[signatures]<=4.41"
    WHITTLE/bin/pip install --no-deps whittle litgpt==0.5.12
    python -m tests.benchmarks.decoder_whittle TEXT WHITTLE/bin/python [--seeds 1] [--evaluations 60]

TEXT and the training are those of `tests.benchmarks.decoder_front`, whose folder --work is used.

The last line leaves out what the searches do not need (wandb, lm-eval and others).

Method. whittle (github.com/whittle-org/whittle) searches the same weights on the same validation part, from the same options of
depth, width, and heads and hidden channels of each layer, with as many evaluations. It takes networks of the first layers,
heads and channels, as sharing `slice` does; the perplexity that it finds for each network of its front is compared with that of
the extracted network here, so that both search the same networks. Its searches minimise perplexity and a cost of its own: the
number of parameters (its default), or the latency by its torch profiler. The networks of its fronts are then measured together
with those of guided search, by the longer protocol in the same rounds, in ONNX Runtime. Hypervolumes are those of
`tests.benchmarks.search_on_supernet`.

Resumable: what is done is stored in --work.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from nas.engine.finalists import choose_finalists
from nas.jobs.evaluation.scoring import ScoringTask
from nas.search.problem.objectives import Variant
from supernets.data.document_blocks import NOTHING
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.writing import write_decoder
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from tests.benchmarks.decoder_front import RUN, RUNS, trained
from tests.benchmarks.search_on_supernet import Bench, print_comparison, remeasured, searching

SEARCHES = (("random_search", "parameters"), ("morea", "parameters"), ("morea", "latency"))
"""Strategies of whittle, each with the cost that it minimises; the first is its default."""
MOST_APART = 1e-3
"""Relative difference of the perplexities of a network in both libraries."""


def write_supernet(bench: Bench, folder: Path) -> None:
    """Writes what `whittle_search` reads."""
    supernet, data = bench.checkpoint.supernet, bench.built_job.data.dataset
    family, largest = supernet.family, supernet.space.largest
    assert isinstance(family, DecoderFamily)
    state = supernet.extract(largest).state_dict()
    write_decoder(folder, family, largest, state, tokenizer="{}", separator=0, separator_token="")
    np.save(folder / "blocks.npy", data.validation.inputs.numpy())
    np.save(folder / "counted.npy", (data.validation.labels[..., 1] != NOTHING).numpy())
    options = {choice.name: choice.options for choice in supernet.space.choices}
    (folder / "space.json").write_text(json.dumps(options))


def found_by_whittle(python: Path, folder: Path, strategy: str, cost: str, *, samples: int, seed: int) -> Any:
    """The networks that a search of whittle evaluated, from the folder if it is done."""
    kept = folder / f"{strategy}-{cost}-{samples}-{seed}.json"
    if not kept.exists():
        script = Path(__file__).with_name("whittle_search.py")
        options = ("--strategy", strategy, "--cost", cost, "--samples", str(samples), "--seed", str(seed))
        made = subprocess.run([python, "-I", script, folder, *options], stdout=subprocess.PIPE, text=True, check=True)
        kept.write_text(made.stdout.strip().splitlines()[-1])
    return json.loads(kept.read_text())


def architecture_of(supernet: Supernet, options: dict[str, Any]) -> Architecture:
    """The architecture with these options."""
    return supernet.space.canonical([c.options.index(options[c.name]) for c in supernet.space.choices])


def compare_seed(bench: Bench, python: Path, folder: Path, seed: int) -> dict[str, Any]:
    """All searches of one seed, re-measured together."""
    job, supernet = bench.built_job.job.config, bench.checkpoint.supernet
    budget, space = int(job.search.evaluations), supernet.space
    guided, objectives = bench.search(job, "guided", seed), bench.built_job.job.objectives
    chosen = {"guided": choose_finalists(guided, objectives, [space.smallest, space.largest])}
    validation = {e.architecture: e.value(bench.scored) for e in guided if not e.failed}
    evaluations, apart = {"guided": len(guided)}, 0.0
    for strategy, cost in SEARCHES:
        rows = found_by_whittle(python, folder, strategy, cost, samples=budget, seed=seed)
        fronts = {architecture_of(supernet, row["options"]): row["perplexity"] for row in rows if row["front"]}
        new = [ScoringTask(a, Variant(), (bench.scored.name,), model=False) for a in fronts if a not in validation]
        for outcome in bench.pool.run(new):
            if outcome.result is not None:
                validation[outcome.task.architecture] = outcome.result.scores[bench.scored.name].value
        apart = max(apart, *(abs(theirs / validation[a] - 1) for a, theirs in fronts.items()))
        chosen[f"whittle {strategy}, {cost}"] = list(fronts)
        evaluations[f"whittle {strategy}, {cost}"] = len(rows)
    if apart > MOST_APART:
        raise SystemExit(f"perplexities of a network differ by {apart:.2g} between both libraries")
    row = {"seed": seed, "evaluations": evaluations, "perplexities_apart": apart}
    return row | remeasured(bench, chosen, validation, seed)


def main(
    text: Path,
    python: Annotated[Path, typer.Argument(help="The interpreter of the environment with whittle.")],
    seeds: int = 1,
    evaluations: int = 60,
    epochs: Annotated[int | None, typer.Option(help="Of the training; the recipe's by default.")] = None,
    threads: int = 1,
    work: Path = Path("runs/decoder-front"),
) -> None:
    """Trains, unless it is done, and compares."""
    torch.set_num_threads(1)
    job = searching(trained(text, work, epochs=epochs, threads=threads), RUN, evaluations)
    bench, folder = Bench(job, work, work / RUNS, 0), work / "whittle"
    if not (folder / "space.json").exists():
        write_supernet(bench, folder)
    print(__doc__)
    print_comparison(compare_seed(bench, python, folder, seed) for seed in range(1, seeds + 1))


if __name__ == "__main__":
    typer.run(main)
