"""A front of decoders with experts over perplexity, memory and time per token, against uniform pruning.

    python -m tests.benchmarks.experts_front TEXT RESULTS.jsonl [--seeds 1] [--evaluations 48] [--epochs 8]

TEXT is tiny Shakespeare: input.txt of karpathy/char-rnn, or that file compressed by gzip (1.1 MB). Resumable: the training, the
searches and the results are stored. `--table` only prints the results. `tests.benchmarks.routing_consistency` searches the same
supernet, which is trained once where both have the same folder --work.

Method. A supernet of decoders is trained once (the largest network alone, then by the sandwich rule): 4 layers of 192
channels, each of which keeps 2, 3, 4, 6 or 8 experts of 64, 96 or 128 channels, and sends a token to 1 or 2 of them. Guided
search evaluates --evaluations of its networks by three objectives: the perplexity of the validation part, `resident_mib` (all
weights), and the time per token on one core. The front of these values is compared with pruned networks. All are measured
again together, by the longer protocol in the same rounds, and scored on the test part, which no search sees.

Baselines: uniform pruning of the largest network. Each layer keeps the same number of experts, 2, 4 or 6 of 8, with all
channels, and sends a token to 2 or to 1:

- *first*: its first experts, which the training of the supernet prefers to the others;
- *usage*, *importance*: those that the first 8,192 tokens of the training part ask most, or that add most to the outputs
  (`tests.benchmarks.expert_selection`).

Nothing is trained after pruning. Of the front's members that need no more memory and no more time than a pruned network, its
rival is the one of the least perplexity on the validation part. A pruned network is dominated if the rival's perplexity on the
test part is lower, too; the standard error of the difference is over documents, paired.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import typer
import yaml

from nas.engine.evaluation.scoring import InlineScoring
from nas.engine.evaluation.served_memory import ServedMemory
from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import SearchJob, parse_job
from nas.results.analysis.significance import N_STANDARD_ERRORS, paired_standard_error
from nas.search.problem.example_scores import decoded
from nas.search.problem.objectives import minimised
from nas.search.problem.pareto import non_dominated
from supernets.families.decoder.network import Decoder
from supernets.space import Architecture, SearchSpace
from supernets.training.checkpoint import load_checkpoint
from tests.benchmarks.decoder_oneshot import Row, add, read
from tests.benchmarks.experts_halved import CALIBRATION_TOKENS, observed
from tests.benchmarks.search_on_supernet import Bench, searching
from tests.benchmarks.shakespeare_experts import ELASTIC, RUN, Epochs, Show, elastic_job, print_results, trained

MEMORY = "resident_mib"
FRONT, WHOLE, FIRST = "front", "whole", "first"
SORTED = ("usage", "importance")
NUMBERS, ACTIVE = (2, 4, 6), (2, 1)
CHOICES = ("experts", "active_experts", "hidden")


def uniform(space: SearchSpace, experts: int, active: int) -> Architecture:
    """The network whose layers all keep this number of experts, with all channels, and send tokens to this number of them."""
    wanted = {"experts": experts, "active_experts": active}
    levels = []
    for choice in space.choices:
        value = wanted.get(choice.name.rpartition(".")[2], choice.options[-1])
        levels.append(choice.options.index(value))
    return space.canonical(levels)


def pruned(bench: Bench, work: Path) -> dict[str, InlineScoring]:
    """The scoring on the test part of the supernet with each layer's experts in the order of their usage, and importance."""
    data, space = bench.prepared.data, bench.checkpoint.supernet.space
    texts = data.dataset.train.inputs
    largest = cast(Decoder, bench.checkpoint.supernet.extract(space.largest))
    layers = observed(largest, texts[: max(1, CALIBRATION_TOKENS // texts.shape[1])])
    found = {}
    for name in SORTED:
        supernet = load_checkpoint(work / "runs" / RUN / "checkpoint").supernet
        orders = [np.argsort(-getattr(layer, name), kind="stable") for layer in layers]
        supernet.sort({f"layer{i}.experts": torch.from_numpy(order) for i, order in enumerate(orders)})
        found[name] = InlineScoring(supernet, data.calibration, data.dataset.test, data.task)
    return found


def compared(bench: Bench, job: SearchJob, work: Path, seed: int) -> Iterator[Row]:
    """Rows of the front's members, of the whole network, and of pruned networks with their rivals."""
    supernet, objectives = bench.checkpoint.supernet, bench.prepared.job.objectives
    evaluated = [own for own in bench.search(job, "guided", seed) if not own.failed]
    members = [evaluated[i] for i in np.flatnonzero(non_dominated(minimised(evaluated, objectives)))]
    scorings = {FRONT: bench.test, WHOLE: bench.test, FIRST: bench.test, **pruned(bench, work)}
    networks = [(FRONT, own.architecture) for own in members] + [(WHOLE, supernet.space.largest)]
    networks += [(by, uniform(supernet.space, n, k)) for by in (FIRST, *SORTED) for k in ACTIVE for n in NUMBERS]
    memory = cast(ServedMemory, bench.prepared.memory(supernet))
    mib = memory.mib(MEMORY, [own for _, own in networks], ["fp32"] * len(networks))
    found = bench.measure([(scorings[by], own) for by, own in networks], seed)
    scores = [decoded(score.samples, score.detail) for score, _ in found]
    rows: list[Row] = []
    for i, ((by, network), (score, time)) in enumerate(zip(networks, found, strict=True)):
        row: Row = {"seed": seed, "by": by, **_options(supernet.space, network), "mib": float(mib[i]), "ms": time}
        row |= {"perplexity": score.value, "error": score.error}
        if by == FRONT:
            row["validation"] = members[i].value(bench.scored)
        elif (rival := _rival(rows[: len(members)], row)) is not None:
            error = paired_standard_error(scores[rival], scores[i])
            row |= {"rival": rival, "difference": rows[rival]["perplexity"] - score.value, "difference_error": error}
        rows.append(row)
        yield {**row, "evaluations": len(evaluated)}


def _options(space: SearchSpace, network: Architecture) -> dict[str, Any]:
    values = space.values(network)
    return {kind: [own for name, own in values.items() if name.endswith(f".{kind}")] for kind in CHOICES}


def _rival(front: list[Row], row: Row) -> int | None:
    """The member of the front with which a network is compared; None where all need more memory or time."""
    within = [i for i, own in enumerate(front) if own["mib"] <= row["mib"] and own["ms"] <= row["ms"]]
    return min(within, key=lambda i: front[i]["validation"], default=None)


def table(results: Path) -> str:
    """The whole and the pruned networks of each seed, with their rivals."""
    rows = read(results)
    return "\n".join(line for seed in sorted({row["seed"] for row in rows}) for line in _lines(rows, seed))


def _lines(rows: list[Row], seed: int) -> Iterator[str]:
    own = [row for row in rows if row["seed"] == seed]
    front, others = ([row for row in own if (row["by"] == FRONT) is member] for member in (True, False))
    yield f"\nseed {seed}: {len(front)} networks on the front of {own[0]['evaluations']} evaluations"
    heads = (
        "kept by",
        "experts",
        "asked",
        "MiB",
        "ms",
        "perplexity",
        "rival: experts",
        "asked",
        "channels",
        "MiB",
        "ms",
    )
    yield "\n| " + " | ".join((*heads, "perplexity", "difference")) + " |"
    yield "|---" * (len(heads) + 2) + "|"
    for row in others:
        cells = [row["by"], str(row["experts"][0]), str(row["active_experts"][0]), *_values(row)]
        if (number := row.get("rival")) is not None:
            listed = (" ".join(map(str, front[number][kind])) for kind in ("experts", "active_experts", "hidden"))
            cells += [*listed, *_values(front[number]), f"{row['difference']:+.2f} ± {row['difference_error']:.2f}"]
        else:
            cells += ["none"] + [""] * 6
        yield "| " + " | ".join(cells) + " |"
    judged = [row for row in others if row["by"] != WHOLE]
    lower = [row["difference"] for row in judged if row.get("difference", 0) < 0]
    clear = [
        row for row in judged if row.get("difference", 0) < -N_STANDARD_ERRORS * row.get("difference_error", np.inf)
    ]
    yield f"\ndominated: {len(lower)} of {len(judged)} pruned networks, {len(clear)} by more than two standard errors"


def _values(row: Row) -> list[str]:
    return [f"{row['mib']:.2f}", f"{row['ms']:.3f}", f"{row['perplexity']:.2f}"]


def main(
    text: Path,
    results: Path,
    seeds: int = 1,
    evaluations: int = 48,
    epochs: Epochs = None,
    work: Path = Path("runs/elastic-experts"),
    show: Show = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    done = {row["seed"] for row in read(results)}
    left = [] if show else [seed for seed in range(1, seeds + 1) if seed not in done]
    if left:
        job = elastic_job(text, work, epochs=epochs)
        trained(job, RunOptions(RunsFolder(work / "runs")))
        more = {"hardware": ["cpu-1-thread"], "objectives": ["perplexity", "time_per_token_ms", MEMORY]}
        config = searching(parse_job(yaml.safe_dump({**job, **more}), source=ELASTIC), RUN, evaluations)
        bench = Bench(config, work, work / "runs", 0)
        for seed in left:
            for row in list(compared(bench, config, work, seed)):
                add(results, row)
    print_results(__doc__, table, results)


if __name__ == "__main__":
    typer.run(main)
