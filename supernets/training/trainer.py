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

from supernets.data import BlockFormat, DataSet, Part, by_length, head
from supernets.errors import CheckpointError
from supernets.sharing.base import Supernet, TrainingStrategy
from supernets.space import Architecture
from supernets.tasks import CLASSIFICATION, Metric, Task
from supernets.training.checkpoint import FOUND, Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint
from supernets.training.gradients import ALONE, CPU, Reduction
from supernets.training.recalibration import Extraction
from supernets.training.training_loop import Loop, TrainingSettings

_GOLDEN = 0.618
"""Steps of this share of a whole visit all parts of it about as often, however many they are."""

_SHOWN_EXAMPLES, _SHOWN_TOKENS = 2000, 2**14
"""Size of the part of the validation data for progress display: standard errors of about 0.7 points at 90 %, and 2 % of a
perplexity."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The results of one epoch.

    Attributes:
        loss: mean over steps of the first pass's loss (with the sandwich, the largest subnet's), or of all passes of a step
            if each covers one micro-batch.
        largest, smallest: their value of the task's first metric (the accuracy) on the first 2,000 validation examples; on the
            first 16,384 tokens of texts.
        largest_loss, smallest_loss: their loss (the cross-entropy) on these; None where it is not finite.
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
    task: Task = CLASSIFICATION,
    teacher: nn.Module | None = None,
    device: torch.device = CPU,
    workers: Reduction = ALONE,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> str:
    """Trains the supernet in place, or resumes from the checkpoint in `folder`, and leaves it on the CPU.

    With no epochs, the checkpoint has the weights as they are.

    Args:
        supernet: The supernet, whose tensors are changed in place.
        data: Data set whose training part the weights learn from, and whose validation part the scores of epochs are of.
        strategy: Strategy that chooses the subnets of each step and their losses.
        settings: The hyperparameters; a checkpoint is resumed only by a training with equal ones.
        folder: Folder of the checkpoint, which is replaced after every epoch; it is created if it is missing.
        task: The task, fitted to the data.
        teacher: a frozen network for strategies that distil from one; the teacher that a phase leaves replaces it.
        device: on an accelerator, forwards run in bfloat16.
        workers: All workers that train together; each takes its share of every batch, and all need the same files.
        on_step: called by the first worker with the steps done, the total number of steps and the loss.
        on_epoch: called by the first worker after each epoch's checkpoint, with the epoch's results.

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
    if settings.epochs == 0:
        supernet.cpu().eval()
        progress = _Record(_Scoring(supernet, data, settings, task), folder, [], None).progress(0)
        return digest or save_checkpoint(folder, supernet, progress=progress, optimizer={})
    loop = Loop(supernet, data.train, strategy, settings, teacher=teacher, device=device, workers=workers, task=task)
    if checkpoint is not None:
        loop.resume(n_done, checkpoint.optimizer, checkpoint.teacher)
    if n_done < settings.epochs:
        loop.begin(n_done + 1)  # before the best weights are kept: those that are not trained are sorted in place
    scoring, unchanged = _Scoring(supernet, data, settings, task), loop.unchanged
    record = _Record.start(scoring, folder, checkpoint, unchanged) if first else None
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
    """The record of the first worker after each epoch: scores, the best weights, and a checkpoint in a folder."""

    scoring: _Scoring
    folder: Path
    history: list[dict[str, Any]]
    best: _Best | None

    @classmethod
    def start(
        cls, scoring: _Scoring, folder: Path, checkpoint: Checkpoint | None, unchanged: frozenset[str]
    ) -> _Record:
        """The record of a new training, or of the one in a checkpoint."""
        history = [] if checkpoint is None else list(checkpoint.progress["history"])
        best = _Best.start(scoring, checkpoint, unchanged) if scoring.settings.keep == "best" else None
        return cls(scoring, folder, history, best)

    def add(self, epoch: int, loss: float, loop: Loop, started: float, cpu_started: float) -> tuple[Epoch, str]:
        """Records an epoch that began at these times (wall and CPU); its results, and the digest of its weights."""
        supernet, data, settings = self.scoring.supernet, self.scoring.data, self.scoring.settings
        (largest, largest_loss), (smallest, smallest_loss) = self.scoring.shown()
        done = Epoch(
            epoch,
            loss,
            largest,
            smallest,
            epoch * len(data.train.labels),
            time.perf_counter() - started,
            time.process_time() - cpu_started,
            largest_loss=largest_loss,
            smallest_loss=smallest_loss,
        )
        finished = epoch == settings.epochs
        if self.best is not None:
            self.best.update(self.scoring, epoch)
            done = replace(done, best=self.best.epoch)
            if finished:
                supernet.sharing.load_state_dict({**supernet.sharing.state_dict(), **self.best.tensors})
        self.history.append(asdict(done))
        digest = save_checkpoint(
            self.folder,
            supernet,
            progress=self.progress(epoch, loop.found()),
            optimizer={} if finished else loop.optimizer_tensors(),
            teacher={} if finished else loop.own_teacher(),
            best={} if finished or self.best is None else self.best.tensors,
        )
        return done, digest

    def progress(self, epoch: int, network: Architecture | None = None) -> dict[str, Any]:
        """The record of a checkpoint after an epoch, with the network that the strategy has found."""
        best, data, settings = self.best, self.scoring.data, self.scoring.settings
        return {
            "epoch": epoch,
            "epochs": settings.epochs,
            "settings": asdict(settings),
            "data": {"name": data.name, "digest": data.train.digest},
            "torch": torch.__version__,
            "history": self.history,
            **({} if network is None else {FOUND: network.key}),
            **({} if best is None else {"best": {"epoch": best.epoch, self.scoring.metric.name: best.value}}),
        }


