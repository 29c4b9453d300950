"""Differentiable widths and depths (TAS) against guided search on a supernet, uniform width and random shapes.

    python -m tests.benchmarks.differentiable [--work FOLDER] [--seeds 3] [--images 20000] [--epochs 6] [--json]

Method. Fashion-MNIST, the family mobile-cnn's preset `tiny`, and targets of 25, 50 and 75 % of the largest network's
multiply-accumulates. A method names one network of 95 to 100 % of each target:
  TAS             a training of the strategy `differentiable` for each target, by the training part alone
  guided          one supernet trained by the sandwich rule, then for each target a search by `guided` whose networks cost 95 to
                  100 % of it, and which knows the evaluations of the searches before; the network that is best on the
                  validation part. The supernet has as many epochs as make its training and the searches take as many CPU
                  seconds as the three trainings of TAS (the fits of predictors, a few seconds, are not counted).
  uniform width   the largest network, all of whose widths are scaled by one factor; no search
  random shape    a random network of the space; no search
Each of these networks is then trained alone from random weights with equal settings, taught by the largest network (which was
trained alone, too), and scored on the test part, which selects nothing. Differences to TAS are paired, by target and seed.

Resumable: trainings and scores are stored in the folder --work. The budget in CPU seconds is comparable where nothing else
disturbs the trainings, or everything equally.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from torch import nn

from nas.search.base import SearchProblem
from nas.search.problem.objectives import ACCURACY, Constraint, Evaluation, Goal, Measurement, Objective, Status
from nas.search.problem.variants import Variants
from nas.search.registry import make_algorithm
from supernets.data import DataSet, Part, head
from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import CNNSpec
from supernets.families.single_network import SingleFamily
from supernets.sharing.base import Family, Supernet, TrainingStrategy
from supernets.space import Architecture
from supernets.training.checkpoint import FOUND, Checkpoint, has_checkpoint, load_checkpoint, make_supernet
from supernets.training.recalibration import recalibrate
from supernets.training.strategies.differentiable import DifferentiableStrategy
from supernets.training.strategies.relaxation import Relaxation
from supernets.training.strategies.single_phase import LargestStrategy, SandwichStrategy
from supernets.training.trainer import correct_predictions, train
from supernets.training.training_loop import Loop, TrainingSettings
from tests.benchmarks.supernets.study import CALIBRATION, console, family_of, fashion_mnist

TARGETS, TOLERANCE = (0.25, 0.5, 0.75), 0.05
METHODS = ("TAS", "guided", "uniform width", "random shape")
MACS = Objective("macs", "", Goal.MINIMIZE)
TIMED_STEPS, BATCH = 20, 8
Share = Callable[[Architecture], float]


@dataclass
class Bench:
    """The folder of trainings and scores of one seed, and what all of them share."""

    work: Path
    data: DataSet
    family: MobileCNNFamily
    settings: TrainingSettings
    evaluations: int
    stored: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            self.stored = json.loads(self._file.read_text())
        supernet = make_supernet(self.family)
        self.costs = supernet.costs
        self.whole = int(supernet.cost(self.family.space.largest).macs)

    @property
    def _file(self) -> Path:
        return self.work / "scores.json"

    def keep(self, key: str, make: Callable[[], Any]) -> Any:
        """A stored value; made if there is none."""
        if key not in self.stored:
            self.stored[key] = make()
            temporary = self._file.with_suffix(".new")
            temporary.write_text(json.dumps(self.stored))
            temporary.replace(self._file)
        return self.stored[key]

    def fresh(self, family: Family) -> Supernet:
        """An untrained supernet, initialised by the seed."""
        torch.manual_seed(self.settings.seed)
        return make_supernet(family)

    def trained(
        self, name: str, family: Family, make: Callable[[Supernet], TrainingStrategy], *, epochs: int | None = None,
        teacher: nn.Module | None = None,
    ) -> Checkpoint:  # fmt: skip
        """A finished training; one that was interrupted is continued."""
        folder = self.work / name
        if not (has_checkpoint(folder) and load_checkpoint(folder).finished):
            supernet = self.fresh(family)
            settings = replace(self.settings, epochs=epochs or self.settings.epochs)
            train(
                supernet, self.data, make(supernet), settings, folder, teacher=teacher,
                on_epoch=lambda e: console.print(
                    f"{folder}: epoch {e.epoch} of {settings.epochs}, validation {e.largest:.3f} largest, "
                    f"{e.smallest:.3f} smallest, {e.cpu_seconds:.0f} CPU s", highlight=False,
                ),
            )  # fmt: skip
        return load_checkpoint(folder)

    def network(self, supernet: Supernet, architecture: Architecture) -> nn.Module:
        """An extracted network, recalibrated."""
        return recalibrate(supernet.eval().extract(architecture), head(self.data.train, CALIBRATION).split(250))

    def accuracy(self, supernet: Supernet, architecture: Architecture, part: Part) -> float:
        """Of a network on a part of the data."""
        return correct_predictions(self.network(supernet, architecture), part).float().mean().item()

    def macs(self, networks: Sequence[Architecture]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Multiply-accumulates, (n,)."""
        return np.asarray(self.costs(networks).macs.sum(axis=1), dtype=np.float64)

    def in_window(self, network: Architecture, target: float) -> bool:
        """Whether a network's cost is 95 to 100 % of the target."""
        return bool(1 - TOLERANCE <= self.macs([network])[0] / (target * self.whole) <= 1)


