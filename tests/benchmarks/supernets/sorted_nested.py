"""SortedNet on Fashion-MNIST: nested networks of one training, compared with truncation and individual training.

    python -m tests.benchmarks.supernets.sorted_nested [--work FOLDER] [--epochs 6] [--json]

Method. The nested networks of the family mobile-cnn's preset `tiny` (one choice per dimension: depth, width, kernel, expansion)
are trained on 50,000 images and scored on the 10,000 of the test part, each recalibrated on 1,000 training images. All variants
have the same number of steps, images and schedule:
  sorted      one random network per half of a batch of 64, one step for both (SortedNet, arXiv 2309.00255)
  sorted, 1   the paper's ablation: one random network per step
  truncated   only the largest is trained, the others are extracted from it
  alone       four of the networks by size, each trained individually from its own initialisation (the largest is `truncated`'s)
All networks of `sorted` are scored, and every third of the other two. Reported: how many networks have at least 96 % of the
accuracy of the same training's largest, and of the individually trained largest; Kendall's tau of accuracy against parameters
and against multiply-accumulates over all of them.

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
from scipy.stats import kendalltau

from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import MOBILE_CNN
from supernets.families.nested_networks import NestedFamily
from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.sharing.chain import ChainSharing
from supernets.training.strategies.single_phase import LargestStrategy, SortedStrategy
from supernets.training.training_loop import TrainingSettings
from tests.benchmarks.supernets.study import Study, Trained, console, fashion_mnist, spread

SHARE = 0.96


def main(
    work: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/bench-sorted"),
    epochs: int = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains what is missing and prints the comparison."""
    torch.set_num_threads(1)
    study = Study(work, fashion_mnist(), TrainingSettings(epochs=epochs))
    family = NestedFamily(MobileCNNFamily(MOBILE_CNN["tiny"], image_size=28, channels=1, n_classes=10))
    space = family.space
    networks = space.enumerate()

    def fresh() -> Supernet:
        torch.manual_seed(0)
        return Supernet(family, ChainSharing(family))

    costs = fresh().costs(networks)
    macs, parameters = costs.macs.sum(axis=1), costs.parameters.sum(axis=1)
    points = spread(macs, 4)
    some = sorted({*range(0, len(networks), 3), *points, networks.index(space.smallest)})
    scored = {"sorted": list(range(len(networks))), "sorted, 1": some, "truncated": some}
    ways: dict[str, Trained] = {}
    strategies: dict[str, TrainingStrategy] = {
        "sorted": SortedStrategy(space, 2),
        "sorted, 1": SortedStrategy(space, 1),
        "truncated": LargestStrategy(space),
    }
    for name, strategy in strategies.items():
        ways[name] = study.trained(name, fresh(), strategy, [networks[i] for i in scored[name]])
    full, least = networks.index(space.largest), networks.index(space.smallest)
    own = ways["truncated"].accuracies[some.index(full)]
    alone = np.array([study.alone(f"alone {i}", family, networks[i]).accuracies[0] for i in points[:-1]] + [own])
    report: dict[str, Any] = {
        "networks": len(networks),
        "macs_ratio": float(macs.max() / macs.min()),
        "largest_alone": float(alone[-1]),
        "cpu_minutes": study.cpu_seconds / 60,
        "alone": [{"macs": int(macs[i]), "accuracy": float(a)} for i, a in zip(points, alone, strict=True)],
        "ways": {},
    }
    for name, way in ways.items():
        where, accuracies = scored[name], way.accuracies
        report["ways"][name] = {
            "scored": len(where),
            "largest": float(accuracies[where.index(full)]),
            "smallest": float(accuracies[where.index(least)]),
            "mean_of_some": float(np.mean([accuracies[where.index(i)] for i in some])),
            "least_share": float(accuracies.min() / accuracies[where.index(full)]),
            "reach_own": int((accuracies >= SHARE * accuracies[where.index(full)]).sum()),
            "reach_alone": int((accuracies >= SHARE * alone[-1]).sum()),
            "tau_parameters": float(kendalltau(accuracies, parameters[where]).statistic),
            "tau_macs": float(kendalltau(accuracies, macs[where]).statistic),
            "at_points": [float(accuracies[where.index(i)]) for i in points],
            "train_cpu_seconds": way.seconds,
        }
    print(json.dumps(report, indent=1)) if as_json else _show(report)


def _show(report: dict[str, Any]) -> None:
    n, ratio, minutes = report["networks"], report["macs_ratio"], report["cpu_minutes"]
    console.print(f"{n} networks, MACs {ratio:.1f} x apart; {minutes:.0f} CPU minutes in all")
    sizes = [f"{point['macs'] / 1e6:.2f} M" for point in report["alone"]]
    table = Table("training", "largest", "smallest", "mean", *sizes, title="Test accuracy, %; four of them by MACs")
    counts = Table(
        "training", "96 % of own largest", "of largest alone", "least share", "tau, parameters", "tau, MACs", "CPU s"
    )
    for name, way in report["ways"].items():
        accuracies = [way["largest"], way["smallest"], way["mean_of_some"], *way["at_points"]]
        table.add_row(name, *(f"{100 * accuracy:.2f}" for accuracy in accuracies))
        counts.add_row(
            name, f"{way['reach_own']} of {way['scored']}", f"{way['reach_alone']}", f"{100 * way['least_share']:.1f} %",
            f"{way['tau_parameters']:.2f}", f"{way['tau_macs']:.2f}", f"{way['train_cpu_seconds']:.0f}",
        )  # fmt: skip
    table.add_row("alone", "", "", "", *(f"{100 * point['accuracy']:.2f}" for point in report["alone"]))
    console.print(table, counts)


if __name__ == "__main__":
    typer.run(main)
