"""Training speed of each family, strategy and sharing, relative to ordinary training of the family's largest network.

    python -m tests.benchmarks.supernets.speed [--rounds 5] [--steps 6] [--json]

Method. The families' presets `tiny` on Fashion-MNIST, batches of 64, one thread. All variants are trained in turns, a few steps
per round, so that other load affects all of them alike; values are medians over rounds of CPU time (the first round is a
warm-up). Samples are images of the data set, regardless of the number of networks that see each: in the sandwich, up to four;
progressive shrinking's frozen teacher runs once per step. *Relative* is the samples per second over those of ordinary training
of the largest network in the same round.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from supernets.data import head
from supernets.families.nested_networks import NestedFamily
from supernets.sharing.base import Family, TrainingStrategy
from supernets.sharing.spec import MixtureSpec, SharingSpec
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.attentive import AttentiveStrategy
from supernets.training.strategies.progressive import ProgressiveStrategy
from supernets.training.strategies.single_phase import (
    LargestStrategy,
    SandwichStrategy,
    SinglePathStrategy,
    SortedStrategy,
)
from supernets.training.training_loop import Loop, TrainingSettings
from tests.benchmarks.supernets.study import console, family_of, fashion_mnist
from tests.benchmarks.supernets.turns import seconds_in_turns

FAMILIES = ("mobile-cnn", "resnet", "vit")
BATCH = 64
PLAIN = SharingSpec()
_LAST = "progressive, last phase"


def strategies(family: Family) -> dict[str, tuple[Family, TrainingStrategy, SharingSpec]]:
    """The variants by name, ordinary training first."""
    space, nested = family.space, NestedFamily(family)
    cost = make_supernet(family)
    found: dict[str, tuple[Family, TrainingStrategy, SharingSpec]] = {
        "largest alone": (family, LargestStrategy(space), PLAIN),
        "single-path": (family, SinglePathStrategy(space), PLAIN),
        "sorted, 2 micro-batches": (nested, SortedStrategy(nested.space, 2), PLAIN),
        "sandwich, 2 random": (family, SandwichStrategy(space, 2), PLAIN),
        "attentive, 2 of 3": (family, AttentiveStrategy(space, lambda a: cost.costs(a).macs.sum(axis=1)), PLAIN),
        _LAST: (family, ProgressiveStrategy(family, "frozen"), PLAIN),
    }
    for routing in ("layer", "neuron"):
        mixture = SharingSpec(mixture=MixtureSpec(experts=2, routing=routing))
        found[f"sandwich, mixture by {routing}"] = (family, SandwichStrategy(space, 2), mixture)
    return found


def main(
    rounds: int = 5,
    steps: int = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Times all variants and prints the results."""
    torch.set_num_threads(1)
    data = fashion_mnist(BATCH * steps)
    report: list[dict[str, Any]] = []
    for name in FAMILIES:
        made = {}
        for way, (family, strategy, sharing) in strategies(family_of(name, "tiny")).items():
            torch.manual_seed(0)
            epochs = len(strategy.phases(100))
            settings = TrainingSettings(epochs=epochs, batch_size=BATCH)
            supernet, part = make_supernet(family, sharing), head(data.train, BATCH * steps)
            # Replaces the teacher that progressive shrinking makes from the largest; the others have none.
            teacher = supernet.extract(family.space.largest)
            made[way] = Loop(supernet, part, strategy, settings, teacher=teacher), epochs
        seconds = {way: taken / (BATCH * steps) for way, taken in seconds_in_turns(made, rounds).items()}
        base = seconds["largest alone"]
        for way, own in seconds.items():
            report.append(
                {
                    "family": name,
                    "way": way,
                    "samples_per_s": float(1 / np.median(own)),
                    "relative": float(np.median(base / own)),
                }
            )
    print(json.dumps(report, indent=1)) if as_json else _show(report)


def _show(report: list[dict[str, Any]]) -> None:
    table = Table("family", "training", "samples/s", "relative")
    for row in report:
        table.add_row(row["family"], row["way"], f"{row['samples_per_s']:.0f}", f"{row['relative']:.2f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
