"""Mixture-of-supernets compared with plain sharing: the gap between shared and individually trained networks.

    python -m tests.benchmarks.supernets.mixture [--work FOLDER] [--seeds 5] [--epochs 8] [--json]
    python -m tests.benchmarks.supernets.mixture --time-only [--json]

Method. A vision transformer for Fashion-MNIST whose widths, heads and MLPs span 8 x (16 patches of 7 x 7 pixels, 3 blocks),
trained on 10,000 images in batches of 128 by the sandwich rule with labels only (largest, smallest and one random network per
step), with four kinds of sharing; the MLPs are mixed, as in the paper (Jawahar et al. 2023, arXiv 2306.04845):
  plain      slices of one set of tensors
  layer      2 experts, mixed by one weight each for a whole block
  neuron     2 experts, mixed by weights per output
  constant   as neuron, but its routers see 0.5 instead of the architecture: a control with the same tensors
12 networks spread over the costs are scored on the 10,000 images of the test part, and each is also trained individually with
the same images, steps and schedule. The gap is the mean over the 12 of individual minus shared accuracy, in points; its error
is the standard error over the seeds. Power check: with plain sharing the gap must exceed two errors, or the comparison is
meaningless. Each kind is compared with plain seed by seed. Training times are CPU seconds of the same process, as ratios.

`--time-only` compares only the times, in a minute: a few steps of each kind in turns, medians and quartiles over the rounds
of the ratio to plain in the same round.

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

from supernets.families.vit.family import ViTFamily
from supernets.families.vit.spec import ViTSpec
from supernets.sharing.spec import MixtureSpec, SharingSpec
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.training_loop import Loop, TrainingSettings
from tests.benchmarks.supernets.study import Study, console, fashion_mnist, spread
from tests.benchmarks.supernets.turns import seconds_in_turns

IMAGES, NETWORKS, SAMPLED = 10_000, 12, 500
STEPS, ROUNDS = 4, 30
"""For the times only: steps of each kind per round, and rounds."""
SPEC = ViTSpec(patch=7, head_size=8, depth=(3,), width=(8, 16, 32, 64), heads=(1, 2, 4, 8), mlp=(0.5, 1, 2, 4))
MIXED = ("*.mlp.*",)
WAYS = {
    "plain": SharingSpec(),
    "layer": SharingSpec(mixture=MixtureSpec(experts=2, routing="layer", layers=MIXED)),
    "neuron": SharingSpec(mixture=MixtureSpec(experts=2, routing="neuron", layers=MIXED)),
    "constant": SharingSpec(mixture=MixtureSpec(experts=2, routing="neuron", layers=MIXED, constant_input=True)),
}


def main(
    work: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/bench-mixture"),
    seeds: int = 5,
    epochs: int = 8,
    time_only: Annotated[
        bool, typer.Option("--time-only", help="Train a few steps alone, and print their time.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trains what is missing and prints the comparison."""
    torch.set_num_threads(1)
    settings = TrainingSettings(epochs=epochs, batch_size=128, learning_rate=0.003)
    family = ViTFamily(SPEC, image_size=28, channels=1, n_classes=10)
    if time_only:
        ratios = time_ratios(family, settings)
        print(json.dumps(ratios, indent=1)) if as_json else _show_times(ratios)
        return
    study = Study(work, fashion_mnist(IMAGES), settings)
    rng = np.random.default_rng(0)
    sampled = list({family.space.sample(rng): None for _ in range(SAMPLED)})
    macs = make_supernet(family).costs(sampled).macs.sum(axis=1)
    networks = [sampled[i] for i in spread(macs, NETWORKS)]
    gaps: dict[str, list[float]] = {way: [] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    separate = []
    for seed in range(seeds):
        alone = np.array(
            [study.alone(f"alone {a.key} seed {seed}", family, a, seed=seed).accuracies[0] for a in networks]
        )
        separate.append(float(alone.mean()))
        for way, sharing in WAYS.items():
            torch.manual_seed(seed)
            supernet = make_supernet(family, sharing)
            strategy = SandwichStrategy(family.space, 1, "none")
            found = study.trained(f"{way} seed {seed}", supernet, strategy, networks, seed=seed)
            gaps[way].append(100 * float((alone - found.accuracies).mean()))
            seconds[way].append(found.seconds)
    report = {
        "networks": NETWORKS,
        "macs": [int(macs.min()), int(macs.max())],
        "separate": separate,
        "cpu_minutes": study.cpu_seconds / 60,
        "ways": {
            way: {
                "gaps": gaps[way],
                "less_than_plain": (np.array(gaps["plain"]) - np.array(gaps[way])).tolist(),
                "time_ratio": float(np.median(np.array(seconds[way]) / np.array(seconds["plain"]))),
            }
            for way in WAYS
        },
    }
    print(json.dumps(report, indent=1)) if as_json else _show(report)


def time_ratios(family: ViTFamily, settings: TrainingSettings) -> dict[str, list[float]]:
    """Training time over that of plain sharing: lower quartile, median and upper quartile over the rounds."""
    images = fashion_mnist(settings.batch_size * STEPS).train
    loops = {}
    for way, sharing in WAYS.items():
        torch.manual_seed(0)
        strategy = SandwichStrategy(family.space, 1, "none")
        loops[way] = (Loop(make_supernet(family, sharing), images, strategy, settings), 1)
    seconds = seconds_in_turns(loops, ROUNDS)
    return {way: np.quantile(own / seconds["plain"], [0.25, 0.5, 0.75]).tolist() for way, own in seconds.items()}


def _show_times(ratios: dict[str, list[float]]) -> None:
    table = Table("sharing", "training time over plain", "quartiles")
    for way, (low, median, high) in ratios.items():
        table.add_row(way, f"{median:.2f}", f"{low:.2f} to {high:.2f}")
    console.print(table)


def _with_error(values: list[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.2f} ± {error:.2f}"


def _show(report: dict[str, Any]) -> None:
    table = Table(
        "sharing", "gap, points", "gap by seed", "less than plain", "seeds with less", "training time over plain"
    )
    for way, values in report["ways"].items():
        less = values["less_than_plain"]
        table.add_row(
            way, _with_error(values["gaps"]), " ".join(f"{gap:.2f}" for gap in values["gaps"]),
            "" if way == "plain" else _with_error(less),
            "" if way == "plain" else f"{sum(x > 0 for x in less)} of {len(less)}", f"{values['time_ratio']:.2f}",
        )  # fmt: skip
    low, high = report["macs"]
    console.print(table)
    console.print(
        f"mean accuracy of the {report['networks']} networks by themselves {100 * np.mean(report['separate']):.2f} %; "
        f"the space's MACs {low / 1e6:.2f} to {high / 1e6:.2f} M; {report['cpu_minutes']:.0f} CPU minutes in all"
    )


if __name__ == "__main__":
    typer.run(main)
