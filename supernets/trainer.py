"""Trains a supernet: seeded, checkpointed after every epoch, and exactly resumable from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from supernets.base import Supernet, TrainingStrategy
from supernets.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint
from supernets.data import DataSet, head
from supernets.divergence import Divergence
from supernets.errors import CheckpointError
from supernets.loop import ALONE, CPU, Loop
from supernets.recalibration import recalibrate
from supernets.reduction import Reduction
from supernets.scoring import correct_predictions
from supernets.space import Architecture

_SHOWN_VALIDATION_IMAGES = 2000
"""Enough for a progress display (standard error about 0.7 points at 90 %)."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a supernet is trained.

    Attributes:
        learning_rate: the peak of the one-cycle schedule.
        divergence: what distillation makes small.
        shift: pixels of random translation; 0 for none.
        flip: random horizontal flips.
        calibration_images: training images for batch-norm statistics.
        keep: the weights that the training ends with: those of the last epoch, or of the one after which the largest network
            was best on the validation part, which may be the one before the first.
        threads: torch's threads; the weights are bitwise repeatable for one count of them.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    divergence: Divergence = "kl"
    shift: int = 0
    flip: bool = False
    calibration_images: int = 1000
    keep: Literal["last", "best"] = "last"
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        loss: mean over steps of the first pass's loss (with the sandwich, the largest subnet's); of all of a step's
            micro-batches where each pass sees one.
        largest, smallest: validation accuracy of the two on the first 2,000 validation images.
        samples: training images seen so far, once however many subnets saw them.
        best: the epoch whose weights are the best until now; None unless the training is to end with those.
    """

    epoch: int
    loss: float
    largest: float
    smallest: float
    samples: int
    seconds: float
    cpu_seconds: float
    best: int | None = None


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
    """Trains the supernet in place, going on from the checkpoint in `folder` where there is one; it ends on the CPU.

    Args:
        teacher: a frozen network for strategies that distil from one; a phase's own takes its place.
        device: what it is trained on; forwards run in bfloat16 where that is an accelerator.
        workers: those that train together, each on its share of every batch; all need the same files.
        on_step: called with the steps done, the steps in all and the loss; by the first worker alone.

    Returns:
        The digest of the trained weights.

    Raises:
        CheckpointError: the folder holds the checkpoint of another training.
        TrainingError: the loss is not finite; the checkpoint of the epoch before stays. Or a strategy distils from a frozen
            teacher and there is none.
    """
    torch.set_num_threads(settings.threads)
    history: list[dict[str, Any]] = []
    digest = ""
    checkpoint = load_checkpoint(folder) if has_checkpoint(folder) else None
    if checkpoint is not None:
        _check_same_training(checkpoint.progress, checkpoint.supernet, supernet, data, settings, folder)
        supernet.sharing.load_state_dict(checkpoint.supernet.sharing.state_dict())
        history, digest = list(checkpoint.progress["history"]), checkpoint.weights_digest
    best = _Best.start(supernet, data, settings, checkpoint) if settings.keep == "best" and workers.rank == 0 else None
    loop = Loop(supernet, data.train, strategy, settings, teacher=teacher, device=device, workers=workers)
    if checkpoint is not None:
        loop.resume(len(history), checkpoint.optimizer, checkpoint.teacher)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = loop.run_epoch(epoch, on_step if workers.rank == 0 else lambda step, steps, loss: None)
        if workers.rank > 0:
            continue
        largest, smallest = (
            _shown_accuracy(supernet, a, data, settings) for a in (supernet.space.largest, supernet.space.smallest)
        )
        done = Epoch(
            epoch, loss, largest, smallest, epoch * len(data.train.labels),
            time.perf_counter() - started, time.process_time() - cpu_started,
        )  # fmt: skip
        finished = epoch == settings.epochs
        if best is not None:
            best.look(supernet, data, settings, epoch)
            done = replace(done, best=best.epoch)
            if finished:
                supernet.sharing.load_state_dict(dict(best.tensors))
        history.append(asdict(done))
        progress = {
            "epoch": epoch,
            "epochs": settings.epochs,
            "settings": asdict(settings),
            "data": {"name": data.name, "digest": data.train.digest},
            "torch": torch.__version__,
            "history": history,
            **({} if best is None else {"best": {"epoch": best.epoch, "accuracy": best.accuracy}}),
        }
        digest = save_checkpoint(
            folder,
            supernet,
            progress=progress,
            optimizer={} if finished else loop.optimizer_tensors(),
            teacher={} if finished else loop.own_teacher(),
            best={} if finished or best is None else best.tensors,
        )
        on_epoch(done)
    supernet.cpu().eval()
    return digest


@dataclass
class _Best:
    """The weights of the best epoch until now, and the largest network's accuracy on the validation part then."""

    epoch: int
    accuracy: float
    tensors: Mapping[str, Tensor]

    @classmethod
    def start(
        cls, supernet: Supernet, data: DataSet, settings: TrainingSettings, checkpoint: Checkpoint | None
    ) -> _Best:
        """As a checkpoint has it; without one, the weights before the first epoch."""
        if checkpoint is not None and checkpoint.best:
            known = checkpoint.progress["best"]
            return cls(known["epoch"], known["accuracy"], checkpoint.best)
        found = cls(0, -1.0, {})
        found.look(supernet, data, settings, 0 if checkpoint is None else checkpoint.progress["epoch"])
        return found

    def look(self, supernet: Supernet, data: DataSet, settings: TrainingSettings, epoch: int) -> None:
        """Takes the supernet's weights if its largest network is better than ever."""
        network = _recalibrated(supernet, supernet.space.largest, data, settings)
        accuracy = correct_predictions(network, data.validation).float().mean().item()
        if accuracy > self.accuracy:
            self.epoch, self.accuracy = epoch, accuracy
            self.tensors = {name: tensor.cpu().clone() for name, tensor in supernet.sharing.state_dict().items()}