def seconds(checkpoint: Checkpoint) -> float:
    """CPU seconds of a training."""
    return float(sum(epoch["cpu_seconds"] for epoch in checkpoint.progress["history"]))


def tas(supernet: Supernet, target: float) -> TrainingStrategy:
    """The strategy that learns a network of a cost."""
    return DifferentiableStrategy(supernet.space, Relaxation(supernet), target)


def by_tas(bench: Bench) -> tuple[dict[float, Architecture], float]:
    """The network of each target, and the CPU seconds of all."""
    found, total = {}, 0.0
    for target in TARGETS:
        done = bench.trained(f"TAS-{target}", bench.family, partial(tas, target=target))
        found[target] = Architecture.parse(done.progress[FOUND])
        total += seconds(done)
    return found, total


def by_guided(bench: Bench, budget: float) -> tuple[dict[float, Architecture], float, int]:
    """The network of each target, the CPU seconds of training and searches, and the epochs of the training."""
    space, n = bench.family.space, len(TARGETS) * bench.evaluations

    def epochs() -> int:
        """That fill the budget beside the searches, by the time of a few steps and of a score."""
        timed = head(bench.data.train, TIMED_STEPS * bench.settings.batch_size)
        supernet = bench.fresh(bench.family)
        loop = Loop(supernet, timed, SandwichStrategy(space), bench.settings)
        loop.run_epoch(1, lambda *_: None)
        started = process_time()
        loop.run_epoch(2, lambda *_: None)
        epoch = (process_time() - started) * len(bench.data.train) / len(timed)
        started = process_time()
        bench.accuracy(supernet, space.sample(np.random.default_rng(0)), bench.data.validation)
        return max(1, round((budget - n * (process_time() - started)) / epoch))

    chosen = int(bench.keep("sandwich epochs", epochs))
    done = bench.trained("sandwich", bench.family, lambda net: SandwichStrategy(net.space), epochs=chosen)

    def scored(network: Architecture) -> tuple[float, float]:
        def score() -> tuple[float, float]:
            started = process_time()
            return bench.accuracy(done.supernet, network, bench.data.validation), process_time() - started

        accuracy, taken = bench.keep(f"validation {network.key}", score)
        return accuracy, taken

    def evaluation(network: Architecture) -> Evaluation:
        values = {ACCURACY: scored(network)[0], MACS: float(bench.macs([network])[0])}
        return Evaluation(
            network,
            {o.name: Measurement(Variants().request(network, o), Status.OK, v, 0.0) for o, v in values.items()},
        )

    found, known = {}, [space.smallest, space.largest]
    for target in TARGETS:
        limit = Constraint(MACS, (1 - TOLERANCE) * target * bench.whole, target * bench.whole)
        problem = SearchProblem(
            space, (ACCURACY, MACS), bench.settings.seed, constraints=[limit], exact={"macs": bench.macs}
        )
        algorithm, left = make_algorithm("guided", problem), bench.evaluations
        algorithm.tell([evaluation(network) for network in known])
        while left > 0:
            batch = algorithm.ask(min(BATCH, left))
            algorithm.tell([evaluation(network) for network in batch])
            known, left = [*known, *batch], left - len(batch)
        allowed = [network for network in known if bench.in_window(network, target)]
        if not allowed:
            raise SystemExit(f"guided found no network of {target:.0%}; raise --evaluations")
        found[target] = max(allowed, key=lambda network: scored(network)[0])
    return found, seconds(done) + sum(scored(network)[1] for network in known), chosen


def uniform_width(bench: Bench, target: float) -> MobileCNNFamily:
    """The family of one network: the largest, with all widths scaled to the target."""
    spec, family = bench.family.spec, bench.family

    def scaled(factor: float) -> MobileCNNFamily:
        stages = tuple(
            replace(
                stage, depth=stage.depth[-1:], kernel=stage.kernel[-1:], expand=stage.expand[-1:],
                width=(max(1, round(factor * stage.width[-1])),),
            )
            for stage in spec.stages
        )  # fmt: skip
        own: CNNSpec = replace(
            spec, stages=stages, stem=max(1, round(factor * spec.stem)), head=round(factor * spec.head)
        )
        sizes = {"image_size": family.image_size, "channels": family.channels, "n_classes": family.n_classes}
        return MobileCNNFamily(own, **sizes)

    candidates = [scaled(factor) for factor in np.linspace(0.2, 1, 161).tolist()]
    costs = [make_supernet(one).cost(one.space.largest).macs for one in candidates]
    return max(
        (pair for pair in zip(costs, range(len(costs)), candidates, strict=True) if pair[0] <= target * bench.whole),
        key=lambda pair: pair[:2],
    )[2]


