"""Training of a supernet: seeded, with a checkpoint after every epoch, and exactly resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supernets.base import Supernet, TrainingStrategy
from supernets.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint
from supernets.data import DataSet, Part, by_length, head
from supernets.errors import CheckpointError
from supernets.gradients import ALONE, CPU, Reduction
from supernets.recalibration import recalibrate
from supernets.space import Architecture
from supernets.training_loop import Loop, TrainingSettings

_SHOWN_VALIDATION_IMAGES = 2000
"""For progress display (standard error about 0.7 points at 90 %)."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The results of one epoch.

    Attributes:
        loss: mean over steps of the first pass's loss (with the sandwich, the largest subnet's), or of all passes of a step
            if each covers one micro-batch.
        largest, smallest: their accuracy on the first 2,000 validation images.
        largest_loss, smallest_loss: their cross-entropy on these; None where it is not finite.
        samples: training images seen so far, each counted once per epoch.
        best: the epoch with the best weights so far; None unless the training keeps the best ones.
    """

    epoch: int
    loss: float
    largest: float
    smallest: float
    samples: int
    seconds: float
    cpu_seconds: float
    best: int | None = None
    largest_loss: float | None = None
    smallest_loss: float | None = None


def train(
    supernet: Supernet,
    data: DataSet,
    strategy: TrainingStrategy,
    settings: TrainingSettings,
    folder: Path,
    *,
    teacher: nn.Module | None = None,
    device: torch.device = CPU,
    workers: Reduction = ALONE,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> str:
    """Trains the supernet in place, or resumes from the checkpoint in `folder`, and leaves it on the CPU.

    Args:
        teacher: a frozen network for strategies that distil from one; the teacher that a phase leaves replaces it.
        device: on an accelerator, forwards run in bfloat16.
        workers: all those that train together; each takes its share of every batch, and all need the same files.
        on_step: called by the first worker with the steps done, the total number of steps and the loss.

    Returns:
        The digest of the trained weights.

    Raises:
        CheckpointError: the folder has the checkpoint of another training.
        TrainingError: the loss is not finite (the previous epoch's checkpoint is kept), or a strategy distils from a frozen
            teacher and there is none.
    """
    torch.set_num_threads(settings.threads)
    checkpoint = load_checkpoint(folder) if has_checkpoint(folder) else None
    first, n_done, digest = workers.rank == 0, 0, ""
    if checkpoint is not None:
        _check_same_training(checkpoint.progress, checkpoint.supernet, supernet, data, settings, folder)
        supernet.sharing.load_state_dict(checkpoint.supernet.sharing.state_dict())
        n_done, digest = len(checkpoint.progress["history"]), checkpoint.weights_digest
    record = _Record.start(supernet, data, settings, folder, checkpoint) if first else None
    loop = Loop(supernet, data.train, strategy, settings, teacher=teacher, device=device, workers=workers)
    if checkpoint is not None:
        loop.resume(n_done, checkpoint.optimizer, checkpoint.teacher)
    for epoch in range(n_done + 1, settings.epochs + 1):
        started = time.perf_counter(), time.process_time()
        loss = loop.run_epoch(epoch, on_step if first else lambda step, steps, loss: None)
        if record is not None:
            done, digest = record.add(epoch, loss, loop, *started)
            on_epoch(done)
    supernet.cpu().eval()
    return digest


@dataclass
class _Record:
    """What the first worker records after each epoch: scores, the best weights, and a checkpoint in a folder."""

    supernet: Supernet
    data: DataSet
    settings: TrainingSettings
    folder: Path
    history: list[dict[str, Any]]
    best: _Best | None

    @classmethod
    def start(
        cls, supernet: Supernet, data: DataSet, settings: TrainingSettings, folder: Path, checkpoint: Checkpoint | None
    ) -> _Record:
        """The record of a new training, or of the one in a checkpoint."""
        history = [] if checkpoint is None else list(checkpoint.progress["history"])
        best = _Best.start(supernet, data, settings, checkpoint) if settings.keep == "best" else None
        return cls(supernet, data, settings, folder, history, best)

    def add(self, epoch: int, loss: float, loop: Loop, started: float, cpu_started: float) -> tuple[Epoch, str]:
        """Records an epoch that began at these times (wall and CPU); its results, and the digest of its weights."""
        (largest, largest_loss), (smallest, smallest_loss) = _shown_scores(self.supernet, self.data, self.settings)
        done = Epoch(
            epoch, loss, largest, smallest, epoch * len(self.data.train.labels),
            time.perf_counter() - started, time.process_time() - cpu_started,
            largest_loss=largest_loss, smallest_loss=smallest_loss,
        )  # fmt: skip
        finished = epoch == self.settings.epochs
        if self.best is not None:
            self.best.update(self.supernet, self.data, self.settings, epoch)
            done = replace(done, best=self.best.epoch)
            if finished:
                self.supernet.sharing.load_state_dict(dict(self.best.tensors))
        self.history.append(asdict(done))
        digest = save_checkpoint(
            self.folder,
            self.supernet,
            progress=self._progress(epoch),
            optimizer={} if finished else loop.optimizer_tensors(),
            teacher={} if finished else loop.own_teacher(),
            best={} if finished or self.best is None else self.best.tensors,
        )
        return done, digest

    def _progress(self, epoch: int) -> dict[str, Any]:
        best = self.best
        return {
            "epoch": epoch,
            "epochs": self.settings.epochs,
            "settings": asdict(self.settings),
            "data": {"name": self.data.name, "digest": self.data.train.digest},
            "torch": torch.__version__,
            "history": self.history,
            **({} if best is None else {"best": {"epoch": best.epoch, "accuracy": best.accuracy}}),
        }


@dataclass
class _Best:
    """The weights of the best epoch so far, and the largest network's validation accuracy with them."""

    epoch: int
    accuracy: float
    tensors: Mapping[str, Tensor]

    @classmethod
    def start(
        cls, supernet: Supernet, data: DataSet, settings: TrainingSettings, checkpoint: Checkpoint | None
    ) -> _Best:
        """The best weights in a checkpoint; without them, the supernet's current ones."""
        if checkpoint is not None and checkpoint.best:
            stored = checkpoint.progress["best"]
            return cls(stored["epoch"], stored["accuracy"], checkpoint.best)
        current = cls(0, -1.0, {})
        current.update(supernet, data, settings, 0 if checkpoint is None else checkpoint.progress["epoch"])
        return current

    def update(self, supernet: Supernet, data: DataSet, settings: TrainingSettings, epoch: int) -> None:
        """Keeps the supernet's weights if its largest network is the best so far."""
        accuracy, _ = _scores(supernet, supernet.space.largest, data, settings, data.validation)
        if accuracy > self.accuracy:
            self.epoch, self.accuracy = epoch, accuracy
            self.tensors = {name: tensor.cpu().clone() for name, tensor in supernet.sharing.state_dict().items()}


def steps_per_epoch(data: DataSet, settings: TrainingSettings) -> int:
    """Optimiser steps of one epoch."""
    return max(1, -(-len(data.train.labels) // settings.batch_size))


def time_training(
    supernet: Supernet,
    data: DataSet,
    strategy: TrainingStrategy,
    settings: TrainingSettings,
    *,
    teacher: nn.Module | None = None,
    device: torch.device = CPU,
    n: int,
    limit_s: float,
) -> tuple[list[float], float]:
    """Seconds of each of up to `n` training steps, and of the work after an epoch; writes no checkpoints.

    The steps change the supernet: pass one that is not needed. The first step, which allocates buffers, is not counted.

    Args:
        limit_s: start no step after this many seconds, except the first two.
    """
    torch.set_num_threads(settings.threads)
    few = head(data.train, 2 * settings.batch_size)
    if teacher is None:  # the strategy may distil from one that a phase leaves
        teacher = supernet.extract(supernet.space.largest)
    loop = Loop(supernet, few, strategy, settings, teacher=teacher, device=device)
    ends = [time.perf_counter()]

    def on_step(step: int, steps: int, loss: float) -> None:
        ends.append(time.perf_counter())

    epoch = 1
    while len(ends) < 3 or (len(ends) <= n and ends[-1] - ends[0] < limit_s):
        loop.run_epoch(epoch, on_step)
        epoch = epoch % settings.epochs + 1
    seconds = np.diff(ends)[1:].tolist()
    _shown_scores(supernet, data, settings)
    return seconds, time.perf_counter() - ends[-1]


def _check_same_training(
    progress: Any, stored: Supernet, supernet: Supernet, data: DataSet, settings: TrainingSettings, folder: Path
) -> None:
    compared: dict[str, tuple[Any, Any]] = {
        "space": (stored.family.to_json(), supernet.family.to_json()),
        "sharing": (stored.sharing.spec, supernet.sharing.spec),
        "training images": (progress["data"]["digest"], data.train.digest),
    }
    # Settings that the checkpoint's version lacked had their defaults.
    stored_settings = asdict(TrainingSettings(settings.epochs)) | progress["settings"]
    compared.update({name: (stored_settings[name], expected) for name, expected in asdict(settings).items()})
    for name, (found, expected) in compared.items():
        if found != expected:
            raise CheckpointError(
                f"{folder}: the checkpoint was trained with another {name}: {found}; the job has {expected}; use a new run",
                code="checkpoint.other-training",
            )


def _shown_scores(supernet: Supernet, data: DataSet, settings: TrainingSettings) -> list[tuple[float, float | None]]:
    """Of the largest and the smallest subnet, on the first validation images."""
    part, space = head(data.validation, _SHOWN_VALIDATION_IMAGES), supernet.space
    return [_scores(supernet, a, data, settings, part) for a in (space.largest, space.smallest)]


def _scores(
    supernet: Supernet, architecture: Architecture, data: DataSet, settings: TrainingSettings, part: Part
) -> tuple[float, float | None]:
    """Accuracy and cross-entropy of a subnet, the latter None where it is not finite."""
    images = head(data.train, settings.calibration_images)
    network = recalibrate(supernet.extract(architecture), images.split(250))
    hits, losses = predictions_and_losses(network, part)
    loss = losses.mean().item()
    return hits.float().mean().item(), loss if math.isfinite(loss) else None


def correct_predictions(module: nn.Module, part: Part, *, batch_size: int = 500) -> Tensor:
    """The first of `predictions_and_losses`."""
    return predictions_and_losses(module, part, batch_size=batch_size)[0]


@torch.no_grad()
def predictions_and_losses(module: nn.Module, part: Part, *, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """Whether the network's largest output is the label's, and the cross-entropy, (n,) each, in the part's order.

    Args:
        module: an extracted, recalibrated one; set to eval mode.
    """
    module.eval()
    hits, losses = torch.zeros(len(part), dtype=torch.bool), torch.zeros(len(part))
    for chosen, inputs in by_length(part, batch_size):
        logits = module(inputs)
        hits[chosen] = logits.argmax(1) == part.labels[chosen]
        losses[chosen] = nn.functional.cross_entropy(logits, part.labels[chosen], reduction="none")
    return hits, losses