@dataclass(frozen=True)
class _Scoring:
    """Scores subnets of a supernet in training by the task's first metric."""

    supernet: Supernet
    data: DataSet
    settings: TrainingSettings
    task: Task

    @property
    def metric(self) -> Metric:
        """The task's first metric."""
        return self.task.metrics[0]

    def shown(self) -> list[tuple[float, float | None]]:
        """Metric and loss of the largest and of the smallest subnet, on the first validation examples."""
        format, space = self.data.format, self.supernet.space
        n = max(1, _SHOWN_TOKENS // format.block) if isinstance(format, BlockFormat) else _SHOWN_EXAMPLES
        part = head(self.data.validation, n)
        return [self.score(architecture, part) for architecture in (space.largest, space.smallest)]

    def score(self, architecture: Architecture, part: Part) -> tuple[float, float | None]:
        """Metric and loss of a subnet, the latter None where it is not finite."""
        images = head(self.data.train, self.settings.calibration_images)
        network = Extraction(self.supernet, images.split(250))(architecture)
        value, loss = score_and_loss(network, part, self.task)
        return value, loss if math.isfinite(loss) else None


@dataclass
class _Best:
    """The weights of the best epoch so far, without those that are `unchanged`, and the largest network's value with them."""

    epoch: int
    value: float
    tensors: Mapping[str, Tensor]
    unchanged: frozenset[str]

    @classmethod
    def start(cls, scoring: _Scoring, checkpoint: Checkpoint | None, unchanged: frozenset[str]) -> _Best:
        """The best weights in a checkpoint; without them, the supernet's current ones."""
        metric = scoring.metric
        if checkpoint is not None and checkpoint.best:
            stored = checkpoint.progress["best"]
            return cls(stored["epoch"], stored[metric.name], checkpoint.best, unchanged)
        current = cls(0, -math.inf if metric.maximize else math.inf, {}, unchanged)
        current.update(scoring, 0 if checkpoint is None else checkpoint.progress["epoch"])
        return current

    def update(self, scoring: _Scoring, epoch: int) -> None:
        """Keeps the supernet's weights if its largest network is the best so far."""
        supernet, metric = scoring.supernet, scoring.metric
        value, _ = scoring.score(supernet.space.largest, scoring.data.validation)
        if (value > self.value) if metric.maximize else (value < self.value):
            self.epoch, self.value = epoch, value
            tensors = supernet.sharing.state_dict().items()
            self.tensors = {name: tensor.cpu().clone() for name, tensor in tensors if name not in self.unchanged}


def steps_per_epoch(data: DataSet, settings: TrainingSettings) -> int:
    """Optimiser steps of one epoch."""
    return max(1, -(-len(data.train.labels) // settings.batch_size))


def time_training(
    supernet: Supernet,
    data: DataSet,
    strategy: TrainingStrategy,
    settings: TrainingSettings,
    *,
    task: Task = CLASSIFICATION,
    teacher: nn.Module | None = None,
    device: torch.device = CPU,
    n: int,
    limit_s: float,
) -> tuple[list[float], float]:
    """Seconds of each of up to `n` training steps, and of the work after an epoch; writes no checkpoints.

    The steps change the supernet: pass one that is not needed. Of an epoch's two steps the first is not counted, because it may
    allocate buffers; but where the second has fewer examples, both are.

    Args:
        limit_s: begin no epoch of two steps after this many seconds, except the first two.
    """
    torch.set_num_threads(settings.threads)
    examples = head(data.train, 2 * settings.batch_size)
    if teacher is None:  # the strategy may distil from one that a phase leaves
        teacher = supernet.extract(supernet.space.largest)
    loop = Loop(supernet, examples, strategy, settings, teacher=teacher, device=device, task=task)
    started, position, seconds = time.perf_counter(), 0.0, list[float]()
    while len(seconds) < 2 or (len(seconds) < n and time.perf_counter() - started < limit_s):
        step_seconds = _step_seconds(loop, 1 + int(position * settings.epochs))
        seconds += step_seconds if len(examples) < 2 * settings.batch_size else step_seconds[1:]
        position = (position + _GOLDEN) % 1  # spread over all phases, however many epochs are run
    started = time.perf_counter()
    _Scoring(supernet, data, settings, task).shown()
    return seconds, time.perf_counter() - started


def _step_seconds(loop: Loop, epoch: int) -> list[float]:
    loop.begin(epoch)
    ends = [time.perf_counter()]
    loop.run_epoch(epoch, lambda step, steps, loss: ends.append(time.perf_counter()))
    return np.diff(ends).tolist()


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
    for name, (recorded, expected) in compared.items():
        if recorded != expected:
            raise CheckpointError(
                f"{folder}: the checkpoint was trained with another {name}: {recorded}; the job has {expected}; use a new run",
                code="checkpoint.other-training",
            )


def score_and_loss(module: nn.Module, part: Part, task: Task) -> tuple[float, float]:
    """The value of the task's first metric, in single precision, and the mean loss; see `outputs_of`."""
    part = task.examples(task.metrics[0].name, part)
    outputs = outputs_of(task.scored(module), part, batch_size=5 * task.scored_together)
    score = task.score(task.metrics[0].name, outputs.numpy(), part.labels.numpy())
    loss = _loss(module, part, task) if task.decodes else task.losses(outputs, part.labels).mean().item()
    return float(np.float32(score.value)), loss


@torch.no_grad()
def _loss(module: nn.Module, part: Part, task: Task) -> float:
    """The mean loss of a network's own outputs, of which no more are held than those of a batch."""
    module.eval()
    size = task.scored_together
    losses = [
        task.losses(module(inputs), y) for inputs, y in zip(part.split(size), part.labels.split(size), strict=True)
    ]
    return torch.cat(losses).mean().item()


@torch.no_grad()
def outputs_of(module: nn.Module, part: Part, *, batch_size: int = 500) -> Tensor:
    """The outputs of a network to every example of a part, (n, ...), in the part's order.

    Args:
        module: An extracted, recalibrated network; set to eval mode.
    """
    module.eval()
    all_outputs: Tensor | None = None
    for chosen, inputs in by_length(part, batch_size):
        outputs = module(inputs)
        if all_outputs is None:
            all_outputs = outputs.new_zeros(len(part), *outputs.shape[1:])
        all_outputs[chosen] = outputs
    if all_outputs is None:
        raise ValueError("a part has at least one example")
    return all_outputs
