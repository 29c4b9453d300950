"""Trains a supernet: seeded, checkpointed after every epoch, and exactly resumable from there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from supernets.base import Distillation, LabelLoss, Pass, Supernet, TrainingStrategy
from supernets.checkpoint import (
    has_checkpoint,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from supernets.data import DataSet, Part, augment, batches, head
from supernets.errors import CheckpointError, TrainingError
from supernets.recalibration import recalibrate
from supernets.scoring import correct_predictions
from supernets.space import Architecture

_WARM_UP_SHARE = 0.1
"""Share of the steps in which the learning rate rises (one-cycle schedule, Smith and Topin 2017, arXiv 1708.07120)."""
_SHOWN_VALIDATION_IMAGES = 2000
"""Enough for a progress display (standard error about 0.7 points at 90 %)."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a supernet is trained.

    Attributes:
        learning_rate: the peak of the one-cycle schedule.
        shift: pixels of random translation; 0 for none.
        flip: random horizontal flips.
        calibration_images: training images for batch-norm statistics.
        threads: torch's threads; the weights are bitwise repeatable for one count of them.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    shift: int = 0
    flip: bool = False
    calibration_images: int = 1000
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        loss: mean over steps of the first pass's loss (with the sandwich, the largest subnet's).
        largest, smallest: validation accuracy of the two on the first 2,000 validation images.
        samples: training images seen so far, once however many subnets saw them.
    """

    epoch: int
    loss: float
    largest: float
    smallest: float
    samples: int
    seconds: float
    cpu_seconds: float


def train(
    supernet: Supernet,
    data: DataSet,
    strategy: TrainingStrategy,
    settings: TrainingSettings,
    folder: Path,
    *,
    sharing: str,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> str:
    """Trains the supernet in place, going on from the checkpoint in `folder` where there is one.

    Args:
        on_step: called with the steps done, the steps in all and the loss.

    Returns:
        The digest of the trained weights.

    Raises:
        CheckpointError: the folder holds the checkpoint of another training.
        TrainingError: the loss is not finite.
    """
    torch.set_num_threads(settings.threads)
    named = list(supernet.sharing.named_parameters())
    optimizer = _optimizer(supernet, settings)
    names = [n for n, p in named if p.ndim > 1] + [n for n, p in named if p.ndim <= 1]
    history: list[dict[str, Any]] = []
    digest = ""
    if has_checkpoint(folder):
        checkpoint = load_checkpoint(folder)
        _check_same_training(checkpoint.progress, checkpoint.supernet, supernet, data, settings, folder)
        supernet.sharing.load_state_dict(checkpoint.supernet.sharing.state_dict())
        load_optimizer_tensors(optimizer, names, checkpoint.optimizer)
        history, digest = list(checkpoint.progress["history"]), checkpoint.weights_digest
    steps = settings.epochs * steps_an_epoch(data, settings)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = _run_epoch(supernet, data.train, strategy, settings, optimizer, epoch, steps, on_step)
        largest, smallest = (
            _shown_accuracy(supernet, a, data, settings) for a in (supernet.space.largest, supernet.space.smallest)
        )
        done = Epoch(
            epoch, loss, largest, smallest, epoch * len(data.train.labels),
            time.perf_counter() - started, time.process_time() - cpu_started,
        )  # fmt: skip
        history.append(asdict(done))
        progress = {
            "epoch": epoch,
            "epochs": settings.epochs,
            "settings": asdict(settings),
            "data": {"name": data.name, "digest": data.train.digest},
            "torch": torch.__version__,
            "history": history,
        }
        tensors = optimizer_tensors(optimizer, names) if epoch < settings.epochs else {}
        digest = save_checkpoint(folder, supernet, sharing=sharing, progress=progress, optimizer=tensors)
        on_epoch(done)
    supernet.eval()
    return digest


def steps_an_epoch(data: DataSet, settings: TrainingSettings) -> int:
    """Optimiser steps of one pass over the training part."""
    return max(1, -(-len(data.train.labels) // settings.batch_size))


def time_training(
    supernet: Supernet, data: DataSet, strategy: TrainingStrategy, settings: TrainingSettings, *, n: int, limit_s: float
) -> tuple[list[float], float]:
    """Seconds of each of up to `n` training steps, and of what follows an epoch; checkpoints are not written.

    The supernet is trained by them: give one that is not needed. The first step, which makes buffers, is not counted.

    Args:
        limit_s: no further step is begun after so many seconds; two are done whatever they take.
    """
    torch.set_num_threads(settings.threads)
    optimizer, steps = _optimizer(supernet, settings), settings.epochs * steps_an_epoch(data, settings)
    ends = [time.perf_counter()]

    def on_step(step: int, steps: int, loss: float) -> None:
        ends.append(time.perf_counter())

    few = head(data.train, 2 * settings.batch_size)
    epoch = 1
    while len(ends) < 3 or (len(ends) <= n and ends[-1] - ends[0] < limit_s):
        _run_epoch(supernet, few, strategy, settings, optimizer, epoch, steps, on_step)
        epoch = epoch % settings.epochs + 1
    seconds = np.diff(ends)[1:].tolist()
    for architecture in (supernet.space.largest, supernet.space.smallest):
        _shown_accuracy(supernet, architecture, data, settings)
    return seconds, time.perf_counter() - ends[-1]


def _optimizer(supernet: Supernet, settings: TrainingSettings) -> torch.optim.AdamW:
    named = list(supernet.sharing.named_parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )


def _check_same_training(
    progress: Any, stored: Supernet, supernet: Supernet, data: DataSet, settings: TrainingSettings, folder: Path
) -> None:
    if stored.family.to_json() != supernet.family.to_json():
        raise CheckpointError(f"{folder}: the checkpoint is of another space than the job's; use a new run")
    for what, came, expected in (
        ("data", progress["data"]["digest"], data.train.digest),
        ("training settings", progress["settings"], asdict(settings)),
    ):
        if came != expected:
            raise CheckpointError(
                f"{folder}: the checkpoint was trained with other {what}: {came}, the job has {expected}"
            )


def _run_epoch(
    supernet: Supernet,
    part: Part,
    strategy: TrainingStrategy,
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    steps: int,
    on_step: Callable[[int, int, float], None],
) -> float:
    """One pass over the data; returns the mean loss. All randomness comes from (seed, epoch): any epoch can be redone."""
    supernet.train()
    rng = np.random.default_rng([settings.seed, epoch])
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    step = (epoch - 1) * (steps // settings.epochs)
    total, count = 0.0, 0
    for images, labels in batches(part, settings.batch_size, generator=generator):
        for group in optimizer.param_groups:
            group["lr"] = _one_cycle(step, steps, settings.learning_rate)
        if settings.shift or settings.flip:
            images = augment(images, generator, flip=settings.flip, pad=settings.shift)
        optimizer.zero_grad(set_to_none=True)
        passes = strategy.plan(0, rng, lambda a, x=images, y=labels: _probe(supernet, a, x, y))  # type: ignore[misc]
        loss = _accumulate(supernet, passes, images, labels)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} in epoch {epoch}; lower training.learning_rate")
        optimizer.step()
        total, count, step = total + loss, count + 1, step + 1
        on_step(step, steps, loss)
    return total / max(1, count)


def _accumulate(supernet: Supernet, passes: Sequence[Pass], images: Tensor, labels: Tensor) -> float:
    """Adds up the gradients of a step's passes; returns the first one's loss."""
    taught_by = {term.teacher for p in passes for term in p.terms if isinstance(term, Distillation)}
    teachers: dict[int, Tensor] = {}
    first = 0.0
    for index, p in enumerate(passes):
        i, n = p.part
        x, y = images.tensor_split(n)[i], labels.tensor_split(n)[i]
        logits = supernet(x, p.architecture)
        loss = torch.zeros(())
        for term in p.terms:
            match term:
                case LabelLoss(weight):
                    loss = loss + weight * functional.cross_entropy(logits, y)
                case Distillation(teacher, weight):
                    assert teacher is not None
                    soft = teachers[teacher]
                    loss = loss + weight * functional.kl_div(
                        logits.log_softmax(1), soft, reduction="batchmean", log_target=True
                    )
        loss.backward()
        if index in taught_by:
            teachers[index] = logits.detach().log_softmax(1)
        if index == 0:
            first = loss.item()
    return first


@torch.no_grad()
def _probe(supernet: Supernet, architecture: Architecture, images: Tensor, labels: Tensor) -> float:
    return functional.cross_entropy(supernet(images, architecture), labels).item()


def _one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: a linear rise over the first tenth, then a cosine to zero."""
    rise = max(1, round(steps * _WARM_UP_SHARE))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _shown_accuracy(supernet: Supernet, architecture: Architecture, data: DataSet, settings: TrainingSettings) -> float:
    module = supernet.extract(architecture)
    recalibrate(module, head(data.train, settings.calibration_images).images.split(250))
    part = head(data.validation, _SHOWN_VALIDATION_IMAGES)
    return correct_predictions(module, part.images, part.labels).float().mean().item()
