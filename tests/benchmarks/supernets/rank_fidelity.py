"""Rank correlation of a supernet's networks with individually trained ones.

    python -m tests.benchmarks.supernets.rank_fidelity --family mobile-cnn|resnet|vit [--images 20000] [--epochs 6] [--json]

Method. The family's preset `tiny` is trained as a supernet by the sandwich rule of the family's recipe (CNNs: 2 random
networks per step, distilled from the largest; transformers: one, labels only), on some of Fashion-MNIST's training images.
Networks are selected from 3,000 random ones: 12 whose multiply-accumulates are spread evenly by ratio, and 8 of about the
median's (+-5 %) that differ most in their genes. Each is also trained individually, from its own initialisation, with the
same images, steps and schedule, on labels only. All are recalibrated and scored on the 10,000 images of the test part.
Reported: Kendall's tau of inherited against individual accuracy over the 12, over the 8 and over all, and the tau of
multiply-accumulates and of parameters.

Resumable: trainings and accuracies are stored in the folder --work.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import kendalltau

from supernets.space import Architecture, SearchSpace
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.training_loop import TrainingSettings
from tests.benchmarks.supernets.study import Study, console, family_of, fashion_mnist, spread

SAMPLED, SPREAD, EQUAL, WITHIN = 3000, 12, 8, 0.05


def main(
    family: Annotated[str, typer.Option(help="mobile-cnn, resnet or vit.")] = "mobile-cnn",
    work: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/bench-rank"),
    images: int = 20_000,
    epochs: int = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains what is missing and prints the comparison."""
    torch.set_num_threads(1)
    kind = family_of(family, "tiny")
    settings = TrainingSettings(epochs=epochs)
    if family == "vit":
        settings = replace(settings, learning_rate=0.002, weight_decay=0.05)
    study = Study(work / family, fashion_mnist(images), settings)
    torch.manual_seed(0)
    supernet = make_supernet(kind)
    rng = np.random.default_rng(0)
    sampled = list({kind.space.sample(rng): None for _ in range(SAMPLED)})
    table = supernet.costs(sampled)
    macs, parameters = table.macs.sum(axis=1), table.parameters.sum(axis=1)
    apart = spread(macs, SPREAD)
    median = np.median(macs)
    alike = _different(kind.space, sampled, np.flatnonzero(np.abs(macs / median - 1) <= WITHIN), EQUAL)
    chosen = [*apart, *alike]
    networks = [sampled[i] for i in chosen]
    strategy = SandwichStrategy(kind.space, 1, "none") if family == "vit" else SandwichStrategy(kind.space, 2)
    inherited = study.trained("supernet", supernet, strategy, networks).accuracies
    separate = np.array([study.alone(f"alone {a.key}", kind, a).accuracies[0] for a in networks])
    groups = {"spread": range(SPREAD), "equal": range(SPREAD, len(chosen)), "all": range(len(chosen))}
    values = {"inherited": inherited, "MACs": macs[chosen], "parameters": parameters[chosen]}
    report: dict[str, Any] = {
        "family": family,
        "cpu_minutes": study.cpu_seconds / 60,
        "tau": {
            group: {
                name: float(kendalltau(value[list(of)], separate[list(of)]).statistic) for name, value in values.items()
            }
            for group, of in groups.items()
        },
        "networks": [
            {
                "key": a.key,
                "macs": int(macs[i]),
                "parameters": int(parameters[i]),
                "inherited": float(x),
                "separate": float(y),
            }
            for a, i, x, y in zip(networks, chosen, inherited, separate, strict=True)
        ],
    }
    print(json.dumps(report, indent=1)) if as_json else _show(report)


def _different(space: SearchSpace, sampled: list[Architecture], among: NDArray[np.intp], n: int) -> list[int]:
    """Indices of `n` networks far apart in their genes, each the farthest from the previous ones."""
    encoded = space.encode([sampled[i] for i in among])
    chosen = [0]
    for _ in range(n - 1):
        distances = ((encoded[:, None, :] - encoded[chosen][None]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int(distances.argmax()))
    return [int(among[i]) for i in chosen]


def _show(report: dict[str, Any]) -> None:
    networks = Table("MACs, M", "parameters, k", "inherited, %", "separate, %")
    for network in report["networks"]:
        networks.add_row(
            f"{network['macs'] / 1e6:.2f}", f"{network['parameters'] / 1e3:.0f}",
            f"{100 * network['inherited']:.2f}", f"{100 * network['separate']:.2f}",
        )  # fmt: skip
    taus = Table(
        f"{report['family']}: Kendall's tau with separate accuracy", "inherited", "MACs alone", "parameters alone"
    )
    for group, tau in report["tau"].items():
        taus.add_row(group, *(f"{tau[name]:.2f}" for name in ("inherited", "MACs", "parameters")))
    console.print(networks, taus, f"{report['cpu_minutes']:.0f} CPU minutes in all")


if __name__ == "__main__":
    typer.run(main)