def random_shape(bench: Bench, target: float) -> Architecture:
    """A random network of the space, on target."""
    rng = np.random.default_rng([bench.settings.seed, round(100 * target)])
    while not bench.in_window(network := bench.family.space.sample(rng), target):
        continue
    return network


def run_seed(bench: Bench) -> dict[str, Any]:
    """The test accuracies and costs of one seed, by method and target."""
    learned, budget = by_tas(bench)
    guided, spent, epochs = by_guided(bench, budget)
    largest = bench.trained("largest", bench.family, lambda net: LargestStrategy(net.space))
    teacher = bench.network(largest.supernet, largest.supernet.space.largest)
    rows: dict[str, Any] = {"seconds": {"TAS": budget, "guided": spent}, "sandwich epochs": epochs, "networks": {}}
    rows["largest"] = bench.keep(
        "test largest", lambda: bench.accuracy(largest.supernet, largest.supernet.space.largest, bench.data.test)
    )
    for method in METHODS:
        for target in TARGETS:
            chosen = {"TAS": learned, "guided": guided}.get(method, {}).get(target)
            family: Family = (
                uniform_width(bench, target)
                if method == "uniform width"
                else SingleFamily(bench.family, chosen or random_shape(bench, target))
            )
            name = f"alone-{method.replace(' ', '-')}-{target}"
            done = bench.trained(name, family, lambda net: LargestStrategy(net.space, "frozen"), teacher=teacher)
            own = done.supernet
            test = partial(bench.accuracy, own, own.space.largest, bench.data.test)
            accuracy = bench.keep(f"test {name}", test)
            share = own.cost(own.space.largest).macs / bench.whole
            rows["networks"][f"{method} {target}"] = {"accuracy": accuracy, "share": share}
    return rows


def main(
    work: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/bench-differentiable"),
    seeds: int = 3,
    images: Annotated[int, typer.Option(help="Training images.")] = 20_000,
    epochs: Annotated[int, typer.Option(help="Of each training but the sandwich's.")] = 6,
    evaluations: Annotated[int, typer.Option(help="Of each search.")] = 30,
    preset: Annotated[str, typer.Option(help="Of the family mobile-cnn.")] = "tiny",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains what is missing and prints the comparison."""
    torch.set_num_threads(1)
    family, data = family_of("mobile-cnn", preset), fashion_mnist(images)
    assert isinstance(family, MobileCNNFamily)
    rows = []
    for seed in range(seeds):
        folder = work / f"{preset}-{images}-{epochs}-{evaluations}" / str(seed)
        rows.append(run_seed(Bench(folder, data, family, TrainingSettings(epochs, seed=seed), evaluations)))
    print(json.dumps(rows, indent=1)) if as_json else _show(rows)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(
        "method", *(f"{target:.0%} of MACs" for target in TARGETS), "mean", "TAS ahead by", "CPU min of search"
    )
    values = {m: np.array([[r["networks"][f"{m} {t}"]["accuracy"] for t in TARGETS] for r in rows]) for m in METHODS}
    shares = {m: np.array([[r["networks"][f"{m} {t}"]["share"] for t in TARGETS] for r in rows]) for m in METHODS}
    for method, own in values.items():
        cells = [f"{100 * a:.2f} ({s:.1%})" for a, s in zip(own.mean(axis=0), shares[method].mean(axis=0), strict=True)]
        ahead = 100 * (values["TAS"] - own).ravel()
        error = ahead.std(ddof=1) / len(ahead) ** 0.5
        gap = "" if method == "TAS" else f"{ahead.mean():+.2f} ± {2 * error:.2f}"
        taken = [r["seconds"].get(method, 0) / 60 for r in rows]
        table.add_row(method, *cells, f"{100 * own.mean():.2f}", gap, f"{np.mean(taken):.1f}")
    epochs = ", ".join(str(r["sandwich epochs"]) for r in rows)
    console.print(table)
    console.print(
        f"Test accuracy in %, mean of {len(rows)} seeds (share of MACs); differences ± two standard errors. Largest network: "
        f"{100 * np.mean([r['largest'] for r in rows]):.2f} %; epochs of the sandwich: {epochs}.",
        highlight=False,
    )


if __name__ == "__main__":
    typer.run(main)