def steps_an_epoch(data: DataSet, settings: TrainingSettings) -> int:
    """Optimiser steps of one pass over the training part."""
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
    """Seconds of each of up to `n` training steps, and of what follows an epoch; checkpoints are not written.

    The supernet is trained by them: give one that is not needed. The first step, which makes buffers, is not counted.

    Args:
        limit_s: no further step is begun after so many seconds; two are done whatever they take.
    """
    torch.set_num_threads(settings.threads)
    few = head(data.train, 2 * settings.batch_size)
    stand_in = supernet.extract(supernet.space.largest)  # for the teacher that a phase would make
    loop = Loop(supernet, few, strategy, settings, teacher=teacher or stand_in, device=device)
    ends = [time.perf_counter()]

    def on_step(step: int, steps: int, loss: float) -> None:
        ends.append(time.perf_counter())

    epoch = 1
    while len(ends) < 3 or (len(ends) <= n and ends[-1] - ends[0] < limit_s):
        loop.run_epoch(epoch, on_step)
        epoch = epoch % settings.epochs + 1
    seconds = np.diff(ends)[1:].tolist()
    for architecture in (supernet.space.largest, supernet.space.smallest):
        _shown_accuracy(supernet, architecture, data, settings)
    return seconds, time.perf_counter() - ends[-1]


def _check_same_training(
    progress: Any, stored: Supernet, supernet: Supernet, data: DataSet, settings: TrainingSettings, folder: Path
) -> None:
    if stored.family.to_json() != supernet.family.to_json():
        raise CheckpointError(f"{folder}: the checkpoint is of another space than the job's; use a new run")
    if stored.sharing.spec != supernet.sharing.spec:
        raise CheckpointError(f"{folder}: the checkpoint shares its weights otherwise than the job; use a new run")
    if (came := progress["data"]["digest"]) != data.train.digest:
        raise CheckpointError(
            f"{folder}: the checkpoint was trained with other data: {came}, the job has {data.train.digest}"
        )
    # A setting that the version of the checkpoint did not know was at its default.
    stored_settings = asdict(TrainingSettings(settings.epochs)) | progress["settings"]
    for name, expected in asdict(settings).items():
        if stored_settings[name] != expected:
            raise CheckpointError(
                f"{folder}: the checkpoint was trained with other training settings: {name} {stored_settings[name]}, "
                f"the job has {expected}; use a new run"
            )


def _shown_accuracy(supernet: Supernet, architecture: Architecture, data: DataSet, settings: TrainingSettings) -> float:
    part = head(data.validation, _SHOWN_VALIDATION_IMAGES)
    return correct_predictions(_recalibrated(supernet, architecture, data, settings), part).float().mean().item()


def _recalibrated(
    supernet: Supernet, architecture: Architecture, data: DataSet, settings: TrainingSettings
) -> nn.Module:
    module = supernet.extract(architecture)
    return recalibrate(module, head(data.train, settings.calibration_images).split(250))
