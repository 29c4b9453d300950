"""Ablation of the rules of training supernets: sandwich, sorting by importance, recalibration.

    python -m tests.benchmarks.supernets.rules [--work FOLDER] [--epochs 4] [--json]

Method. The family mobile-cnn's preset `tiny` on 20,000 images of Fashion-MNIST; 12 networks spread over the costs, the smallest
and the largest among them, are scored on the 10,000 images of the test part.
  sandwich         largest, smallest and two random networks per step, distilled from the largest
  sandwich, labels the same, all from the labels
  largest first    the largest network alone, in as many epochs, then `sandwich` in three quarters of them
  uniform          one random network per step, in four times the epochs: as many forward and backward passes
  truncated        only the largest is trained, the others are extracted from it
  sorted, cut      the same weights, sorted by importance before extraction
and, of `sandwich`, the networks with recalibrated statistics and with slices of the largest's.

Resumable: trainings and accuracies are stored in the folder --work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.sharing.sorting import importance, orders
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.single_phase import LargestStrategy, SandwichStrategy, SinglePathStrategy
from supernets.training.training_loop import TrainingSettings
from tests.benchmarks.supernets.study import Study, console, family_of, fashion_mnist, spread

IMAGES, NETWORKS, SAMPLED = 20_000, 12, 2000


def main(
    work: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/bench-rules"),
    epochs: int = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains what is missing and prints the comparison."""
    torch.set_num_threads(1)
    study = Study(work, fashion_mnist(IMAGES), TrainingSettings(epochs=epochs))
    family = family_of("mobile-cnn", "tiny")
    space = family.space

    def fresh() -> Supernet:
        torch.manual_seed(0)
        return make_supernet(family)

    rng = np.random.default_rng(0)
    sampled = [space.smallest, space.largest, *(space.sample(rng) for _ in range(SAMPLED))]
    macs = fresh().costs(sampled).macs.sum(axis=1)
    networks = [sampled[i] for i in spread(macs, NETWORKS)]
    strategies: dict[str, tuple[TrainingStrategy, int]] = {
        "sandwich": (SandwichStrategy(space, 2), epochs),
        "sandwich, labels": (SandwichStrategy(space, 2, "none"), epochs),
        "largest first": (SandwichStrategy(space, 2, largest_epochs=epochs), epochs + max(1, 3 * epochs // 4)),
        "uniform": (SinglePathStrategy(space), 4 * epochs),
        "truncated": (LargestStrategy(space), epochs),
    }
    found = {
        name: study.trained(name, fresh(), strategy, networks, epochs=own).accuracies
        for name, (strategy, own) in strategies.items()
    }
    found["sorted, cut"] = study.trained("truncated", fresh(), LargestStrategy(space), networks, after=_sort).accuracies
    found["sandwich, slices of the largest's statistics"] = study.trained(
        "sandwich", fresh(), SandwichStrategy(space, 2), networks, statistics=space.largest
    ).accuracies
    report = {
        "macs": sorted(int(macs[i]) for i in spread(macs, NETWORKS)),
        "accuracies": {name: accuracies.tolist() for name, accuracies in found.items()},
        "cpu_minutes": study.cpu_seconds / 60,
    }
    print(json.dumps(report, indent=1)) if as_json else _show(report)


def _sort(supernet: Supernet) -> None:
    supernet.sort(orders(importance(supernet)))


def _show(report: dict[str, Any]) -> None:
    table = Table("training", "smallest", "largest", "mean", "least", title="Test accuracy of 12 networks, %")
    for name, accuracies in report["accuracies"].items():
        table.add_row(
            name, *(f"{100 * x:.2f}" for x in (accuracies[0], accuracies[-1], np.mean(accuracies), min(accuracies)))
        )
    console.print(table, f"{report['cpu_minutes']:.0f} CPU minutes in all")


if __name__ == "__main__":
    typer.run(main)
