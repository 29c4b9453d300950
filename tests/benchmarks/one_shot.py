"""Smaller networks of trained models without any training: as extracted, corrected by least squares, and pruned.

    python -m tests.benchmarks.one_shot originals [--model resnet20 ...]

Networks of uniform width with some shares of the original's multiply-accumulates, whose batch norms have the statistics of 512
training images without labels: as they are extracted, with units sorted by Taylor importance; the same, corrected on these
images; and networks of Torch-Pruning, which removes units by magnitude or by Taylor importance. Test accuracy.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from supernets.sharing.base import Supernet
from supernets.sharing.spec import SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from supernets.training.recalibration import Extraction
from tests.benchmarks.any_model_value import trained
from tests.benchmarks.any_model_value_methods import gradients_of, macs, pruned, sort_by_taylor
from tests.benchmarks.any_model_value_tasks import ValueTask, task
from tests.benchmarks.any_model_value_training import (
    WHOLE,
    Lesson,
    Setting,
    Stopwatch,
    calibrated,
    captured_supernet,
    correct,
)

SHARES = (0.75, 0.5, 0.3)
_AMOUNTS = tuple(i / 40 for i in range(1, 39))
KINDS = ("magnitude", "Taylor")


def main(
    originals: Annotated[Path, typer.Argument(help="folder in which trained originals are kept")],
    model: Annotated[list[str] | None, typer.Option(help="names of models")] = None,
    seed: int = 0,
) -> None:
    """Prints a table of test accuracies, a row for each model and share."""
    torch.set_num_threads(1)
    originals.mkdir(exist_ok=True)
    print("| model | MACs | original | extracted | corrected | seconds | Torch-Pruning, " + " / ".join(KINDS) + " |")
    print("|" + "---|" * 7)
    for name in model or ("resnet20", "mobilenet-v2", "vit"):
        own = task(name, Path())
        for row in rows_of(own, trained(originals / f"{name}-{seed}.pt", own, seed), seed):
            print("| " + " | ".join([name, *row]) + " |", flush=True)


def rows_of(own: ValueTask, original: nn.Module, seed: int) -> list[list[str]]:
    """The cells of a model's rows, one for each share."""
    supernet = captured_supernet(original, own, WHOLE).eval()
    largest = supernet.extract(supernet.space.largest)
    lesson, watch = Lesson.of(own, largest), Stopwatch(own, largest)
    setting = Setting(own, original, lesson, watch, seed)
    sort_by_taylor(supernet, lesson)
    gradients, n_macs = gradients_of(setting), macs(largest, own)
    inputs = own.prepared(own.train.inputs[:512])
    plain = Extraction(supernet, [inputs])
    fitted = Extraction(with_correction(supernet), [inputs])
    rivals = {
        kind: [pruned(setting, kind.lower(), amount, gradients, multiple=4) for amount in _AMOUNTS] for kind in KINDS
    }
    watch.close()
    rows = []
    for share in SHARES:
        architecture = uniform(supernet, share)
        started = time.perf_counter()
        corrected = fitted(architecture)
        seconds = time.perf_counter() - started
        cells = [largest, plain(architecture), corrected]
        accuracies = [f"{_accuracy(network, own):.1f}" for network in cells]
        pruned_ones = [
            _accuracy(calibrated(nearest(networks, share * n_macs, own), own), own) for networks in rivals.values()
        ]
        macs_share = supernet.cost(architecture).macs / supernet.cost(supernet.space.largest).macs
        rivals_text = " / ".join(f"{accuracy:.1f}" for accuracy in pruned_ones)
        rows.append([f"{macs_share:.2f}", *accuracies, f"{seconds:.1f}", rivals_text])
    return rows


def uniform(supernet: Supernet, share: float) -> Architecture:
    """The network of one width for all layers whose multiply-accumulates are nearest to a share of the largest one's."""
    space, n_macs = supernet.space, supernet.cost(supernet.space.largest).macs
    widths = [i for i, choice in enumerate(space.choices) if choice.name.endswith("width")]
    networks = []
    for level in range(len(space.choices[widths[0]].options)):
        genes = [len(choice.options) - 1 for choice in space.choices]
        for i in widths:
            genes[i] = level
        networks.append(space.canonical(genes))
    return min(networks, key=lambda network: abs(supernet.cost(network).macs / n_macs - share))


def nearest(networks: list[nn.Module], wanted: float, own: ValueTask) -> nn.Module:
    """The network whose multiply-accumulates are nearest to a number."""
    return min(networks, key=lambda network: abs(macs(network, own) - wanted))


def with_correction(supernet: Supernet) -> Supernet:
    """The supernet with the same weights, whose extracted networks are corrected."""
    same = make_supernet(supernet.family, SharingSpec(correction="least-squares"))
    same.load_state_dict(supernet.state_dict())
    return same.eval()


def _accuracy(network: nn.Module, own: ValueTask) -> float:
    return 100 * float(correct(network, own, own.test).float().mean())


if __name__ == "__main__":
    typer.run(main)
