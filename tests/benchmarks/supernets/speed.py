"""Training speed of each family, strategy and sharing, relative to ordinary training of the family's largest network.

    python -m tests.benchmarks.supernets.speed [--rounds 5] [--steps 6]

Method. The families' presets `tiny` on Fashion-MNIST, batches of 64, one thread. All variants are trained in turns, a few steps
per round, so that other load affects all of them alike; values are medians over rounds of CPU time (the first round is a
warm-up). Samples are images of the data set, regardless of the number of networks that see each: in the sandwich, up to four;
progressive shrinking's frozen teacher runs once per step. *Relative* is the samples per second over those of ordinary training
of the largest network in the same round.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from supernets.data import head, load_data
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.families.convolutional.resnet_family import ResNetFamily
from supernets.families.convolutional.resnet_spec import RESNET
from supernets.families.nested_networks import NestedFamily
from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import VIT
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
from tests.benchmarks.markdown import table_head, table_row

IMAGES = {"image_size": 28, "channels": 1, "n_classes": 10}
FAMILIES: dict[str, Family] = {
    "mobile-cnn": MobileCNNFamily(MOBILE_CNN["tiny"], **IMAGES),
    "resnet": ResNetFamily(RESNET["tiny"], **IMAGES),
    "vit": ViTFamily(VIT["tiny"], **IMAGES),
}
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


def seconds_in_turns(loops: Mapping[str, tuple[Loop, int]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """CPU seconds of an epoch of each training, (rounds,), after a warm-up round.

    Args:
        loops: by name, each with the number of the epoch that is repeated.
    """
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, (loop, epoch) in loops.items():
            started = time.process_time()
            loop.run_epoch(epoch, lambda step, n, loss: None)
            seconds[name].append(time.process_time() - started)
    return {name: np.array(taken[1:]) for name, taken in seconds.items()}


def main(rounds: int = 5, steps: int = 6) -> None:
    """Times all variants and prints the results."""
    torch.set_num_threads(1)
    part = head(load_data("fashion-mnist", validation=10_000, seed=0).train, BATCH * steps)
    print(table_head("family", "training", "samples/s", "relative"))
    for name, largest in FAMILIES.items():
        loops = {}
        for way, (family, strategy, sharing) in strategies(largest).items():
            torch.manual_seed(0)
            epochs = len(strategy.phases(100))
            settings = TrainingSettings(epochs=epochs, batch_size=BATCH)
            supernet = make_supernet(family, sharing)
            # Replaces the teacher that progressive shrinking makes from the largest; the others have none.
            teacher = supernet.extract(family.space.largest)
            loops[way] = Loop(supernet, part, strategy, settings, teacher=teacher), epochs
        seconds = seconds_in_turns(loops, rounds)
        for way, taken in seconds.items():
            per_second = BATCH * steps / float(np.median(taken))
            relative = float(np.median(seconds["largest alone"] / taken))
            print(table_row(name, way, f"{per_second:.0f}", f"{relative:.2f}"), flush=True)


if __name__ == "__main__":
    typer.run(main)
