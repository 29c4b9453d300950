"""Trainings and accuracies of a benchmark, each stored when it ends, so that an interrupted benchmark continues."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from supernets.data import DataSet, head, load_data
from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import MOBILE_CNN
from supernets.families.resnet.family import ResNetFamily
from supernets.families.resnet.spec import RESNET
from supernets.families.single_network import SingleFamily
from supernets.families.vit.family import ViTFamily
from supernets.families.vit.spec import VIT
from supernets.sharing.base import Family, Supernet, TrainingStrategy
from supernets.sharing.chain import ChainSharing
from supernets.space import Architecture
from supernets.training.checkpoint import INDEX
from supernets.training.recalibration import recalibrate
from supernets.training.strategies.single_phase import SinglePathStrategy
from supernets.training.trainer import correct_predictions, train
from supernets.training.training_loop import TrainingSettings

CALIBRATION = 1000
console = Console(stderr=True)


@dataclass(frozen=True)
class Trained:
    """Test accuracies of a training's networks, in the requested order, and the cost of the training.

    Attributes:
        seconds: CPU seconds of all epochs, including those before an interruption.
    """

    accuracies: NDArray[np.float64]
    seconds: float


class Study:
    """The stored results of a benchmark.

    Args:
        folder: one JSON file for each training.
        data: the networks are trained on the training part and scored on the test part, which selects nothing.
    """

    def __init__(self, folder: Path, data: DataSet, settings: TrainingSettings) -> None:
        self.folder, self.data, self.settings = folder, data, settings
        self.cpu_seconds = 0.0
        """CPU seconds of all trainings and evaluations, including those of previous calls."""
        folder.mkdir(parents=True, exist_ok=True)

    def trained(
        self,
        name: str,
        supernet: Supernet,
        strategy: TrainingStrategy,
        architectures: Sequence[Architecture],
        *,
        statistics: Architecture | None = None,
        after: Callable[[Supernet], None] | None = None,
        **changes: Any,
    ) -> Trained:
        """Trains a supernet and scores these of its networks on the test part, each recalibrated.

        Args:
            name: of the training, unique in the study.
            supernet: untrained; trained in place unless the results are stored already.
            statistics: network whose batch-norm statistics all networks use instead of recalibrated ones.
            after: applied to the trained supernet before its networks are scored; its name is part of the key of the scores.
            changes: of the study's settings.
        """
        settings = replace(self.settings, **changes)
        family, sharing = supernet.family.to_json(), supernet.sharing.spec.to_json()
        about = {"settings": asdict(settings), "family": family, "sharing": sharing, "strategy": repr(strategy)}
        stamp = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        path = self.folder / f"{_file(name)}.json"
        suffix = ("" if statistics is None else f" as {statistics.key}") + (
            "" if after is None else f" {after.__name__}"
        )
        keys = [f"{a.key}{suffix}" for a in architectures]
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        digest = self.data.train.digest
        if (other := known.get("data", digest)) != digest:
            raise typer.BadParameter(
                f"{path} has values of other training images ({other}, not {digest}); name another folder by --work"
            )
        if known.get("stamp") != stamp:
            known = {"stamp": stamp, "accuracies": {}, "seconds": None, "scoring_seconds": 0.0}
        known["data"] = digest
        missing = [a for a, key in zip(architectures, keys, strict=True) if key not in known["accuracies"]]
        if missing:
            checkpoint = self.folder / f"{_file(name)}-{stamp}"
            self._train(supernet, strategy, settings, checkpoint, name)
            known["seconds"] = _seconds(checkpoint)
            started = time.process_time()
            if after is not None:
                after(supernet)
            stored = None if statistics is None else _statistics(supernet, statistics, self.data)
            for architecture in missing:
                key = keys[architectures.index(architecture)]
                known["accuracies"][key] = _accuracy(supernet, architecture, self.data, stored)
            known["scoring_seconds"] += time.process_time() - started
            _write(path, known)
        self.cpu_seconds += known["seconds"] + known["scoring_seconds"]
        return Trained(np.array([known["accuracies"][key] for key in keys]), known["seconds"])

    def alone(self, name: str, family: Family, architecture: Architecture, **changes: Any) -> Trained:
        """Trains one architecture individually, for the study's epochs, and scores it."""
        torch.manual_seed(changes.get("seed", self.settings.seed))
        own = SingleFamily(family, architecture)
        supernet = Supernet(own, ChainSharing(own))
        return self.trained(name, supernet, SinglePathStrategy(own.space), [own.space.largest], **changes)

    def _train(
        self, supernet: Supernet, strategy: TrainingStrategy, settings: TrainingSettings, folder: Path, name: str
    ) -> None:
        train(
            supernet, self.data, strategy, settings, folder,
            on_epoch=lambda e: console.print(
                f"{name}: epoch {e.epoch} of {settings.epochs}, validation {e.largest:.3f} largest, {e.smallest:.3f} "
                f"smallest, {e.cpu_seconds:.0f} CPU s", highlight=False,
            ),
        )  # fmt: skip


def _seconds(checkpoint: Path) -> float:
    """CPU seconds of the training that left a checkpoint, over all of its epochs."""
    epochs = json.loads((checkpoint / INDEX).read_text())["progress"]["history"]
    return float(sum(epoch["cpu_seconds"] for epoch in epochs))


def _accuracy(supernet: Supernet, architecture: Architecture, data: DataSet, statistics: Supernet | None) -> float:
    module = (statistics or supernet).extract(architecture)
    if statistics is None:
        recalibrate(module, head(data.train, CALIBRATION).split(250))
    return correct_predictions(module, data.test).float().mean().item()


def _statistics(supernet: Supernet, architecture: Architecture, data: DataSet) -> Supernet:
    """The supernet with the batch-norm statistics of one network, which smaller ones slice."""
    module = recalibrate(supernet.extract(architecture), head(data.train, CALIBRATION).split(250))
    stored = supernet.eval().weights(architecture)  # in eval mode buffers are views of the stored ones
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            stored[name].copy_(buffer)
    return supernet


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def fashion_mnist(n_train: int | None = None) -> DataSet:
    """Fashion-MNIST with 10,000 of its training images for validation, and the first `n_train` of the others."""
    data = load_data("fashion-mnist", validation=10_000, seed=0)
    return data if n_train is None else replace(data, train=head(data.train, n_train))


def family_of(name: str, preset: str) -> Family:
    """The family's preset, for Fashion-MNIST."""
    sizes = {"image_size": 28, "channels": 1, "n_classes": 10}
    match name:
        case "mobile-cnn":
            return MobileCNNFamily(MOBILE_CNN[preset], **sizes)
        case "resnet":
            return ResNetFamily(RESNET[preset], **sizes)
        case "vit":
            return ViTFamily(VIT[preset], **sizes)
        case _:
            raise typer.BadParameter(f"expected mobile-cnn, resnet or vit, got {name}")


def spread(costs: NDArray[np.int64], n: int) -> list[int]:
    """Indices of `n` networks whose costs are spread evenly by ratio, the smallest and the largest among them."""
    wanted = np.geomspace(costs.min(), costs.max(), n)
    chosen: list[int] = []
    for cost in wanted:
        order = np.argsort(np.abs(np.log(costs / cost)), kind="stable")
        chosen.append(next(int(i) for i in order if i not in chosen))
    return chosen
